"""The ledgers of callers' own keys: each is read every few seconds at most, and only a bounded number is remembered."""

from __future__ import annotations

import pytest

from shared.ledger.packing import pack
from shared.ledger.state import State
from shared.openai_api import projects
from shared.openai_api.projects import OwnProjects
from shared.ops.health import CACHE_S
from shared.stores.memory import MemoryStore
from shared.stores.port import Change, Put, Reading


class CountedStore(MemoryStore):
    def __init__(self) -> None:
        super().__init__()
        self.reads: list[str] = []

    async def read(self, key: str, *, timeout_s: float = 5.0) -> Reading:
        self.reads.append(key.removeprefix("ledger/"))
        return await super().read(key, timeout_s=timeout_s)


async def test_a_ledger_is_read_again_when_it_is_old() -> None:
    store, now_s = CountedStore(), 100.0
    own = OwnProjects(lambda: now_s)
    for later_s in (0.0, CACHE_S - 0.1, 0.1):
        now_s += later_s
        project = await own.read(store, "a")
        assert project is not None
        assert project.state is None
    assert store.reads == ["a", "a"]


async def test_a_merged_ledger_leads_to_the_other() -> None:
    store = CountedStore()
    blob = pack(State(60_000, 1, moved="b"))
    await store.transact(["ledger/a"], lambda *_: Change(None, {"ledger/a": Put(blob)}))
    await OwnProjects().read(store, "a")
    assert store.reads == ["a", "b"]


async def test_the_oldest_ledger_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(projects, "MAX_REMEMBERED", 2)
    store, own = CountedStore(), OwnProjects(lambda: 0.0)
    for name in ("a", "b", "c", "b", "a"):
        await own.read(store, name)
    assert store.reads == ["a", "b", "c", "a"]
