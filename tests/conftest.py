"""Fixtures that tests of several folders share."""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import hypothesis
import pytest

from tests.support.firestore_emulator import EmulatorMissing, firestore_emulator
from tests.support.object_stores import AWS, ObjectStore, bucket_store, fake_gcs, moto_s3
from tests.support.shared_service import shared_service

TESTS = Path(__file__).parent
ALONE = {"attacks", "system"}
"""Folders of tests that measure real time or start many processes: concurrent tests would disturb them."""

DEADLINE_MS = 2_000
"""For one case of a property: ten times hypothesis's own, since the machine may be busy with something else."""
# In CI every run has the same examples; elsewhere every run explores new ones.
hypothesis.settings.register_profile("ci", derandomize=True, deadline=DEADLINE_MS)
hypothesis.settings.register_profile("local", deadline=DEADLINE_MS)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "local")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks the tests that measure real time, which `make test` runs one at a time after all others."""
    for item in items:
        if item.path.relative_to(TESTS).parts[0] in ALONE:
            item.add_marker("alone")


@pytest.fixture(scope="session")
def firestore_host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """`host:port` of Google's Firestore emulator, one for the whole run: use a project of your own."""
    with _started(shared_service("firestore", run_folder(tmp_path_factory), firestore_emulator)) as host:
        yield host


@pytest.fixture(scope="session")
def gcs_origin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """fake-gcs-server, one for the whole run: use a bucket of your own."""
    with _started(shared_service("gcs", run_folder(tmp_path_factory), fake_gcs)) as origin:
        yield origin


@pytest.fixture(scope="session")
def s3_origin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """moto's server, one for the whole run: use a bucket of your own."""
    with _started(shared_service("s3", run_folder(tmp_path_factory), moto_s3)) as origin:
        yield origin


def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The temporary folder of the run, which all workers of pytest-xdist share."""
    base = tmp_path_factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


@pytest.fixture
async def s3_store(s3_origin: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[ObjectStore]:
    for name, value in AWS.items():
        monkeypatch.setenv(name, value)
    async with bucket_store("s3", s3_origin) as store:
        yield store


@pytest.fixture
async def gcs_store(gcs_origin: str) -> AsyncIterator[ObjectStore]:
    async with bucket_store("gs", gcs_origin) as store:
        yield store


@contextlib.contextmanager
def _started(emulator: AbstractContextManager[str]) -> Iterator[str]:
    """If a service is missing, the tests that need it are skipped with the reason; with REQUIRE_EMULATORS=1 they fail."""
    with contextlib.ExitStack() as stack:
        try:
            address = stack.enter_context(emulator)
        except EmulatorMissing as missing:
            if os.environ.get("REQUIRE_EMULATORS") == "1":
                pytest.fail(str(missing))
            pytest.skip(str(missing))
        yield address
