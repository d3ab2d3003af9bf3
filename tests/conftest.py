"""Fixtures that tests of several folders share."""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractContextManager

import hypothesis
import pytest

from tests.support.firestore_emulator import EmulatorMissing, firestore_emulator
from tests.support.object_stores import AWS, ObjectStore, bucket_store, fake_gcs, moto_s3

DEADLINE_MS = 2_000
"""For one case of a property: ten times hypothesis's own, since the machine may be busy with something else."""
# A run that decides whether a change is taken says the same twice; elsewhere every run explores anew.
hypothesis.settings.register_profile("ci", derandomize=True, deadline=DEADLINE_MS)
hypothesis.settings.register_profile("local", deadline=DEADLINE_MS)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "local")


@pytest.fixture(scope="session")
def firestore_host() -> Iterator[str]:
    """`host:port` of Google's Firestore emulator, one for the whole session: use a project of your own."""
    with _started(firestore_emulator()) as host:
        yield host


@pytest.fixture(scope="session")
def gcs_origin() -> Iterator[str]:
    """fake-gcs-server, one for the whole session."""
    with _started(fake_gcs()) as origin:
        yield origin


@pytest.fixture(scope="session")
def s3_origin() -> Iterator[str]:
    """moto's server, one for the whole session."""
    with _started(moto_s3()) as origin:
        yield origin


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
    """Where one is missing, the tests that need it say so and are skipped; with REQUIRE_EMULATORS=1 they fail."""
    with contextlib.ExitStack() as stack:
        try:
            address = stack.enter_context(emulator)
        except EmulatorMissing as missing:
            if os.environ.get("REQUIRE_EMULATORS") == "1":
                pytest.fail(str(missing))
            pytest.skip(str(missing))
        yield address
