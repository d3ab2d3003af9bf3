"""A store in an SQLite file that the processes of one machine share."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from shared.stores.port import Change, Outcome, Reading, Step, StoreUnavailable, TimeSample
from shared.stores.process_locks import ProcessLocks
from shared.stores.retry_budget import RetryBudget
from shared.stores.rules import check_change, check_keys, prefix_end, split_key, split_prefix
from shared.stores.sqlite_file import Busy, Row, SqliteFile

T = TypeVar("T")

_FIRST_PAUSE_S = 0.0005
_MAX_PAUSE_S = 0.02
_LIST_TIMEOUT_S = 5.0

_inherited: list[SqliteFile] = []
"""Connections inherited by a fork, which must not be closed: that would break the parent's locks
(sqlite.org/howtocorrupt.html, 2.6)."""


class SqliteStore:
    """Implements port.Store and port.Liveness. Reading takes microseconds, so `cached` makes no difference."""

    kind = "sqlite"

    def __init__(self, path: str | Path) -> None:
        self._path = Path(path).absolute()
        self._locks = ProcessLocks(self._path.with_name(self._path.name + "-owners"))
        self._file: SqliteFile | None = None
        self._closed = False

    async def transact(
        self, keys: Sequence[str], step: Step[T], *, cached: bool = False, timeout_s: float = 5.0
    ) -> Outcome[T]:
        keys = check_keys(keys)
        budget = _retry_budget(timeout_s)
        reads = conflicts = 0
        while True:
            try:
                file = self._open()
                before, rows = file.read(keys)
                reads += 1
                change: Change[T] = step({key: _value(rows.get(key), before) for key in keys}, int(before.server_ms))
                check_change(keys, change)
                if not change.writes:
                    return Outcome(change.result, (before,), conflicts, reads, conflicts)
                after = file.write({key: row.version for key, row in rows.items()}, keys, change.writes)
                if after is not None:
                    return Outcome(change.result, (before, after), conflicts, reads, conflicts + 1)
                conflicts += 1
                reason = "was changed by other processes at each attempt"
            except Busy:
                reason = "is locked by another process, which may be suspended"
            if not await budget.pause():
                message = f"The store's file {self._path} {reason}; giving up after {timeout_s:g} s."
                raise StoreUnavailable(message, str(self._path))

    async def read(self, key: str, *, timeout_s: float = 5.0) -> Reading:
        split_key(key)
        budget = _retry_budget(timeout_s)
        while True:
            try:
                sample, rows = self._open().read((key,))
                return Reading(_value(rows.get(key), sample), sample)
            except Busy:
                await self._wait(budget, timeout_s)

    async def list(self, prefix: str, *, limit: int = 1000) -> list[str]:
        split_prefix(prefix, limit)
        budget = _retry_budget(_LIST_TIMEOUT_S)
        while True:
            try:
                return self._open().list(prefix, prefix_end(prefix), limit)
            except Busy:
                await self._wait(budget, _LIST_TIMEOUT_S)

    async def aclose(self) -> None:
        self._closed = True
        self._drop_connection()

    def claim(self, owner: str) -> None:
        self._locks.claim(owner)

    def gone(self, owner: str) -> bool:
        return self._locks.gone(owner)

    async def _wait(self, budget: RetryBudget, timeout_s: float) -> None:
        if not await budget.pause():
            message = f"The store's file {self._path} stayed locked for {timeout_s:g} s."
            raise StoreUnavailable(message, str(self._path))

    def _open(self) -> SqliteFile:
        if self._closed:
            raise StoreUnavailable("This store was closed.")
        if self._file is None or not self._file.is_current():
            self._drop_connection()
            self._file = SqliteFile(self._path)
        return self._file

    def _drop_connection(self) -> None:
        file, self._file = self._file, None
        if file is None:
            return
        if file.is_own():
            file.close()
        else:
            _inherited.append(file)


def _retry_budget(timeout_s: float) -> RetryBudget:
    return RetryBudget(timeout_s, first_pause_s=_FIRST_PAUSE_S, max_pause_s=_MAX_PAUSE_S)


def _value(row: Row | None, at: TimeSample) -> bytes | None:
    if row is None or (row.expires_at_ms is not None and row.expires_at_ms <= at.server_ms):
        return None
    return row.value
