"""The process learns that its server stops from any of its connections."""

from __future__ import annotations

import gc

from shared.http import shutdown


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
    before = len(shutdown._listeners)
    told = Told()
    shutdown.listen(told)
    del told
    gc.collect()
    assert len(shutdown._listeners) == before
