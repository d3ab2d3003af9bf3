"""The process learns that its server stops from any of its connections."""

from __future__ import annotations

import gc
from weakref import WeakSet

import pytest

from shared.http import shutdown


@pytest.fixture(autouse=True)
def no_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutdown, "_listeners", WeakSet())


class Told:
    times = 0

    def server_stops(self) -> None:
        self.times += 1


def test_a_listener_is_told_once() -> None:
    """uvicorn tells each connection."""
    told = Told()
    shutdown.listen(told)
    shutdown.begin()
    shutdown.begin()
    assert told.times == 1


def test_a_listener_that_is_gone_is_not_kept() -> None:
    told = Told()
    shutdown.listen(told)
    del told
    gc.collect()
    assert len(shutdown._listeners) == 0
