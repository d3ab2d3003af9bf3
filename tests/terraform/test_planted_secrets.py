"""An operator's secrets, in files of the checkout and in the environment of the shell, get into no plan and no state."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

import pytest

from functions.bundle import build
from tests.support.checkout import copy_checkout
from tests.support.old_files import document
from tests.support.planted_secrets import ADMIN_KEY, ENVIRONMENT, KEY_FILE, found_in, planted
from tests.support.terraform import Terraform, given, stage

ORIGIN = "https://app.example.com"
"""A setting of `tests/everything.tfvars`, which is in the plan, in the state and in the cloud."""


class Applied(NamedTuple):
    terraform: Terraform
    checkout: Path
    places: dict[str, bytes]


@pytest.fixture(scope="module")
def deployed(offline: Path, tmp_path_factory: pytest.TempPathFactory) -> Applied:
    """A deployment that was planned and applied beside all the secrets."""
    folder = tmp_path_factory.mktemp("planted")
    checkout = copy_checkout(folder / "made")
    (checkout / "terraform").symlink_to(stage(folder / "staged") / "terraform")
    (checkout / ".env").write_text("".join(f"{name}={value}\n" for name, value in ENVIRONMENT.items()))
    (checkout / "business_gemini_session.json").write_text(json.dumps(document()))
    (checkout / "key.json").write_text(json.dumps(KEY_FILE))
    (checkout / "export.json").write_text(json.dumps(planted()))
    bundle = build(checkout, checkout / "dist/bundle.zip")
    terraform = Terraform(offline, folder / "home", ENVIRONMENT)
    plan = folder / "first.tfplan"
    printed = [terraform.must(checkout, "plan", *given(f"-out={plan}")).output]
    shown = json.dumps(terraform.shown(checkout, str(plan)))
    printed.append(terraform.must(checkout, "apply", "-input=false", "-no-color", str(plan)).output)
    printed.append(terraform.must(checkout, "show", "-no-color").output)
    return Applied(
        terraform,
        checkout,
        {
            "printed": "\n".join(printed).encode(),
            "plan": shown.encode(),
            "state": json.dumps(terraform.shown(checkout)).encode(),
            "files of the state and of the cloud": b"\n".join(
                path.read_bytes() for path in terraform.home.rglob("*.*") if path.is_file() and path.suffix != ".tf"
            ),
            "bundle": bundle.read_bytes(),
        },
    )


def test_no_planted_secret_is_in_plan_state_or_bundle(deployed: Applied) -> None:
    """What belongs there is found by the same search of the same bytes."""
    assert [name for name, content in deployed.places.items() if ORIGIN.encode() not in content] == ["bundle"]
    assert b"functions/chat/main.py" in deployed.places["bundle"]
    assert found_in(deployed.places) == {}


def test_a_secret_in_the_plan_would_be_found(deployed: Applied) -> None:
    """An operator's mistake that Terraform cannot know: the admin key as the value of a label."""
    plan = deployed.terraform.plan(deployed.checkout, f'-var=labels={{ team = "{ADMIN_KEY}" }}')
    assert found_in({"plan": json.dumps(plan).encode()}) == {"plan": ["admin key"]}
