"""The memory store beyond the contract: what it keeps, and what it lets go."""

from __future__ import annotations

from shared.stores.memory import MemoryStore, Shelf
from shared.stores.port import Change, Put


async def test_expired_entries_are_let_go() -> None:
    shelf = Shelf()
    store = MemoryStore(shelf)
    for i in range(5_000):
        await store.transact([f"n/{i}"], lambda values, _now: Change(None, {key: Put(b"x", 1) for key in values}))
    assert len(shelf.entries) <= 1_100


async def test_entries_that_last_are_all_kept() -> None:
    store = MemoryStore()
    for i in range(3_000):
        await store.transact([f"n/{i}"], lambda values, _now: Change(None, {key: Put(b"x") for key in values}))
    assert len(await store.list("n/", limit=10_000)) == 3_000


async def test_two_stores_share_nothing_unless_they_share_a_shelf() -> None:
    one, two = MemoryStore(), MemoryStore()
    await one.transact(["n/a"], lambda _values, _now: Change(None, {"n/a": Put(b"x")}))
    assert (await two.read("n/a")).value is None
