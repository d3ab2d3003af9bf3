"""The whole life of a deployment, with Terraform's own binary: format, validate, plan, apply, plan, destroy, its tests."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from functions.bundle import build
from tests.support.checkout import copy_checkout
from tests.support.processes import ROOT
from tests.support.terraform import EVERYTHING, OfflineMissing, Terraform, given, offline_folder, stage

NO_CHANGES, CHANGES = 0, 2


def test_it_is_formatted(checkout: Path) -> None:
    """Only the files of the commit: an operator's terraform.tfvars may be formatted as they like."""
    command = ["terraform", "fmt", "-check", "-recursive", "-list=true", str(checkout / "terraform")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_it_comes_and_goes_whole(offline: Path, tmp_path: Path) -> None:
    """From a checkout in which nothing was ever made."""
    checkout = copy_checkout(tmp_path / "made")
    build(checkout, checkout / "dist/bundle.zip")
    (tmp_path / "made" / "terraform").symlink_to(stage(tmp_path / "staged") / "terraform")
    terraform = Terraform(offline, tmp_path / "home")
    assert "The configuration is valid" in terraform.must(checkout, "validate", "-no-color").output
    file = str(tmp_path / "first.tfplan")
    assert terraform.run(checkout, "plan", *given("-detailed-exitcode", f"-out={file}")).status == CHANGES
    terraform.must(checkout, "apply", "-input=false", "-no-color", file)
    assert terraform.run(checkout, "plan", *given("-detailed-exitcode")).status == NO_CHANGES
    terraform.must(checkout, "destroy", *given("-auto-approve"))
    cloud = json.loads((terraform.home / "cloud.json").read_text())
    left = {kind: list(held) for kind, held in cloud.items() if held}
    assert set(left) <= {"google_storage_bucket_object"}, "bundles are left to their bucket, which goes with all in it"


def test_its_own_tests_pass_beside_an_operators_values(offline: Path, tmp_path: Path) -> None:
    """Terraform loads terraform.tfvars for `terraform test` too. Its values, and its format, must not decide the result."""
    checkout = stage(tmp_path / "checkout")
    folder = checkout / "terraform"
    values = (folder / EVERYTHING).read_text()
    (folder / "terraform.tfvars").write_text(f'{values}invokers  = [ "group:team@example.com" ]\nimage_ttl_days=7\n')
    done = Terraform(offline, tmp_path / "home").run(checkout, "test", "-no-color")
    assert done.status == 0, done.output[-3000:]
    assert "0 failed" in done.output


def test_terraform_tests_fix_every_variable() -> None:
    """A variable that the test file leaves out would have the operator's value."""
    folder = ROOT / "terraform"
    names = re.findall(r'^variable "(\w+)"', (folder / "variables.tf").read_text(), re.MULTILINE)
    (block,) = re.findall(
        r"^variables \{\n(.*?)^\}", (folder / "tests/variables.tftest.hcl").read_text(), re.MULTILINE | re.DOTALL
    )
    assert re.findall(r"^  (\w+) +=", block, re.MULTILINE) == names


def test_the_bucket_of_the_state_is_made_before_everything_else(offline: Path, checkout: Path, tmp_path: Path) -> None:
    terraform = Terraform(offline, tmp_path / "home")
    values = ("-input=false", "-no-color", "-var=project_id=demo-project")
    applied = terraform.must(checkout, "apply", *values, "-auto-approve", folder="terraform/bootstrap")
    assert "terraform init -backend-config=bucket=demo-project-terraform-state" in applied.output
    again = terraform.run(checkout, "plan", *values, "-detailed-exitcode", folder="terraform/bootstrap")
    assert again.status == NO_CHANGES


def test_second_operator_imports_the_state_bucket(offline: Path, checkout: Path, tmp_path: Path) -> None:
    """The state of bootstrap/ is on one machine; on another one the bucket exists already (409), and is imported."""
    terraform = Terraform(offline, tmp_path / "home")
    values = ("-input=false", "-no-color", "-var=project_id=demo-project")
    terraform.must(checkout, "apply", *values, "-auto-approve", folder="terraform/bootstrap")
    (terraform.home / "terraform.tfstate").unlink()
    bucket = ("google_storage_bucket.state", "demo-project-terraform-state")
    terraform.must(checkout, "import", *values, *bucket, folder="terraform/bootstrap")
    done = terraform.run(checkout, "plan", *values, "-detailed-exitcode", folder="terraform/bootstrap")
    assert "google_storage_bucket.state will" not in done.output, done.output
    readme = (ROOT / "terraform/README.md").read_text()
    assert "terraform import -var project_id=my-project-123456 google_storage_bucket.state" in readme


def test_what_is_protected_is_not_destroyed(offline: Path, checkout: Path, tmp_path: Path) -> None:
    terraform = Terraform(offline, tmp_path / "home")
    database = given("-auto-approve", "-target=google_firestore_database.gateway", variables="terraform.tfvars.example")
    terraform.must(checkout, "apply", *database)
    refused = terraform.run(checkout, "destroy", *database)
    assert refused.status != 0
    assert "google_firestore_database" in refused.error
    assert "prevented" in refused.error


def test_going_back_deploys_the_bundle_of_before(applied: Terraform, grown_checkout: Path) -> None:
    before = f"bundle/{'0' * 32}.zip"
    plan = applied.plan(grown_checkout, f"-var=bundle_object={before}")
    changed = {one["address"]: one["change"]["actions"] for one in plan["resource_changes"]}
    functions = {address for address in changed if address.startswith("google_cloudfunctions2_function")}
    assert {address for address, actions in changed.items() if actions not in (["no-op"], ["read"])} == functions
    assert plan["planned_values"]["outputs"]["bundle_object"]["value"] == before


@dataclass(frozen=True, slots=True)
class Step:
    """One line of an apply's log."""

    address: str
    event: str
    """Creating, Creation complete, Modifying, Modifications complete, Destroying or Destruction complete."""


def steps(output: str) -> list[Step]:
    events = "Creating|Creation complete|Modifying|Modifications complete|Destroying|Destruction complete"
    return [Step(*one) for one in re.findall(rf'(google_\w+\.\w+(?:\["[^"]+"\])?): ({events})', output)]


URL_MAP = 'google_compute_url_map.edge["edge"]'
BACKEND = 'google_compute_backend_service.function["{}"]'
GROUP = 'google_compute_region_network_endpoint_group.function["{}"]'
FUNCTION = 'google_cloudfunctions2_function.function["{}"]'


INVOKER = 'google_cloud_run_v2_service_iam_member.invoker["{}/allUsers"]'


def before(log: list[Step], *order: tuple[str, str]) -> bool:
    """Whether all of these are in the log, in this order."""
    at = [log.index(Step(*one)) for one in order]
    return at == sorted(at)


def few_functions(target: Path) -> Path:
    """A checkout with four functions: what is applied to it takes less time."""
    checkout = stage(target, "functions")
    for manifest in (checkout / "functions").glob("*/endpoint.json"):
        if manifest.parent.name not in ("chat", "health", "image", "translation"):
            shutil.rmtree(manifest.parent)
    return checkout


def test_a_removed_key_outlives_the_functions_that_name_it(offline: Path, tmp_path: Path) -> None:
    """No instance can start while its function names a secret that is gone, or that its account may not read."""
    checkout = few_functions(tmp_path / "checkout")
    terraform = Terraform(offline, tmp_path / "home")
    terraform.must(checkout, "apply", *given("-auto-approve"))
    left = '-var=gemini_api_keys={ GEMINI_API_KEY_1 = "quota-project-1" }'
    log = steps(terraform.must(checkout, "apply", *given("-auto-approve", left)).output)
    accessor = 'google_secret_manager_secret_iam_member.accessor["{}/GEMINI_API_KEY_2"]'
    secret = 'google_secret_manager_secret.secret["GEMINI_API_KEY_2"]'
    for name in ("chat", "translation"):
        updated = (FUNCTION.format(name), "Modifications complete")
        assert before(log, updated, (accessor.format(name), "Destroying"), (secret, "Destroying")), log


def test_function_folders_change_with_a_domain_in_googles_order(offline: Path, tmp_path: Path) -> None:
    """Google rejects deleting a backend that the URL map still names, and a second function of one name."""
    checkout = few_functions(tmp_path / "checkout")
    folder = checkout / "functions"
    terraform = Terraform(offline, tmp_path / "home")

    def applied_steps(*arguments: str) -> list[Step]:
        return steps(terraform.must(checkout, "apply", *given("-auto-approve", *arguments)).output)

    def removed(name: str) -> list[tuple[str, str]]:
        backend = [(BACKEND.format(name), "Destroying"), (BACKEND.format(name), "Destruction complete")]
        return [(URL_MAP, "Modifications complete"), *backend, (GROUP.format(name), "Destroying")]

    def added(name: str) -> list[tuple[str, str]]:
        return [(BACKEND.format(name), "Creation complete"), (URL_MAP, "Modifying")]

    applied_steps()
    (folder / "translation").rename(folder / "interpreting")
    log = applied_steps()
    assert before(log, *added("interpreting"), *removed("translation")), log
    (folder / "interpreting").rename(tmp_path / "interpreting")
    log = applied_steps()
    assert before(log, *removed("interpreting")), log
    (tmp_path / "interpreting").rename(folder / "interpreting")
    chat = FUNCTION.format("chat")
    log = applied_steps(f"-replace={chat}")
    assert before(log, *added("interpreting")), log
    assert before(log, (chat, "Destruction complete"), (chat, "Creating")), log
    invoker = INVOKER.format("chat")
    assert before(log, (invoker, "Destroying"), (chat, "Destroying")), log
    assert before(log, (chat, "Creation complete"), (invoker, "Creating")), log


def test_no_secret_is_in_the_state(applied: Terraform) -> None:
    """There is nothing in it that could hold one."""
    state = json.loads((applied.home / "terraform.tfstate").read_text())
    kinds = {one["type"] for one in state["resources"]}
    assert "google_secret_manager_secret" in kinds
    assert "google_secret_manager_secret_version" not in kinds
    assert "secret_data" not in json.dumps(state)


def test_a_folder_that_is_named_must_be_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TERRAFORM_OFFLINE", str(tmp_path / "nowhere"))
    with pytest.raises(OfflineMissing, match="no tfsim in that folder"):
        offline_folder()
    monkeypatch.delenv("TERRAFORM_OFFLINE")
    assert offline_folder() is None
