"""Google's errors name a key's project. Where they name one project for keys that are counted apart, the ledgers are merged."""

from __future__ import annotations

import asyncio
import logging

from shared.accounts.account import Account
from shared.accounts.pool import Pool
from shared.admission.admission import Admission
from shared.admission.merge_ledgers import merge_accounts
from shared.clock import elapsed_s
from shared.stores.port import StoreError

log = logging.getLogger(__name__)

RETRY_S = 60.0
"""Wait after a failed merge until another error may begin it again."""


class ProjectMerges:
    """Bound to one event loop. One merge is under way at a time; no request waits for it."""

    def __init__(self, pool: Pool, admission: Admission) -> None:
        self._pool, self._admission = pool, admission
        self._merged: set[frozenset[str]] = set()
        """The groups of ledgers that this process has merged."""
        self._task: asyncio.Task[None] | None = None
        self._not_before_s = 0.0

    def learn_consumer(self, account: Account, consumer: str) -> None:
        """An error for this account named the Google project `consumer`."""
        self._pool.learn_consumer(account, consumer)
        if self._task is None and elapsed_s() >= self._not_before_s and (groups := self._groups()):
            self._task = asyncio.get_running_loop().create_task(self._merge(groups))

    def _groups(self) -> list[list[Account]]:
        """The accounts of one project that are counted by several ledgers, as far as this process knows."""
        by_id = {account.id: account for account in self._pool.server}
        groups = [[by_id[i] for i in ids] for ids in self._pool.same_projects()]
        return [group for group in groups if len(self._ledgers(group)) > 1 and self._ledgers(group) not in self._merged]

    def _ledgers(self, group: list[Account]) -> frozenset[str]:
        return frozenset(self._admission.clients.ledger_of(account) for account in group)

    async def _merge(self, groups: list[list[Account]]) -> None:
        window_ms = self._admission.process_config.grid.window_ms
        try:
            for group in groups:
                ledgers = self._ledgers(group)
                await merge_accounts(self._admission.store, group, [[one.id for one in group]], window_ms)
                self._merged.add(ledgers)
        except StoreError as error:
            self._not_before_s = elapsed_s() + RETRY_S
            log.warning("the ledgers of one project could not be merged yet: %s", error)
        finally:
            self._task = None

    async def aclose(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})
            self._task = None
