"""Copies of the checkout: one to change and run without touching the real one, and one in its deployed form."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path

from functions.bundle import build
from tests.support.processes import ROOT

_PARTS = ("functions", "shared", "tests/support", "pyproject.toml", "requirements.txt")


def copy_checkout(target: Path) -> Path:
    """Copies what the product's commands need. A process that runs there imports the copy: its own folder comes first."""
    for part in _PARTS:
        source, destination = ROOT / part, target / part
        destination.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, destination, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(source, destination)
    return target


def unpacked_bundle(checkout: Path, folder: Path) -> Path:
    """The bundle of `checkout`, unpacked below `folder`, where the checkout is not visible."""
    target = folder / "unpacked"
    with zipfile.ZipFile(build(checkout, folder / "bundle.zip")) as archive:
        archive.extractall(target)
    return target
