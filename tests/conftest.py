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
collect_ignore = ["openai_sdk"]
"""It has an environment of its own: `make openai-sdk`."""
PARTS = ("system", "attacks", "browser")
"""Folders that are parts of their own. `system` and `attacks` measure real time, and `make test` runs them after all other
tests, one by one. `browser` needs Chromium: `make browser` runs it."""
LONG = (
    "system/test_exactness.py",
    "system/test_kill.py",
    "system/test_faults.py",
    "attacks/test_what_held.py",
    "attacks/test_keys_and_addresses.py",
    "attacks/test_structures.py",
    "simulation/test_seeds.py",
    "unit/admission/test_order.py",
    "unit/ledger/test_exhaustive.py",
    "simulation/test_mutants.py",
    "unit/ledger/test_stateful.py",
    "functions/test_serve.py",
    "functions/test_smoke.py",
    "functions/test_http_edge.py",
    "functions/test_bundle.py",
    "functions/test_scaffold.py",
    "functions/test_images_of_processes.py",
    "unit/admission/test_instances.py",
)
"""Files that take longest. One process runs a whole file: a long one that begins last would leave the others idle. It takes its
next file when two tests are left of the one before."""

DEADLINE_MS = 2_000
"""For one case of a property: ten times hypothesis's own, since the machine may be busy with something else."""
# In CI every run has the same examples; elsewhere every run explores new ones.
hypothesis.settings.register_profile("ci", derandomize=True, deadline=DEADLINE_MS)
hypothesis.settings.register_profile("local", deadline=DEADLINE_MS)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "local")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--part", choices=["parallel", *PARTS], help="run only this part (see `make test`)")


def part_of(path: Path) -> str:
    folder = path.relative_to(TESTS).parts[0]
    return folder if folder in PARTS else "parallel"


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Files of another part are not even imported, unless the command names them."""
    part = config.getoption("part")
    is_other = part and collection_path.parent.is_relative_to(TESTS) and part_of(collection_path) != part
    return True if is_other else None


def pytest_collection_modifyitems(items: list[pytest.Item], config: pytest.Config) -> None:
    if part := config.getoption("part"):
        others = [item for item in items if part_of(item.path) != part]
        config.hook.pytest_deselected(items=others)
        items[:] = [item for item in items if part_of(item.path) == part]
    begin = {TESTS / name: at for at, name in enumerate(LONG)}
    items.sort(key=lambda item: begin.get(item.path, len(LONG)))


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
