"""A copy of the checkout to change and run without touching the real one."""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.support.processes import ROOT

_PARTS = ("functions", "shared", "tests/support", "pyproject.toml", "requirements.txt")


def copy_checkout(target: Path) -> Path:
    """What the product's commands need of it. A process that runs there imports the copy: its own folder comes first."""
    for part in _PARTS:
        source, destination = ROOT / part, target / part
        destination.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, destination, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(source, destination)
    return target
