"""Fixtures that tests of several folders share."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

import hypothesis
import pytest

from tests.support.firestore_emulator import EmulatorMissing, firestore_emulator

# A run that decides whether a change is taken says the same twice; elsewhere every run explores anew.
hypothesis.settings.register_profile("ci", derandomize=True)
if os.environ.get("CI"):
    hypothesis.settings.load_profile("ci")


@pytest.fixture(scope="session")
def firestore_host() -> Iterator[str]:
    """`host:port` of Google's Firestore emulator, one for the whole session: use a project of your own."""
    with contextlib.ExitStack() as stack:
        try:
            host = stack.enter_context(firestore_emulator())
        except EmulatorMissing as missing:
            if os.environ.get("REQUIRE_EMULATORS") == "1":
                pytest.fail(str(missing))
            pytest.skip(str(missing))
        yield host
