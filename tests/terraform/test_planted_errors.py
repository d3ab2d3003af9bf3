"""Errors that somebody could make in the deployment, each planted: Terraform refuses it, or the plan is found wrong."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from shared.http.manifest import load_all
from tests.support.deployment import Deployment, problems
from tests.support.terraform import Finished, Terraform, given, stage
from tests.terraform.planted import Planted
from tests.terraform.planted_resources import RESOURCES
from tests.terraform.planted_rights import ORDERS, RIGHTS

SEEN_IN_THE_PLAN = [*ORDERS, *RIGHTS, *RESOURCES]


@pytest.fixture(scope="module")
def found(applied: Terraform, grown_checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """All of them are planted at once: none may hide another."""
    checkout = planted(grown_checkout, tmp_path_factory.mktemp("planted") / "checkout", *SEEN_IN_THE_PLAN)
    plan = applied.plan(checkout, "-var=deletion_protection=true")
    return problems(Deployment(plan, load_all(checkout / "functions")))


def planted(source: Path, target: Path, *errors: Planted) -> Path:
    checkout = stage(target)
    (checkout / "functions").unlink()
    shutil.copytree(source / "functions", checkout / "functions")
    for error in errors:
        error.into(checkout)
    return checkout


@pytest.mark.parametrize("error", SEEN_IN_THE_PLAN, ids=lambda error: error.name)
def test_the_plan_is_found_wrong(found: list[str], error: Planted) -> None:
    assert [problem for problem in found if re.match(error.told, problem)], found


NOT_VALID = [
    Planted(
        "an attribute that does not exist",
        "functions.tf",
        "available_memory    ",
        "available_ram    ",
        r"An argument named \"available_ram\" is not expected",
    ),
    Planted(
        "an attribute that is missing",
        "functions.tf",
        "  location    = var.region\n",
        "",
        r"\"location\" is required",
    ),
]


@pytest.fixture(scope="module")
def validated(applied: Terraform, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    checkout = stage(tmp_path_factory.mktemp("not_valid") / "checkout")
    for error in NOT_VALID:
        error.into(checkout)
    return applied.run(checkout, "validate", "-no-color")


@pytest.mark.parametrize("error", NOT_VALID, ids=lambda error: error.name)
def test_it_is_not_valid(validated: Finished, error: Planted) -> None:
    assert validated.status != 0
    assert re.search(error.told, validated.output), validated.error


PUBLIC_KEY = Planted(
    "a public function with a Gemini key",
    "functions.tf",
    "      secrets = setunion(contains(",
    "      secrets = setunion(keys(var.gemini_api_keys), contains(",
    r"health: a public function must not have GEMINI_API_KEY in its secrets",
)
REFUSED = [
    PUBLIC_KEY,
    Planted(
        "a value that is none of those allowed",
        "firestore.tf",
        '"OPTIMISTIC"',
        '"HOPEFUL"',
        r"expected concurrency_mode to be one of",
    ),
    Planted(
        "a name that the platform refuses",
        "functions.tf",
        '${replace(name, "_", "-")}',
        "${name}",
        r"invalid value for \w+: \"gemini-generate_text\"",
    ),
    Planted(
        "a second provider",
        "versions.tf",
        "  required_providers {\n",
        '  required_providers {\n    random = {\n      source = "hashicorp/random"\n    }\n',
        r"hashicorp/random",
    ),
    Planted(
        "defaults with more writers than the ledger takes",
        "bounds.json",
        '"many_requests": 2',
        '"many_requests": 9',
        r"The writing functions may have \d+ instances together, over 40",
    ),
    Planted(
        "a memory that is no number",
        "tests/everything.tfvars",
        "min_instances = 1",
        'memory_mb = "plenty"',
        r"a number is required",
    ),
]


@pytest.mark.parametrize("error", REFUSED, ids=lambda error: error.name)
def test_terraform_refuses_to_plan_it(offline: Path, applied: Terraform, tmp_path: Path, error: Planted) -> None:
    checkout = stage(tmp_path / "checkout")
    error.into(checkout)
    done = applied.run(checkout, "plan", *given("-refresh=false"))
    assert done.status != 0
    assert re.search(error.told, done.output), done.error


def test_a_public_function_with_a_key_is_found_wrong(applied: Terraform, tmp_path: Path) -> None:
    """Where Terraform's own precondition is missing too."""
    checkout = stage(tmp_path / "checkout")
    PUBLIC_KEY.into(checkout)
    file = checkout / "terraform" / "functions.tf"
    file.write_text(file.read_text().replace("condition     = !each.value.public || ", "condition     = true || "))
    found = problems(Deployment(applied.plan(checkout), load_all(checkout / "functions")))
    assert "secrets: anybody may call health, and it has ['GEMINI_API_KEY_1', 'GEMINI_API_KEY_2']" in found


NOT_ALLOWED = [
    Planted(
        "an API that is not enabled",
        "apis.tf",
        '      "monitoring.googleapis.com",\n',
        "",
        r"Error 403: monitoring.googleapis.com has not been used",
    ),
    Planted(
        "a resource that does not wait for its API",
        "firestore.tf",
        '  depends_on = [google_project_service.api["firestore.googleapis.com"]]\n',
        "",
        r"Error 403: firestore.googleapis.com has not been used",
    ),
]


@pytest.mark.parametrize("error", NOT_ALLOWED, ids=lambda error: error.name)
def test_it_cannot_be_applied(offline: Path, tmp_path: Path, error: Planted) -> None:
    checkout = stage(tmp_path / "checkout")
    error.into(checkout)
    targets = ("-target=google_firestore_database.gateway", "-target=google_monitoring_notification_channel.email")
    done = Terraform(offline, tmp_path / "home").run(checkout, "apply", *given("-auto-approve", *targets))
    assert done.status != 0
    assert re.search(error.told, done.output), done.error


def test_unknown_setting_is_named(applied: Terraform, checkout: Path) -> None:
    wrong = {
        "GEMINI_TEIR": "which shared/settings/ does not read",
        "LEDGER_URL": "which Terraform sets itself",
        "GEMINI_API_KEY": "A key is a secret: it goes into Secret Manager",
        "ALL_PROXY": "which may hold a credential: name it in secret_settings instead",
        "HTTPS_PROXY": "which may hold a credential: name it in secret_settings instead",
    }
    settings = json.dumps(dict.fromkeys(wrong, "value-of-a-setting"))
    done = applied.run(checkout, "plan", *given("-refresh=false", f"-var=settings={settings}"))
    assert done.status != 0
    for name, told in wrong.items():
        assert told in done.output, name


def test_timeout_beyond_the_functions_is_reported(applied: Terraform, checkout: Path) -> None:
    settings = json.dumps({"REQUEST_TIMEOUT_SECONDS": "150"})
    done = applied.run(checkout, "plan", *given("-refresh=false", f"-var=settings={settings}"))
    assert done.status != 0
    assert "generate: timeout_s must be at least 200" in done.output
    assert "chat: timeout_s" not in done.output


def test_undeployable_endpoint_json_is_named(applied: Terraform, grown_checkout: Path, tmp_path: Path) -> None:
    checkout = planted(grown_checkout, tmp_path / "checkout")
    wrong: dict[str, tuple[dict[str, object], str]] = {
        "chat": ({"cpu": 0.5}, "concurrency must be from 1 to 1000, and more than 1 needs a whole CPU"),
        "health": ({"concurrency": 1001}, "concurrency must be from 1 to 1000"),
        "generate_text": ({"timeout_s": 4000}, "timeout_s must be from 1 to 3600"),
        "image": ({"storage": "all"}, "storage must be none, read or write"),
        "translation": ({"store": "all"}, "store must be none, read or write"),
        "generate": ({"timeout_s": 169}, "timeout_s must be at least 170, or the platform ends requests"),
    }
    for name, (fields, _) in wrong.items():
        file = checkout / "functions" / name / "endpoint.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), **fields}))
    done = applied.run(checkout, "plan", *given("-refresh=false"))
    assert done.status != 0
    for name, (_, told) in wrong.items():
        assert f"{name}: {told}" in done.output
