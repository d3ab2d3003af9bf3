"""`make check-config`: planted mistakes are found, each with its way out, and good configurations pass."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from functions.check_config import ROOT, Bounds, known_settings, main, read_bounds
from shared.media.obstore_calls import OPERATION_TIMEOUT_S
from shared.settings.settings import Settings

KEY, OTHER = "AIzaSyTheFirstKeyOfTheTests", "AIzaSyTheSecondKeyOfTheTests"
ADMIN = "ADMIN_API_KEY=an-admin-key-of-24-chars\n"
TFVARS = 'project_id = "my-project-123456"\nregion = "us-central1"\n'

MISTAKES = {
    "unknown name": (".env", f"{ADMIN}GEMINI_TEIR=free", ["GEMINI_TEIR", "did you mean GEMINI_TIER"]),
    "unknown name without a close one": (".env", f"{ADMIN}FROBNICATE_ALL=1", ["FROBNICATE_ALL is not a setting", "remove"]),
    "tier without numbers": (".env", f"{ADMIN}GEMINI_TIER=tier3", ["GEMINI_RPM", "must be set"]),
    "unknown tier": (".env", f"{ADMIN}GEMINI_TIER=gold", ["GEMINI_TIER is 'gold'", "one of"]),
    "two keys that may be one project": (
        ".env",
        f"{ADMIN}GEMINI_API_KEY_1={KEY}\nGEMINI_API_KEY_2={OTHER}",
        ["GEMINI_API_KEY_1 and GEMINI_API_KEY_2", "set GEMINI_API_KEY_1_PROJECT"],
    ),
    "several keys in one": (".env", f"{ADMIN}GEMINI_API_KEY={KEY},{OTHER}", ["holds 2 keys", "GEMINI_API_KEY_1"]),
    "placeholder": (".env", f"{ADMIN}GEMINI_API_KEY=your-api-key", ["GEMINI_API_KEY is the placeholder", "real key"]),
    "nobody may use the keys": (".env", f"GEMINI_API_KEY={KEY}", ["ADMIN_API_KEY is not set", "openssl rand"]),
    "short admin key": (".env", "ADMIN_API_KEY=short", ["fewer than 16 characters", "openssl rand"]),
    "retired default model": (
        ".env", f"{ADMIN}GEMINI_MODEL_TYPE=gemini-2.0-flash", ["gemini-2.0-flash", "shut down", "gemini-3.5-flash-lite"],
    ),
    "limits of a retired model": (
        ".env", f"{ADMIN}GEMINI_LIMITS='{{\"gemini-1.5-pro\": {{\"rpm\": 5}}}}'", ["GEMINI_LIMITS names gemini-1.5-pro", "name "],
    ),
    "image model as default": (
        ".env", f"{ADMIN}GEMINI_MODEL_TYPE=gemini-3-pro-image", ["GEMINI_MODEL_TYPE", "returns text"],
    ),
    "request longer than the function": (
        ".env", f"{ADMIN}REQUEST_TIMEOUT_SECONDS=600", ["REQUEST_TIMEOUT_SECONDS is 600", "chat after", "endpoint.json"],
    ),
    "queue longer than the request": (
        ".env", f"{ADMIN}QUEUE_TIMEOUT_SECONDS=125", ["QUEUE_TIMEOUT_SECONDS is 125", "lower it"],
    ),
    "anonymous function that asks for a credential": (
        ".env", f"{ADMIN}ALLOW_ANONYMOUS=chat", ["ALLOW_ANONYMOUS names chat", "name only"],
    ),
    "too many instances": (
        "terraform.tfvars",
        f"{TFVARS}functions = {{ chat = {{ max_instances = 30 }}, generate = {{ max_instances = 20 }} }}",
        ["more than the 40", "lower that of chat (30)"],
    ),
    "unknown function": (
        "terraform.tfvars",
        f"{TFVARS}functions = {{ chats = {{ memory_mb = 512 }} }}",
        ["functions has chats", "did you mean chat"],
    ),
    "unknown variable": (
        "terraform.tfvars", f'{TFVARS}domains = "a.example"', ["domains is not a variable", "did you mean domain"],
    ),
    "setting of Terraform's": (
        "terraform.tfvars", f'{TFVARS}settings = {{ LEDGER_URL = "memory://" }}', ["settings has LEDGER_URL", "remove it"],
    ),
    "setting of the restart": (
        "terraform.tfvars", f'{TFVARS}settings = {{ RESTARTED_AT = "now" }}', ["settings has RESTARTED_AT", "remove it"],
    ),
    "credential in plain sight": (
        "terraform.tfvars",
        f'{TFVARS}settings = {{ HTTPS_PROXY = "http://user:password@proxy.example.com" }}',
        ["settings has HTTPS_PROXY", "name it in secret_settings"],
    ),
    "data key in plain sight": (
        "terraform.tfvars",
        f'{TFVARS}settings = {{ ACCOUNTS_DATA_KEY = "{KEY}" }}',
        ["settings has ACCOUNTS_DATA_KEY", "name it in secret_settings"],
    ),
    "data key that is too short": (
        ".env", f"{ADMIN}ACCOUNTS_DATA_KEY=c2hvcnQ=", ["ACCOUNTS_DATA_KEY", "openssl rand -base64 32"],
    ),
    "key in plain sight": (
        "terraform.tfvars", f'{TFVARS}settings = {{ GEMINI_API_KEY = "{KEY}" }}', ["settings has GEMINI_API_KEY", "is a secret"],
    ),
    "setting of the local server": (
        "terraform.tfvars", f'{TFVARS}settings = {{ PORT = "8080" }}', ["settings has PORT", "only the local server"],
    ),
    "nameless projects": (
        "terraform.tfvars",
        f"{TFVARS}gemini_api_keys = {{ GEMINI_API_KEY_1 = null, GEMINI_API_KEY_2 = null }}",
        ["GEMINI_API_KEY_1 and GEMINI_API_KEY_2", "name its project in gemini_api_keys"],
    ),
}  # fmt: skip
"""What is planted -> the file, its text, and words of the one problem that must be printed."""

GOOD = {
    "nothing but an admin key": (".env", ADMIN),
    "two keys of two projects": (
        ".env",
        f"{ADMIN}GEMINI_API_KEY_1={KEY}\nGEMINI_API_KEY_1_PROJECT=one\nGEMINI_API_KEY_2={OTHER}\nGEMINI_API_KEY_2_PROJECT=two",
    ),
    "tier with its numbers": (".env", f"{ADMIN}GEMINI_TIER=tier3\nGEMINI_RPM=2000\nGEMINI_TPM=unlimited\nGEMINI_RPD=unlimited"),
    "the least for Terraform": ("terraform.tfvars", TFVARS),
    "everything for Terraform": ("terraform.tfvars", None),
}  # fmt: skip


def checked(folder: Path, name: str, text: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, list[str]]:
    """The exit status, and the problems."""
    file = folder / name
    file.write_text(text)
    status = main([str(file)])
    return status, capsys.readouterr().out.splitlines()[:-1]


@pytest.mark.parametrize("planted", MISTAKES)
def test_a_planted_mistake_is_found(planted: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name, text, words = MISTAKES[planted]
    status, problems = checked(tmp_path, name, text, capsys)
    assert status == 1
    assert any(all(word in problem for word in words) for problem in problems), problems
    assert KEY not in "".join(problems)


@pytest.mark.parametrize("good", GOOD)
def test_a_good_configuration_has_no_problem(good: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name, text = GOOD[good]
    if text is None:
        text = (
            (ROOT / "terraform/tests/everything.tfvars")
            .read_text()
            .replace("GEMINI_API_KEY_2 = null", 'GEMINI_API_KEY_2 = "two"')
        )
    assert checked(tmp_path, name, text, capsys) == (0, [])


def test_all_mistakes_are_listed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = f"{ADMIN}GEMINI_TIER=gold\nPORT=x\nGEMINI_RPM=-1\nGEMINI_TEIR=1"
    _, problems = checked(tmp_path, ".env", text, capsys)
    assert sorted(problem.split()[0] for problem in problems) == ["GEMINI_RPM", "GEMINI_TEIR", "GEMINI_TIER", "PORT"]


def test_what_cannot_be_read_is_status_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path / "none.env")]) == 2
    assert "There is no file" in capsys.readouterr().err
    (tmp_path / "x.tfvars").write_text("project_id = = 1")
    assert main([str(tmp_path / "x.tfvars")]) == 2
    assert "cannot be read" in capsys.readouterr().err


def test_every_documented_setting_is_known() -> None:
    """.env.example names every setting."""
    lines = (ROOT / ".env.example").read_text().splitlines()
    documented = {line.removeprefix("#").partition("=")[0] for line in lines if line[1:2].isupper() and "=" in line}
    keys = {name for name in documented if name.startswith("GEMINI_API_KEY_")}
    assert documented - keys - known_settings() == set()


def test_bounds_agree_with_what_they_repeat() -> None:
    """Terraform and check-config read one file; these two of its numbers come from the code."""
    bounds = read_bounds()
    assert bounds.request_timeout_s == Settings.from_environment({}).request_timeout_s
    assert bounds.store_s == OPERATION_TIMEOUT_S + bounds.answer_s


def test_terraform_reads_the_bounds_and_repeats_none() -> None:
    """A number that is written beside the file could differ from it."""
    text = (ROOT / "terraform/functions.tf").read_text() + (ROOT / "terraform/firestore.tf").read_text()
    names = [*Bounds.__dataclass_fields__, *(f"max_instances.{kind}" for kind in read_bounds().max_instances)]
    assert [name for name in names if not re.search(rf"local\.bounds\.{name}\b", text)] == []
