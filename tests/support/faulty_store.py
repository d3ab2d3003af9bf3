"""A store in memory that fails as a test requires: before a change is applied, after it, or by not answering."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TypeVar

from shared.clock import elapsed_s
from shared.stores.memory import MemoryStore
from shared.stores.port import CommitUnknown, Outcome, Reading, Step, StoreError, StoreUnavailable

T = TypeVar("T")


class FaultyStore(MemoryStore):
    """`failure` is raised by every transaction, with nothing applied; `lost_replies` transactions are applied, but their outcome
    is unknown; while `hangs`, no call returns before its timeout. Reads fail with StoreUnavailable instead."""

    def __init__(self) -> None:
        super().__init__()
        self.failure: type[StoreError] | None = None
        self.hangs = False
        self.lost_replies = 0

    async def transact(
        self, keys: Sequence[str], step: Step[T], *, cached: bool = False, timeout_s: float = 5.0
    ) -> Outcome[T]:
        await self._maybe_hang(timeout_s)
        if self.failure is not None:
            raise self.failure("the store fails")
        outcome = await super().transact(keys, step, cached=cached, timeout_s=timeout_s)
        if self.lost_replies:
            self.lost_replies -= 1
            raise CommitUnknown("the reply was lost")
        return outcome

    async def read(self, key: str, *, timeout_s: float = 5.0) -> Reading:
        await self._maybe_hang(timeout_s)
        if self.failure is not None:
            raise StoreUnavailable("the store fails")
        return await super().read(key, timeout_s=timeout_s)

    async def _maybe_hang(self, timeout_s: float) -> None:
        until_s = elapsed_s() + timeout_s
        while self.hangs:
            if elapsed_s() > until_s:
                raise StoreUnavailable("the store did not answer")
            await asyncio.sleep(0.02)
