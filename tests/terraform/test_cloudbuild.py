"""cloudbuild.yaml: Google's description of a build allows it, and its steps do what they say, with the tools replaced."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.deployment import Deployment
from tests.support.processes import ROOT

BUILD: dict[str, Any] = yaml.safe_load((ROOT / "cloudbuild.yaml").read_text())
COMMIT, BEFORE = "c0ffee", "bundle/00000000000000000000000000000000.zip"

TOOL = """#!/usr/bin/env bash
tool=$(basename "$0")
echo "$tool $*" >>"$CALLS"
case "$tool $*" in
  "terraform init"*) touch .terraform.lock.hcl ;;
  "terraform plan"*) touch ../gateway.tfplan ;;
  "terraform output -raw"*) [ -n "$BEFORE" ] && printf %s "$BEFORE" ;;
  "terraform output -json edge_address") echo '"203.0.113.10"' ;;
  "terraform output -json"*) echo "{}" ;;
  "gcloud storage cp"*gateway.tfplan*" .") [ -n "$PLANNED" ] && touch gateway.tfplan terraform.lock.hcl ;;
  "python -m tests.smoke"*) [ -n "$SERVES" ] ;;
  "gcloud storage cp gateway.tfplan"*) [ -z "$KEPT" ] ;;
  "make ${BROKEN:-nothing}"*) exit 1 ;;
esac
"""


@dataclass
class Workspace:
    """What the steps of one build share. `calls` are those of the tools, in order."""

    folder: Path
    stage: str
    before: str = BEFORE
    planned: bool = True
    kept: bool = False
    serves: bool = True
    broken: str = ""
    calls: list[str] = field(default_factory=list)

    def run(self) -> bool:
        """True if every step passed; none is run after one that did not."""
        tools = self.folder / "tools"
        for tool in ("apt-get", "make", "gcloud", "terraform"):
            self._tool(tools / tool)
        work = self.folder / "workspace"
        (work / "terraform").mkdir(parents=True)
        self._tool(work / ".venv/bin/python")
        log = self.folder / "calls"
        log.touch()
        env = {
            "PATH": f"{tools}:{os.environ['PATH']}",
            "CALLS": str(log),
            "BEFORE": self.before,
            "PLANNED": "yes" if self.planned else "",
            "KEPT": "yes" if self.kept else "",
            "SERVES": "yes" if self.serves else "",
            "BROKEN": self.broken,
            **BUILD["substitutions"],
            "_STAGE": self.stage,
            "_STATE_BUCKET": "state",
            "COMMIT_SHA": COMMIT,
            "PROJECT_ID": "demo-project",
        }
        passed = all(self._step(step, work, env) for step in BUILD["steps"])
        self.calls = log.read_text().splitlines()
        return passed

    def _tool(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(TOOL)
        path.chmod(0o755)

    def _step(self, step: dict[str, Any], work: Path, env: dict[str, str]) -> bool:
        shell = step["script"].splitlines()[0].split("/")[-1].split()[-1]
        given = dict(one.split("=", 1) for one in step.get("env", []))
        done = subprocess.run([shell, "-c", step["script"]], cwd=work, env={**env, **given}, timeout=60, check=False)
        return done.returncode == 0

    def called(self, start: str) -> list[str]:
        return [call for call in self.calls if call.startswith(start)]


def test_google_takes_it(offline: Path) -> None:
    assert described(offline, ROOT / "cloudbuild.yaml") == (0, "")


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("waitFor: [check, values]", "waitFor: [checks]", "is no earlier step"),
        ("env: [CI=true", "environment: [CI=true", "no field 'environment'"),
        ("machineType: E2_HIGHCPU_8", "machineType: HUGE", "is none of"),
        ("_ADMIN_SECRET: gemini", "_ADMIN_KEY: gemini", "_ADMIN_KEY: never used"),
        ("timeout: 3600s", "timeout: 1 hour", "is no duration"),
    ],
)
def test_what_google_would_refuse_is_caught(offline: Path, tmp_path: Path, old: str, new: str, told: str) -> None:
    text = (ROOT / "cloudbuild.yaml").read_text()
    assert old in text
    file = tmp_path / "cloudbuild.yaml"
    file.write_text(text.replace(old, new))
    status, problems = described(offline, file)
    assert status == 1
    assert told in problems


def described(offline: Path, file: Path) -> tuple[int, str]:
    command = [sys.executable, str(offline / "discovery_check.py"), "cloudbuild.v1", "Build", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    return done.returncode, done.stdout if done.returncode else ""


def test_every_substitution_is_explained_and_has_a_value(plan: dict[str, Any]) -> None:
    lines = (ROOT / "cloudbuild.yaml").read_text().splitlines()
    for name in BUILD["substitutions"]:
        (at,) = (number for number, line in enumerate(lines) if line.startswith(f"  {name}:"))
        assert lines[at - 1].strip().startswith("#"), f"{name} is not explained"
    deployment = Deployment(plan, [])
    for stage, trigger in deployment.of("google_cloudbuild_trigger", "trigger").items():
        assert trigger["substitutions"].keys() == BUILD["substitutions"].keys()
        assert trigger["substitutions"]["_STAGE"] == stage
        assert trigger["filename"] == "cloudbuild.yaml"
        assert trigger["location"] == "us-central1", "the connection's region, which need not be the functions'"


def test_only_what_a_person_approved_is_applied(plan: dict[str, Any]) -> None:
    triggers = Deployment(plan, []).of("google_cloudbuild_trigger", "trigger")
    approvals = {stage: one["approval_config"][0]["approval_required"] for stage, one in triggers.items()}
    assert approvals == {"plan": False, "apply": True}


def test_a_push_is_checked_planned_and_kept_but_not_applied(tmp_path: Path) -> None:
    build = Workspace(tmp_path, "plan")
    assert build.run()
    assert [call for call in build.calls if call.startswith("make")] == [
        "make bundle PYTHON=python3.13",
        "make lint",
        "make test",
    ]
    assert build.called("terraform plan -input=false -lock=false -var-file=../operator.tfvars -out=../gateway.tfplan")
    assert build.called(f"gcloud storage cp gateway.tfplan terraform.lock.hcl gs://state/plans/{COMMIT}/")
    assert not build.called("terraform apply")
    assert not build.called("python")
    assert not build.called("gcloud secrets")


def test_the_pipeline_tests_the_version_that_is_deployed(plan: dict[str, Any]) -> None:
    """What passed on one version of Python could fail on another."""
    runtimes = {one["build_config"][0]["runtime"] for one in Deployment(plan, []).functions.values()}
    steps = {step["id"]: step["script"] for step in BUILD["steps"]}
    versions = set(re.findall(r"python(3\.\d+)", steps["setup"] + steps["check"]))
    assert runtimes == {f"python{version.replace('.', '')}" for version in versions}


def test_operator_values_stay_outside_terraform_folder(tmp_path: Path) -> None:
    """`terraform fmt -check` and `terraform test` would read them there, and fail on a deployment's own values."""
    for stage in ("plan", "apply"):
        build = Workspace(tmp_path / stage, stage)
        assert build.run()
        assert build.called("gcloud storage cp gs://state/terraform.tfvars")[0].endswith(" operator.tfvars")


def test_only_the_apply_stage_reads_the_admin_key(tmp_path: Path) -> None:
    """Secrets that a build declares are read for all of its stages."""
    assert "availableSecrets" not in BUILD
    assert not any("secretEnv" in step for step in BUILD["steps"])
    build = Workspace(tmp_path, "apply")
    assert build.run()
    (call,) = build.called("gcloud secrets")
    assert call == "gcloud secrets versions access latest --secret=gemini-admin-api-key --project=demo-project"


def test_a_kept_plan_is_not_replaced(tmp_path: Path) -> None:
    """The account that plans may only create; what is approved is what was kept first."""
    build = Workspace(tmp_path, "plan", kept=True)
    assert not build.run()


@pytest.mark.parametrize("broken", ["bundle", "lint", "test"])
def test_a_commit_that_fails_its_checks_is_not_planned(tmp_path: Path, broken: str) -> None:
    build = Workspace(tmp_path, "plan", broken=broken)
    assert not build.run()
    assert not build.called("terraform plan")
    assert not build.called("gcloud storage cp gateway.tfplan")


def test_plan_is_applied_and_the_result_is_tested(tmp_path: Path) -> None:
    build = Workspace(tmp_path, "apply")
    assert build.run()
    assert not build.called("terraform plan")
    assert build.called("terraform apply") == ["terraform apply -input=false ../gateway.tfplan"]
    assert build.called("python") == ["python -m tests.smoke --urls urls.json --edge-address 203.0.113.10"]


def test_nothing_is_applied_that_was_not_planned(tmp_path: Path) -> None:
    build = Workspace(tmp_path, "apply", planned=False)
    assert not build.run()
    assert not build.called("terraform apply")


def test_failing_functions_return_to_the_last_bundle(tmp_path: Path) -> None:
    build = Workspace(tmp_path, "apply", serves=False)
    assert not build.run()
    assert build.called("terraform apply")[1:] == [
        f"terraform apply -input=false -auto-approve -var-file=../operator.tfvars -var=bundle_object={BEFORE}"
    ]


def test_a_first_deployment_has_nothing_to_go_back_to(tmp_path: Path) -> None:
    build = Workspace(tmp_path, "apply", before="", serves=False)
    assert not build.run()
    assert len(build.called("terraform apply")) == 1


def test_missing_stage_is_reported(tmp_path: Path) -> None:
    build = Workspace(tmp_path, "aply")
    assert not build.run()
    assert build.calls == []
