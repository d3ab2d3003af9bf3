"""A store in this process's memory: for tests, and for a single process that may lose its state."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import NamedTuple, TypeVar

from shared.clock import elapsed_s
from shared.stores import local_time
from shared.stores.port import Change, Outcome, Put, Reading, Step, StoreUnavailable, TimeSample
from shared.stores.retry_budget import RetryBudget
from shared.stores.rules import check_change, check_keys, split_key, split_prefix

T = TypeVar("T")

_SWEEP_FROM = 1024
_TRIES = 100


class _Entry(NamedTuple):
    put: Put
    version: int

    def value_at(self, now_ms: float) -> bytes | None:
        expires = self.put.expires_at_ms
        return self.put.value if expires is None or expires > now_ms else None


class Shelf:
    """The stored entries. Several MemoryStores on one shelf behave like several clients of one database."""

    def __init__(self) -> None:
        self.entries: dict[str, _Entry] = {}
        self._offset_ms = (time.time() - elapsed_s()) * 1000
        self._commits = 0
        self._sweep_at = _SWEEP_FROM

    def sample(self) -> TimeSample:
        return local_time.sample(self._offset_ms)

    def versions(self, keys: Sequence[str]) -> tuple[int | None, ...]:
        found = (self.entries.get(key) for key in keys)
        return tuple(entry and entry.version for entry in found)

    def apply(self, writes: Mapping[str, Put | None], now_ms: float) -> None:
        # Versions are never reused, so a key that was deleted and created again counts as changed.
        self._commits += 1
        for key, put in writes.items():
            if put is None:
                self.entries.pop(key, None)
            else:
                self.entries[key] = _Entry(put, self._commits)
        if len(self.entries) >= self._sweep_at:
            self._sweep(now_ms)

    def _sweep(self, now_ms: float) -> None:
        """Deletes expired entries. It runs when the number of entries has doubled, so a write costs constant time on average."""
        self.entries = {key: entry for key, entry in self.entries.items() if entry.value_at(now_ms) is not None}
        self._sweep_at = max(_SWEEP_FROM, 2 * len(self.entries))


class MemoryStore:
    """Implements port.Store. `cached` makes no difference here."""

    kind = "memory"

    def __init__(self, shelf: Shelf | None = None) -> None:
        self._shelf = shelf or Shelf()
        self._closed = False

    async def transact(
        self, keys: Sequence[str], step: Step[T], *, cached: bool = False, timeout_s: float = 5.0
    ) -> Outcome[T]:
        keys = check_keys(keys)
        shelf = self._open()
        budget = RetryBudget(timeout_s, first_pause_s=0.0, max_pause_s=0.0, tries=_TRIES)
        conflicts = 0
        while True:
            before = shelf.sample()
            versions = shelf.versions(keys)
            change: Change[T] = step({key: self._value(key, before) for key in keys}, int(before.server_ms))
            check_change(keys, change)
            if not change.writes:
                return Outcome(change.result, (before,), conflicts, conflicts + 1, conflicts)
            if shelf.versions(keys) == versions:
                after = shelf.sample()
                shelf.apply(change.writes, after.server_ms)
                return Outcome(change.result, (before, after), conflicts, conflicts + 1, conflicts + 1)
            conflicts += 1
            if not await budget.pause():
                raise StoreUnavailable(f"The memory store had {conflicts} conflicts in a row.")

    async def read(self, key: str, *, timeout_s: float = 5.0) -> Reading:
        split_key(key)
        sample = self._open().sample()
        return Reading(self._value(key, sample), sample)

    async def list(self, prefix: str, *, limit: int = 1000) -> list[str]:
        split_prefix(prefix, limit)
        shelf = self._open()
        now_ms = shelf.sample().server_ms
        found = (
            key for key, entry in shelf.entries.items() if key.startswith(prefix) and entry.value_at(now_ms) is not None
        )
        return sorted(found)[:limit]

    async def aclose(self) -> None:
        self._closed = True

    def claim(self, owner: str) -> None:
        """Does nothing: no other process can see this store."""

    def gone(self, owner: str) -> bool:
        return False

    def _open(self) -> Shelf:
        if self._closed:
            raise StoreUnavailable("This store was closed.")
        return self._shelf

    def _value(self, key: str, at: TimeSample) -> bytes | None:
        entry = self._shelf.entries.get(key)
        return None if entry is None else entry.value_at(at.server_ms)
