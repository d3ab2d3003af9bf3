"""The bundle, built once for all attacks."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.checkout import unpacked_bundle
from tests.support.processes import ROOT


@pytest.fixture(scope="session")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return unpacked_bundle(ROOT, tmp_path_factory.mktemp("bundle"))
