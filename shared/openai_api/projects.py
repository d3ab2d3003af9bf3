"""The Google projects that serve a caller, and their ledgers: the server's, or that of the caller's own key.

The server's are read as GET /health reads them. Anybody can invent keys, so of callers' own projects only a few are read at once;
beyond that, what is used is unknown.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple
from weakref import WeakKeyDictionary

from shared.accounts.account import Account
from shared.clock import elapsed_s
from shared.http.call import Call
from shared.ops.health import CACHE_S, Project, read_project
from shared.ops.project_use import ModelUse, model_use
from shared.stores.port import Store

MAX_READS_AT_ONCE = 8
MAX_REMEMBERED = 1_000


class Projects(NamedTuple):
    accounts: Sequence[Account]
    """Those that may serve the caller."""
    ledgers: Mapping[str, Project]
    """Those that were read, by the id of the ledger."""

    def use(self, model: str) -> ModelUse:
        return model_use(model, self.accounts, self.ledgers)


async def projects_of(call: Call) -> Projects:
    """Raises InvalidGeminiKey for a key that Gemini rejected recently."""
    if call.caller.caller_key is None:
        ledger = await call.services.ledger()
        return Projects(call.services.pool.server, ledger.projects)
    (account,) = call.services.pool.candidates(call.caller)
    store = call.services.store
    project = await _by_store.setdefault(store, OwnProjects()).read(store, account.ledger_id)
    return Projects([account], {} if project is None else {account.ledger_id: project})


class OwnProjects:
    """The ledgers of callers' own keys in a store, each at most CACHE_S old."""

    def __init__(self, elapsed: Callable[[], float] = elapsed_s) -> None:
        self._elapsed = elapsed
        self._remembered: OrderedDict[str, tuple[float, Project]] = OrderedDict()
        self._reads = 0

    async def read(self, store: Store, ledger_id: str) -> Project | None:
        """None if too many are being read."""
        expires_s, project = self._remembered.get(ledger_id, (0.0, None))
        if project is not None and self._elapsed() < expires_s:
            return project
        if self._reads >= MAX_READS_AT_ONCE:
            return None
        self._reads += 1
        try:
            project = await read_project(store, ledger_id)
        finally:
            self._reads -= 1
        self._remembered[ledger_id] = (self._elapsed() + CACHE_S, project)
        self._remembered.move_to_end(ledger_id)
        if len(self._remembered) > MAX_REMEMBERED:
            self._remembered.popitem(last=False)
        return project


_by_store: WeakKeyDictionary[Store, OwnProjects] = WeakKeyDictionary()
