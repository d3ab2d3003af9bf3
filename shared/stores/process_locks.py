"""Tells which processes of this machine have ended: each process locks a file, and the kernel releases the lock at its end.

- A file is locked before it gets its name, and the lock is held until the process ends (also after `aclose`, because sockets
  may still be open). So if the lock can be acquired, the process has ended, and every later probe finds the same. flock
  belongs to the open file, so this process's own probes do not release its lock.
- An owner without a file is unknown, which does not count as ended. The file of an ended owner therefore stays for a day,
  emptied by the first process that notices, so that all others notice too. Then the next `claim` deletes it.
- Of two probes at the same time one may fail; it succeeds at its next attempt.
"""

from __future__ import annotations

import fcntl
import os
import re
import time
from itertools import islice
from pathlib import Path

from shared.stores.port import StoreUnavailable

KEEP_S = 86_400
_MAX_SWEPT = 10_000
_OWNER = re.compile(r"[0-9a-f]{32}")
_NEW = ".new"

_locked: dict[Path, int] = {}
"""The locked files of this process: path -> descriptor, open until the process ends."""


class ProcessLocks:
    """Lock files in `folder`, which is created when needed. An owner is 32 random hex digits, never reused."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def claim(self, owner: str) -> None:
        """Registers this process as `owner` until it ends. Raises StoreUnavailable if the folder is not writable."""
        path = self._path(owner)
        if path in _locked:
            return
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            _locked[path] = _locked_file(path)
            self._sweep()
        except OSError as error:
            raise StoreUnavailable(
                f"The store's folder {self._folder} is not writable: {error.strerror}.", str(self._folder)
            ) from None

    def gone(self, owner: str) -> bool:
        """True only if the process that claimed `owner` in this folder has ended. Takes about 5 us."""
        return _has_ended(str(self._path(owner)))

    def _path(self, owner: str) -> Path:
        if _OWNER.fullmatch(owner) is None:
            raise ValueError("An owner is 32 hex digits.")
        return self._folder / owner

    def _sweep(self) -> None:
        """Deletes files that have been empty for a day, and empties those of other ended processes."""
        oldest_s = time.time() - KEEP_S
        with os.scandir(self._folder) as entries:
            for entry in islice(entries, _MAX_SWEPT):
                if _OWNER.fullmatch(entry.name.removesuffix(_NEW)) is None:
                    continue
                is_old = entry.stat().st_mtime < oldest_s
                # A new file without its final name is about to be locked, and a probe could make that fail.
                if entry.name.endswith(_NEW) and not is_old:
                    continue
                was_empty = entry.stat().st_size == 0
                if _has_ended(entry.path) and is_old and was_empty:
                    Path(entry.path).unlink(missing_ok=True)


def _locked_file(path: Path) -> int:
    new = path.with_name(path.name + _NEW)
    file = os.open(new, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.write(file, b"%d\n" % os.getpid())
        new.rename(path)
    except BaseException:
        os.close(file)
        raise
    if not _locked:
        os.register_at_fork(after_in_child=_release_locks)
    return file


def _release_locks() -> None:
    """Runs in a forked child, which must not keep its parent's locks after the parent has ended."""
    for file in _locked.values():
        os.close(file)
    _locked.clear()


def _has_ended(path: str) -> bool:
    try:
        file = os.open(path, os.O_RDWR)
    except OSError:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(file).st_size:
            os.ftruncate(file, 0)
    except OSError:
        return False
    finally:
        os.close(file)
    return True
