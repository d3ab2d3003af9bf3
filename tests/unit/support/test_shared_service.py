"""One service for several processes: started once, ended after its last user."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.shared_service import shared_service

DEADLINE_S = 20.0


class Service:
    def __init__(self) -> None:
        self.starts = 0
        self.is_running = False

    @contextlib.contextmanager
    def start(self) -> Iterator[str]:
        self.starts += 1
        self.is_running = True
        yield f"127.0.0.1:{self.starts}"
        self.is_running = False


def test_second_user_gets_the_address_of_the_first(tmp_path: Path) -> None:
    service = Service()
    with shared_service("store", tmp_path, service.start) as first:
        with shared_service("store", tmp_path, service.start) as second:
            assert first == second == "127.0.0.1:1"
        assert service.is_running, "the service ended with a user that had not started it"
    assert not service.is_running


def test_starter_ends_the_service_after_the_last_user(tmp_path: Path) -> None:
    """Locks belong to an open file, so a thread with its own files is excluded like a process."""
    service, may_end, started = Service(), threading.Event(), threading.Event()

    def starter() -> None:
        with shared_service("store", tmp_path, service.start):
            started.set()
            may_end.wait(DEADLINE_S)

    thread = threading.Thread(target=starter)
    thread.start()
    assert started.wait(DEADLINE_S)
    with shared_service("store", tmp_path, service.start):
        may_end.set()
        while (tmp_path / "store.address").exists():
            thread.join(0.001)
        assert thread.is_alive()
        assert service.is_running, "the service ended although another process uses it"
    thread.join(DEADLINE_S)
    assert not thread.is_alive()
    assert not service.is_running


def test_service_that_cannot_start_leaves_nothing_behind(tmp_path: Path) -> None:
    def missing() -> contextlib.AbstractContextManager[str]:
        raise FileNotFoundError

    with pytest.raises(FileNotFoundError), shared_service("store", tmp_path, missing):
        pass
    service = Service()
    with shared_service("store", tmp_path, service.start):
        assert service.starts == 1
