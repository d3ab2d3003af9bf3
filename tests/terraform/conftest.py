"""One checkout, one applied state and plans over it, for all tests of the deployment."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from functions.bundle import TARGET, build
from shared.http.manifest import load_all
from tests.support.processes import ROOT
from tests.support.terraform import OfflineMissing, Terraform, given, offline_folder, stage

DESIGNED: dict[str, dict[str, Any]] = {
    "gemini_api": {
        "paths": {path: ["GET", "POST"] for path in ("/v1beta/*", "/upload/v1/*", "/upload/v1beta/*", "/gemini/*")}
    },
    "console": {"paths": {"/api/*": ["GET", "POST"], "/docs": ["GET"], "/openapi.json": ["GET"]}},
    "image": {"paths": {"/image/*": ["GET"], "/images": ["GET"]}, "storage": "write"},
    "generate": {"paths": {"/generate": ["POST"]}, "storage": "write"},
}
"""Paths of the gateway's contract. A folder of the checkout stands for itself, with what it lacks of its paths."""


@pytest.fixture(scope="session")
def offline() -> Path:
    """The stand-in provider's folder. The deployment is built from the bundle, as `make bundle` makes it."""
    try:
        folder = offline_folder()
    except OfflineMissing as missing:
        pytest.fail(str(missing))
    if folder is None:
        pytest.skip(
            "TERRAFORM_OFFLINE is not set, so nothing is planned here; in terraform/, "
            "`terraform init -backend=false && terraform test` checks the configuration with the real provider."
        )
    build(ROOT, ROOT / TARGET)
    return folder


@pytest.fixture(scope="session")
def checkout(offline: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return stage(tmp_path_factory.mktemp("staged") / "checkout")


@pytest.fixture(scope="session")
def grown_checkout(offline: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With folders for every function that the gateway is designed to have."""
    checkout = stage(tmp_path_factory.mktemp("grown") / "checkout", "functions")
    template = json.loads((checkout / "functions/chat/endpoint.json").read_text())
    owners = {path: manifest.name for manifest in load_all(checkout / "functions") for path in manifest.paths}
    for name, fields in DESIGNED.items():
        file = checkout / "functions" / name / "endpoint.json"
        file.parent.mkdir(exist_ok=True)
        there = json.loads(file.read_text()) if file.exists() else {**template, **fields, "paths": {}}
        added = {path: methods for path, methods in fields["paths"].items() if owners.get(path, name) == name}
        if added or there["paths"]:
            file.write_text(json.dumps({**there, "paths": {**added, **there["paths"]}}))
    return checkout


@pytest.fixture(scope="session")
def applied(offline: Path, grown_checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Terraform:
    """All of the functions are there: whatever is planned over it, its values are known. Nothing else is applied to it."""
    terraform = Terraform(offline, tmp_path_factory.mktemp("applied"))
    terraform.must(grown_checkout, "apply", *given("-auto-approve"))
    return terraform


@pytest.fixture(scope="session")
def plan(applied: Terraform, checkout: Path) -> dict[str, Any]:
    """Of the configuration as it is."""
    return applied.plan(checkout)
