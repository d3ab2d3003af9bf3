"""A service that several test processes share: the first one starts it, and ends it when no other process uses it."""

from __future__ import annotations

import contextlib
import fcntl
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import IO


@contextlib.contextmanager
def shared_service(name: str, folder: Path, start: Callable[[], AbstractContextManager[str]]) -> Iterator[str]:
    """The address of the service `name` of all processes that pass the same `folder`. Raises what `start` raises.

    Each process holds a lock on one file while it uses the service: shared for its users, exclusive to start and to end it.
    The kernel releases the lock of a process that is killed, so no process waits for one that has ended.
    """
    file = folder / f"{name}.address"
    with (
        (folder / f"{name}.lock").open("w") as lock,
        (folder / f"{name}.users").open("w") as users,
        contextlib.ExitStack() as started,
    ):
        with _locked(lock):
            fcntl.flock(users, fcntl.LOCK_SH)
            is_starter = not file.exists()
            if is_starter:
                file.write_text(started.enter_context(start()))
            address = file.read_text()
        try:
            yield address
        finally:
            fcntl.flock(users, fcntl.LOCK_UN)
            if is_starter:
                with _locked(lock):
                    file.unlink()  # A process that comes later starts a service of its own.
                fcntl.flock(users, fcntl.LOCK_EX)


@contextlib.contextmanager
def _locked(file: IO[str]) -> Iterator[None]:
    fcntl.flock(file, fcntl.LOCK_EX)
    try:
        yield
    finally:
        fcntl.flock(file, fcntl.LOCK_UN)
