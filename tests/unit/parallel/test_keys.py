"""The keys of a program: where they are found, and what a manager says of them."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from gemini_parallel import AdvancedApiKeyManager, GeminiParallelProcessor
from gemini_parallel.keys import read_keys
from gemini_parallel.ledger_place import default_ledger_url

KEY, OTHER = "AQ.first-key-of-the-tests", "AQ.second-key-of-the-tests"


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No key and no file of this machine."""
    for name in ("GEMINI_API_KEY", "GOOGLE_API_KEY", "LEDGER_URL", "ADMIN_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    (tmp_path / "project" / "scripts").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "project" / "scripts")


def test_keys_are_read_from_a_file_above(tmp_path: Path) -> None:
    (tmp_path / "project" / ".env").write_text(f'KEY_A={KEY}\nexport KEY_B="{OTHER}"\n')
    manager = AdvancedApiKeyManager(["KEY_A", "KEY_B", "KEY_C"])
    assert list(manager.keys.found) == ["KEY_A", "KEY_B"]
    assert manager.keys.found["KEY_B"].secret.reveal() == OTHER


def test_the_environment_comes_before_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "project" / ".env").write_text(f"KEY_A={KEY}\n")
    monkeypatch.setenv("KEY_A", OTHER)
    assert AdvancedApiKeyManager("KEY_A").keys.found["KEY_A"].secret.reveal() == OTHER


def test_no_key_says_where_it_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="No valid API keys found") as raised:
        AdvancedApiKeyManager(["KEY_A", "KEY_B"])
    message = str(raised.value)
    assert "KEY_A, KEY_B" in message and str(tmp_path / "project" / "scripts") in message and str(tmp_path) in message


def test_a_wrong_key_fails_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its state says why, without the key."""
    monkeypatch.setenv("KEY_A", KEY)
    monkeypatch.setenv("KEY_B", "two words of a key")
    manager = AdvancedApiKeyManager(["KEY_A", "KEY_B"])
    summary = manager.get_keys_status_summary()
    manager.close()
    assert {name: entry["status"] for name, entry in summary.items()} == {"KEY_A": "AVAILABLE", "KEY_B": "FAILED_INIT"}
    assert summary["KEY_B"]["why"].startswith("Failed to initialize client: KEY_B")
    assert summary["KEY_A"]["exhausted_count"] == 0
    assert KEY not in repr(manager) + str(summary) and "two words" not in str(summary)


def test_only_wrong_keys_are_no_valid_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEY_A", "two words of a key")
    with pytest.raises(ValueError, match=r"No valid API keys found\. Failed to initialize client for KEY_A"):
        AdvancedApiKeyManager(["KEY_A"])


def test_keys_of_one_project_share_its_limits() -> None:
    keys = read_keys(["A", "B", "C"], {"A": KEY, "B": OTHER, "B_PROJECT": "my-project", "C": KEY})
    assert keys.found["B"].project == "my-project"
    assert keys.found["A"].project == keys.found["C"].project != "my-project"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("key_cooldown_seconds", -1),
        ("key_cooldown_seconds", "60"),
        ("exhausted_wait_seconds", 0),
        ("fully_exhausted_wait_seconds", float("nan")),
        ("max_exhausted_retries", 0),
    ],
)
def test_a_wrong_argument_is_named(monkeypatch: pytest.MonkeyPatch, name: str, value: object) -> None:
    monkeypatch.setenv("KEY_A", KEY)
    with pytest.raises(ValueError, match=f"{name} is "):
        AdvancedApiKeyManager(["KEY_A"], **{name: value})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_workers", 0),
        ("max_workers", 2.5),
        ("api_call_interval", -0.1),
        ("api_call_interval", "1"),
        ("model_name", ""),
    ],
)
def test_a_wrong_argument_of_a_processor_is_named(monkeypatch: pytest.MonkeyPatch, name: str, value: object) -> None:
    monkeypatch.setenv("KEY_A", KEY)
    with pytest.raises(ValueError, match=name):
        GeminiParallelProcessor(AdvancedApiKeyManager(["KEY_A"]), **{name: value})


def test_a_wrong_setting_of_the_environment_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEY_A", KEY)
    monkeypatch.setenv("GEMINI_RPM", "many")
    with pytest.raises(ValueError, match="GEMINI_RPM is 'many'"):
        AdvancedApiKeyManager(["KEY_A"])


def test_the_settings_are_those_of_the_constructor(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("KEY_A", KEY)
    settings = AdvancedApiKeyManager(["KEY_A"], 1, 2, 3, 4).settings
    assert (settings.accounts.key_cooldown_s, settings.accounts.exhausted_wait_s) == (1, 2)
    assert (settings.accounts.fully_exhausted_wait_s, settings.accounts.max_exhausted_retries) == (3, 4)
    assert settings.ledger_url == f"sqlite:///{tmp_path}/state/gemini_parallel/ledger.db"
    assert AdvancedApiKeyManager(["KEY_A"], ledger="memory://").settings.ledger_url == "memory://"


@pytest.mark.parametrize(
    ("platform", "environment", "url"),
    [
        ("linux", {"HOME": "/home/a"}, "sqlite:////home/a/.local/state/gemini_parallel/ledger.db"),
        ("linux", {"HOME": "/home/a", "XDG_STATE_HOME": "/s"}, "sqlite:////s/gemini_parallel/ledger.db"),
        ("darwin", {"HOME": "/Users/a"}, "sqlite:////Users/a/Library/Application Support/gemini_parallel/ledger.db"),
    ],
)
def test_one_ledger_for_all_programs_of_a_user(platform: str, environment: dict[str, str], url: str) -> None:
    assert default_ledger_url(environment, platform) == url


def test_importing_the_library_loads_nothing() -> None:
    import subprocess
    import sys

    code = (
        "import sys, gemini_parallel; from gemini_parallel import AdvancedApiKeyManager;"
        "print([m for m in ('aiohttp', 'shared.engine', 'pydantic', 'starlette', 'google.genai', 'rich') if m in sys.modules])"
    )
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert loaded.stdout.strip() == "[]"


def test_nothing_is_logged_to_a_programs_root(caplog: pytest.LogCaptureFixture) -> None:
    assert logging.getLogger("gemini_parallel").handlers == []
