"""Which processes of this machine have ended: each holds the lock of a file, and the kernel lets go of it.

- A file is locked before it gets its name, and its lock is never let go while the process lives (not by `aclose` either:
  sockets may still be open). So a file whose lock can be taken belonged to a process that has ended; whoever finds it so
  at different times finds the same. flock belongs to the open file, so this process's own probes do not touch it.
- An owner without a file is unknown, not gone. The file of an ended owner therefore stays for a day (emptied, by the
  first who found it), so that everybody can learn of it; then the next `claim` sweeps it away.
- Two that probe at once may hinder each other: one of them learns it at its next probe.
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
"""The locked files of this process, for as long as it lives."""


class ProcessLocks:
    """Files in `folder`, which is made when first needed. An owner is 32 hex digits, random, never used again."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def claim(self, owner: str) -> None:
        """This process is `owner` until it ends. Raises StoreUnavailable when the folder cannot be written."""
        path = self._path(owner)
        if path in _locked:
            return
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            _locked[path] = _locked_file(path)
            self._sweep()
        except OSError as error:
            raise StoreUnavailable(
                f"The store's folder {self._folder} cannot be written: {error.strerror}.", str(self._folder)
            ) from None

    def gone(self, owner: str) -> bool:
        """True only if `owner` claimed in this folder and its process has ended. About 5 us."""
        return _has_ended(str(self._path(owner)))

    def _path(self, owner: str) -> Path:
        if _OWNER.fullmatch(owner) is None:
            raise ValueError("An owner is 32 hex digits.")
        return self._folder / owner

    def _sweep(self) -> None:
        """Remove what has been empty for a day, and note which others have ended."""
        oldest_s = time.time() - KEEP_S
        with os.scandir(self._folder) as entries:
            for entry in islice(entries, _MAX_SWEPT):
                if _OWNER.fullmatch(entry.name.removesuffix(_NEW)) is None:
                    continue
                is_old = entry.stat().st_mtime < oldest_s
                # A young file without its name yet is about to be locked: even a probe would be in the way.
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
    """In a forked child: it is not the owner, and must not keep its parent's lock when that ends."""
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
