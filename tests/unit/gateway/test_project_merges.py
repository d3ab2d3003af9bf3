"""Errors that name one project for two keys merge their ledgers."""

from __future__ import annotations

import pytest

from shared.accounts.account import Account
from shared.accounts.pool import Pool
from shared.admission.admission import Admission, AdmissionConfig
from shared.admission.config import ProcessConfig
from shared.gateway.project_merges import ProjectMerges
from shared.ledger.grid import Grid
from shared.ledger.limits import Limits
from shared.ledger.packing import unpack
from shared.secret import Secret
from shared.stores.memory import MemoryStore, Shelf
from shared.stores.port import Outcome, StoreUnavailable


class CountedStore(MemoryStore):
    down = False
    tried = 0

    async def transact(self, *given: object, **more: object) -> Outcome:  # type: ignore[override, type-arg]
        self.tried += 1
        if self.down:
            raise StoreUnavailable("the store is down")
        return await super().transact(*given, **more)  # type: ignore[arg-type]


class Site:
    def __init__(self) -> None:
        self.accounts = [Account(name, f"k-{name}", Secret(name), 5, Limits()) for name in "abc"]
        self.shelf = Shelf()
        self.store = CountedStore(self.shelf)
        self.pool = Pool(self.accounts, caller_limits=Limits(), caller_concurrency=5)
        admission = Admission(self.store, ProcessConfig("i", Grid.of(60), tau_s=60.0), AdmissionConfig())
        self.merges = ProjectMerges(self.pool, admission)

    async def hear(self, *named: tuple[int, str]) -> None:
        for at, consumer in named:
            self.merges.learn_consumer(self.accounts[at], consumer)
        if self.merges._task is not None:
            await self.merges._task

    def moved(self) -> dict[str, str]:
        return {key: unpack(entry.put.value).moved for key, entry in self.shelf.entries.items()}


async def test_two_keys_of_one_project_get_one_ledger():
    site = Site()
    await site.hear((0, "7"), (1, "8"))
    assert site.store.tried == 0
    await site.hear((2, "7"))
    assert site.moved() == {"ledger/k-a": "", "ledger/k-c": "k-a"}


async def test_further_errors_merge_nothing_again():
    site = Site()
    await site.hear((0, "7"), (2, "7"))
    await site.hear((0, "7"), (2, "7"))
    assert site.store.tried == 1


async def test_failed_merge_is_repeated_later(monkeypatch: pytest.MonkeyPatch):
    site = Site()
    site.store.down = True
    await site.hear((0, "7"), (2, "7"))
    site.store.down = False
    await site.hear((2, "7"))
    assert (site.store.tried, site.moved()) == (1, {})
    monkeypatch.setattr(site.merges, "_not_before_s", 0.0)
    await site.hear((2, "7"))
    assert site.moved()["ledger/k-c"] == "k-a"


async def test_shutdown_ends_a_merge_that_is_under_way():
    site = Site()
    for at in (0, 2):
        site.merges.learn_consumer(site.accounts[at], "7")
    task = site.merges._task
    await site.merges.aclose()
    assert task is not None and task.cancelled()
    assert site.moved() == {}
