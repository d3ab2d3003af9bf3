"""One connection to one SQLite file: its tables, its clock, and the two operations the store is made of. Synchronous.

Everything here takes microseconds (measured on 2 KB values: a read 5, a write 30 of CPU), so it runs on the event loop;
nothing waits: what would have to wait raises Busy at once.

- WAL: readers and the one writer do not hinder each other.
- synchronous=NORMAL: a commit survives the end of the process at once, and the end of the machine from the next
  checkpoint on (about every 1,000 pages). OFF would save 5 to 15 us a commit, and could leave a damaged file behind
  when the power fails: accounts and sessions live here too. FULL would cost a disk's fsync (ms) in each commit.
- The write lock is taken after the decision, for the comparison and the write alone. A process that is stopped just then
  stops the other writers until it goes on or ends; they say so after their timeout.
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
    sqlite3.SQLITE_NOTADB: "it is not an SQLite database; move it away",
    sqlite3.SQLITE_CORRUPT: "it is damaged; move it away",
    sqlite3.SQLITE_READONLY: "it cannot be written; check who owns it and its folder",
    sqlite3.SQLITE_PERM: "it cannot be written; check who owns it and its folder",
    sqlite3.SQLITE_CANTOPEN: "it cannot be opened; check its folder",
    sqlite3.SQLITE_FULL: "the disk is full",
    sqlite3.SQLITE_IOERR: "the disk failed, or is full",
}


class Busy(Exception):
    """Another connection is writing at this moment."""


class Row(NamedTuple):
    value: bytes
    expires_at_ms: int | None
    version: int


class SqliteFile:
    """Belongs to the process and the thread that made it. The file (mode 0600) and its folder are made when missing."""

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
        """False also when the file was deleted or replaced: the other processes would use another one."""
        return self.is_own() and _identity(self.path) == self._identity

    def close(self) -> None:
        self._db.close()

    def sample(self) -> TimeSample:
        return local_time.sample(self._offset_ms)

    def read(self, keys: Sequence[str]) -> tuple[TimeSample, dict[str, Row]]:
        """The rows as they were at one moment, not before the sample's; expired ones too."""
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
        """Apply `writes` if the rows of `keys` still have `versions` (absent: no row); None if they have not."""
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
        """Keys of start <= key < end that have not expired, sorted."""
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
        # Read under the write lock, so that the order of commits is the order of their times.
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
        # One counter for the whole file: no version comes twice, also when a key is deleted and made again.
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
        # SQLite has often rolled back by itself; the first error is the one that matters.
        with contextlib.suppress(sqlite3.Error):
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")

    def _prepare(self) -> float:
        """Make the tables and settle the clock; its offset to elapsed time in ms."""
        db = self._db
        db.execute("PRAGMA journal_mode = WAL").fetchone()
        db.execute("PRAGMA synchronous = NORMAL")
        db.execute("BEGIN IMMEDIATE")
        (version,) = db.execute("PRAGMA user_version").fetchone()
        if version not in (0, _SCHEMA_VERSION) or (
            version == 0 and db.execute("SELECT 1 FROM sqlite_master").fetchone()
        ):
            raise StoreUnavailable(
                f"The store's file {self.path} is another program's database, or a newer version's; name another file.",
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
    """What to add to elapsed time: as stored during one boot, so that every process has the same clock and nobody can
    set it; after another boot the wall's time, but never before what was `seen_ms` (stored: boot id, offset, seen).

    Without boot ids ("") a boot shows only when the clock has gone back. One that does not show makes the clock slow by
    the time the machine was off, which is safe: limits are counted longer.
    """
    if stored is None:
        return wall_ms - elapsed_ms
    stored_boot, offset_ms, seen_ms = stored
    same = boot == stored_boot and (boot != "" or elapsed_ms + offset_ms >= seen_ms)
    return offset_ms if same else max(wall_ms, seen_ms) - elapsed_ms


def boot_id() -> str:
    """Names this boot of the machine; "" where the system does not tell (only Linux does)."""
    try:
        return _BOOT_ID.read_text().strip()
    except OSError:
        return ""


def _create(path: Path) -> None:
    """O_EXCL matters beyond the mode: closing a descriptor of a file that a connection of this process has open would
    drop that connection's locks (sqlite.org/howtocorrupt.html, 2.2)."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    except FileExistsError:
        if path.is_dir() or not path.parent.is_dir():
            raise StoreUnavailable(
                f"The store's file {path} cannot be made: a folder or file is in the way.", str(path)
            ) from None
    except OSError as error:
        raise StoreUnavailable(f"The store's file {path} cannot be made: {error.strerror}.", str(path)) from None


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
