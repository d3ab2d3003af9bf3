"""The way to the ledger's store: a proxy on loopback that makes it as far away as a real one in the same region."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import grpc
from grpc import aio

from tests.support.firestore_proxy import FirestoreProxy


class FarFirestore(FirestoreProxy):
    """Every call takes `rtt_s` longer. When each call came is recorded (CLOCK_MONOTONIC); conflicts are those commits that
    were refused because somebody else was faster."""

    def __init__(self, upstream: str, rtt_s: float) -> None:
        super().__init__(upstream)
        self._rtt_s = rtt_s
        self.commits_s: list[float] = []
        self.conflicts_s: list[float] = []
        self.reads_s: list[float] = []

    async def _commit(self, request: bytes, context: Any) -> bytes:
        came_s = time.monotonic()
        self.commits_s.append(came_s)
        try:
            return await super()._commit(request, context)
        except aio.AbortError:
            self.conflicts_s.append(came_s)
            raise

    async def _stream(self, method: str, request: bytes, context: Any) -> Any:
        self.reads_s.append(time.monotonic())
        async for reply in super()._stream(method, request, context):
            yield reply

    async def _begin(self, context: Any, failures: list[grpc.StatusCode]) -> None:
        await asyncio.sleep(self._rtt_s)
        await super()._begin(context, failures)
