"""Terraform's own binary on a copy of terraform/, with the stand-in for Google's provider that TERRAFORM_OFFLINE names."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.processes import ROOT, environment

EVERYTHING = Path("tests/everything.tfvars")
"""Values with which every resource is created, below terraform/."""
_PARTS = ("terraform", "functions", "shared", "dist", "cloudbuild.yaml")
_TIMEOUT_S = 120
_LEFTOVERS = shutil.ignore_patterns("__pycache__", ".terraform*", "*.tfstate*", "terraform.tfvars")


class OfflineMissing(Exception):
    """TERRAFORM_OFFLINE names a missing folder; the message says what to do."""


class TerraformFailed(Exception):
    """A command ended with an error, which is the message."""


@dataclass(frozen=True, slots=True)
class Finished:
    status: int
    output: str
    """The output of both streams, with joined lines: Terraform breaks them at a terminal's width."""

    @property
    def error(self) -> str:
        """The output from the first error on."""
        return self.output[max(0, self.output.find("Error:")) :][:3000]


def offline_folder() -> Path | None:
    """The stand-in provider's folder; None if TERRAFORM_OFFLINE is not set. Raises OfflineMissing."""
    named = os.environ.get("TERRAFORM_OFFLINE")
    if not named:
        return None
    if not (Path(named) / "tfsim").is_file():
        raise OfflineMissing("TERRAFORM_OFFLINE is set, but there is no tfsim in that folder; unset it, or correct it.")
    if shutil.which("terraform") is None:
        raise OfflineMissing("TERRAFORM_OFFLINE is set, but terraform (1.11 or later) is not on the PATH.")
    return Path(named)


def stage(target: Path, *copied: str) -> Path:
    """A checkout for Terraform at `target`: copies of terraform/ and of what `copied` names, the rest linked."""
    target.mkdir(parents=True)
    for part in _PARTS:
        source = ROOT / part
        if part in ("terraform", *copied):
            shutil.copytree(source, target / part, ignore=_LEFTOVERS)
        elif source.exists():
            (target / part).symlink_to(source)
    return target


class Terraform:
    """One state and one pretended cloud, both in `home`; commands run one at a time. `env` has further variables."""

    def __init__(self, offline: Path, home: Path, env: Mapping[str, str] | None = None) -> None:
        self.offline, self.home = offline, home
        self._env = environment({**(env or {}), "TFSIM_HOME": str(home), "TFSIM_PYTHON": sys.executable})
        home.mkdir(parents=True, exist_ok=True)

    def run(self, checkout: Path, *arguments: str, folder: str = "terraform") -> Finished:
        command = [str(self.offline / "tfsim"), str(checkout / folder), *arguments]
        done = subprocess.run(command, env=self._env, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)
        return Finished(done.returncode, " ".join((done.stdout + done.stderr).replace("│", " ").split()))

    def must(self, checkout: Path, *arguments: str, folder: str = "terraform") -> Finished:
        """Raises TerraformFailed."""
        done = self.run(checkout, *arguments, folder=folder)
        if done.status != 0:
            raise TerraformFailed(done.error)
        return done

    def plan(self, checkout: Path, *arguments: str) -> dict[str, Any]:
        """The plan as JSON; nothing is applied, and the state is not refreshed. Raises TerraformFailed."""
        file = self.home / "plan.tfplan"
        self.must(checkout, "plan", *given(*arguments), "-refresh=false", f"-out={file}")
        return self.shown(checkout, str(file))

    def shown(self, checkout: Path, *arguments: str) -> dict[str, Any]:
        """`terraform show -json` of the state, or of the named plan."""
        command = [str(self.offline / "tfsim"), str(checkout / "terraform"), "show", "-json", *arguments]
        done = subprocess.run(command, env=self._env, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)
        if done.returncode != 0:
            raise TerraformFailed(done.stderr)
        shown: dict[str, Any] = json.loads(done.stdout)
        return shown


def given(*arguments: str, variables: Path | str = EVERYTHING) -> Sequence[str]:
    """Arguments of plan, apply and destroy."""
    return ["-input=false", "-no-color", f"-var-file={variables}", *arguments]
