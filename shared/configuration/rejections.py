"""Writes into a stored account's record that Gemini rejected it, so that other processes and a restart know it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from shared.accounts.manage import report_out
from shared.accounts.records import OutReason
from shared.clock import elapsed_s
from shared.configuration.store import RETRY_S, ConfigurationStore
from shared.errors import GatewayError


class Rejections:
    """Bound to one event loop. This process has already taken the account out, so a failed write only delays the others."""

    def __init__(self, store: ConfigurationStore, elapsed: Callable[[], float] = elapsed_s) -> None:
        self._store, self._elapsed = store, elapsed
        self._not_before_s = 0.0
        self._pending: dict[str, tuple[int, OutReason]] = {}
        self._writing: asyncio.Task[None] | None = None

    def add(self, account_id: str, revision: int, reason: OutReason) -> None:
        self._pending[account_id] = (revision, reason)
        self.flush()

    def flush(self) -> None:
        """Begins to write what was not written yet. Called for each request; after a failure it waits."""
        if self._pending and self._writing is None and self._elapsed() >= self._not_before_s:
            self._writing = asyncio.create_task(self._write())

    async def _write(self) -> None:
        try:
            while self._pending:
                account_id, (revision, reason) = next(iter(self._pending.items()))
                await report_out(self._store, account_id, revision, reason)
                if self._pending.get(account_id) == (revision, reason):
                    del self._pending[account_id]
        except GatewayError:
            # Reads of the configuration fail in the same way, and report it.
            self._not_before_s = self._elapsed() + RETRY_S
        finally:
            self._writing = None

    async def aclose(self) -> None:
        """Ends after the write that has begun."""
        if self._writing is not None:
            await asyncio.gather(self._writing, return_exceptions=True)
