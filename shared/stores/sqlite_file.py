"""One connection to one SQLite file: its tables, its clock, and the two operations the store is made of. Synchronous.

All calls take microseconds (2 KB values: 5 us of CPU for a read, 30 for a write), so they run on the event loop. None
waits: a call that would have to wait raises Busy.

- WAL: readers and the writer do not block each other.
- synchronous=NORMAL: a commit survives a crash of the process at once, and a crash of the machine after the next checkpoint
  (about every 1,000 pages). OFF would save 5 to 15 us per commit but could corrupt the file at a power failure, and accounts
  and sessions are stored here too. FULL would cost an fsync (ms) per commit.
- The write lock is taken after the decision, for the comparison and the write only. A process that is suspended just then
  blocks the other writers until it resumes or ends; they raise StoreUnavailable at their timeout.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from shared.clock import elapsed_s
from shared.stores import local_time
from shared.stores.port import CommitUnknown, Put, StoreUnavailable, TimeSample

_SCHEMA_VERSION = 1
_SCHEMA = (
    "CREATE TABLE entry (key TEXT PRIMARY KEY, value BLOB NOT NULL, expires_at_ms INTEGER, version INTEGER NOT NULL)",
    "CREATE INDEX entry_expiry ON entry (expires_at_ms) WHERE expires_at_ms IS NOT NULL",
    "CREATE TABLE clock (only INTEGER PRIMARY KEY CHECK (only = 1), boot_id TEXT NOT NULL, offset_ms REAL NOT NULL, "
    "seen_ms INTEGER NOT NULL, version INTEGER NOT NULL)",
    f"PRAGMA user_version = {_SCHEMA_VERSION}",
)
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_SWEEP_EVERY = 64
_MAX_SWEPT = 256

_BUSY = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
_REMEDIES = {
    sqlite3.SQLITE_NOTADB: "it is not an SQLite database; move it away or name another file",
    sqlite3.SQLITE_CORRUPT: "it is damaged; move it away, and a new one is created",
    sqlite3.SQLITE_READONLY: "it cannot be written; check who owns it and its folder",
    sqlite3.SQLITE_PERM: "it cannot be written; check who owns it and its folder",
    sqlite3.SQLITE_CANTOPEN: "it cannot be opened; check the permissions of its folder",
    sqlite3.SQLITE_FULL: "the disk is full",
    sqlite3.SQLITE_IOERR: "the disk failed, or is full",
}


class Busy(Exception):
    """Another connection holds the write lock."""


class Row(NamedTuple):
    value: bytes
    expires_at_ms: int | None
    version: int


class SqliteFile:
    """A connection of the process and thread that created it. Creates the file (mode 0600) and its folder if missing."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._pid = os.getpid()
        _create(path)
        try:
            self._db = sqlite3.connect(path, timeout=0, isolation_level=None)
        except sqlite3.Error as error:
            raise _translated(path, error) from None
        try:
            self._offset_ms = self._prepare()
            self._identity = _identity(path)
        except sqlite3.Error as error:
            self.close()
            raise _translated(path, error) from None
        except BaseException:
            self.close()
            raise

    def is_own(self) -> bool:
        """False in a forked child."""
        return self._pid == os.getpid()

    def is_current(self) -> bool:
        """False in a forked child, and if the file was deleted or replaced, because other processes use the new one."""
        return self.is_own() and _identity(self.path) == self._identity

    def close(self) -> None:
        self._db.close()

    def sample(self) -> TimeSample:
        return local_time.sample(self._offset_ms)

    def read(self, keys: Sequence[str]) -> tuple[TimeSample, dict[str, Row]]:
        """The rows at one moment, which is not before the sample's. Expired rows are included."""
        try:
            sample = self.sample()
            rows = self._db.execute(
                f"SELECT key, value, expires_at_ms, version FROM entry WHERE key IN ({_marks(keys)})", keys
            ).fetchall()
        except sqlite3.Error as error:
            raise _translated(self.path, error) from None
        return sample, {key: Row(*rest) for key, *rest in rows}

    def write(
        self, versions: Mapping[str, int], keys: Sequence[str], writes: Mapping[str, Put | None]
    ) -> TimeSample | None:
        """Applies `writes` if the rows of `keys` still have `versions` (a missing key: no row). Returns None if they have not."""
        sample = None
        try:
            self._db.execute("BEGIN IMMEDIATE")
            sample = self._compare_and_write(versions, keys, writes)
        except sqlite3.Error as error:
            raise _translated(self.path, error) from None
        finally:
            if sample is None:
                self._roll_back()
        if sample is not None:
            self._commit()
        return sample

    def list(self, start: str, end: str, limit: int) -> list[str]:
        """The sorted keys with start <= key < end that have not expired."""
        try:
            rows = self._db.execute(
                "SELECT key FROM entry WHERE key >= ? AND key < ? AND (expires_at_ms IS NULL OR expires_at_ms > ?) "
                "ORDER BY key LIMIT ?",
                (start, end, int(self.sample().server_ms), limit),
            ).fetchall()
        except sqlite3.Error as error:
            raise _translated(self.path, error) from None
        return [key for (key,) in rows]

    def _compare_and_write(
        self, versions: Mapping[str, int], keys: Sequence[str], writes: Mapping[str, Put | None]
    ) -> TimeSample | None:
        db = self._db
        current = dict(db.execute(f"SELECT key, version FROM entry WHERE key IN ({_marks(keys)})", keys).fetchall())
        if current != versions:
            return None
        (version,) = db.execute("SELECT version FROM clock").fetchone()
        version += 1
        # Sampled under the write lock, so that commits and their times have the same order.
        sample = self.sample()
        now_ms = int(sample.server_ms)
        for key, put in writes.items():
            if put is None:
                db.execute("DELETE FROM entry WHERE key = ?", (key,))
            else:
                db.execute(
                    "INSERT INTO entry (key, value, expires_at_ms, version) VALUES (?, ?, ?, ?) ON CONFLICT (key) DO "
                    "UPDATE SET value = excluded.value, expires_at_ms = excluded.expires_at_ms, version = excluded.version",
                    (key, put.value, put.expires_at_ms, version),
                )
        # One counter for the whole file: versions are never reused, even if a key is deleted and created again.
        db.execute("UPDATE clock SET seen_ms = ?, version = ?", (now_ms, version))
        if version % _SWEEP_EVERY == 0:
            db.execute(
                "DELETE FROM entry WHERE rowid IN (SELECT rowid FROM entry WHERE expires_at_ms <= ? LIMIT ?)",
                (now_ms, _MAX_SWEPT),
            )
        return sample

    def _commit(self) -> None:
        try:
            self._db.execute("COMMIT")
        except sqlite3.Error as error:
            self._roll_back()
            translated = _translated(self.path, error)
            if isinstance(translated, StoreUnavailable):
                raise CommitUnknown(str(translated), translated.place) from None
            raise translated from None

    def _roll_back(self) -> None:
        # SQLite often rolls back by itself; only the first error matters.
        with contextlib.suppress(sqlite3.Error):
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")

    def _prepare(self) -> float:
        """Creates the tables and sets the clock. Returns the clock's offset to elapsed time in ms."""
        db = self._db
        db.execute("PRAGMA journal_mode = WAL").fetchone()
        db.execute("PRAGMA synchronous = NORMAL")
        db.execute("BEGIN IMMEDIATE")
        (version,) = db.execute("PRAGMA user_version").fetchone()
        if version not in (0, _SCHEMA_VERSION) or (
            version == 0 and db.execute("SELECT 1 FROM sqlite_master").fetchone()
        ):
            raise StoreUnavailable(
                f"The store's file {self.path} belongs to another program or a newer version; name another file.",
                str(self.path),
            )
        if version == 0:
            for statement in _SCHEMA:
                db.execute(statement)
        stored = db.execute("SELECT boot_id, offset_ms, seen_ms FROM clock").fetchone()
        boot, elapsed_ms, wall_ms = boot_id(), elapsed_s() * 1000, time.time() * 1000
        offset_ms = clock_offset_ms(stored, boot, elapsed_ms, wall_ms)
        if stored is None:
            db.execute("INSERT INTO clock VALUES (1, ?, ?, ?, 0)", (boot, offset_ms, int(elapsed_ms + offset_ms)))
        elif (boot, offset_ms) != (stored[0], stored[1]):
            db.execute("UPDATE clock SET boot_id = ?, offset_ms = ?", (boot, offset_ms))
        db.execute("COMMIT")
        return offset_ms


def clock_offset_ms(stored: tuple[str, float, int] | None, boot: str, elapsed_ms: float, wall_ms: float) -> float:
    """The offset of the store's clock to elapsed time.

    During one boot it is the stored offset, so that all processes share one clock that cannot be set. After a reboot it
    follows the wall clock, but the time never goes back before `seen_ms`. `stored`: (boot id, offset_ms, seen_ms).

    Without boot ids ("") a reboot is noticed only if elapsed time went back. An unnoticed reboot makes the clock slow by the
    time that the machine was off, which is safe: limits are counted for longer."""
    if stored is None:
        return wall_ms - elapsed_ms
    stored_boot, offset_ms, seen_ms = stored
    same = boot == stored_boot and (boot != "" or elapsed_ms + offset_ms >= seen_ms)
    return offset_ms if same else max(wall_ms, seen_ms) - elapsed_ms


def boot_id() -> str:
    """The id of this boot of the machine; "" on systems other than Linux."""
    try:
        return _BOOT_ID.read_text().strip()
    except OSError:
        return ""


def _create(path: Path) -> None:
    """Creates the file. O_EXCL also makes sure that no existing file is opened and closed, which would release the locks of a
    connection of this process to it (sqlite.org/howtocorrupt.html, 2.2)."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    except FileExistsError:
        if path.is_dir() or not path.parent.is_dir():
            raise StoreUnavailable(
                f"The store's file {path} cannot be created: a folder or file is in the way.", str(path)
            ) from None
    except OSError as error:
        raise StoreUnavailable(f"The store's file {path} cannot be created: {error.strerror}.", str(path)) from None


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = os.stat(path)  # noqa: PTH116 - three times as fast as Path.stat, in every transaction
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _marks(keys: Sequence[str]) -> str:
    return ",".join("?" * len(keys))


def _translated(path: Path, error: sqlite3.Error) -> Busy | StoreUnavailable:
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
    if code in _BUSY:
        return Busy()
    return StoreUnavailable(f"The store's file {path} cannot be used: {_REMEDIES.get(code, str(error))}.", str(path))
