"""Bindings of stored things: written once, expiring with the thing, and the same time for another caller's and an unknown one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from shared.accounts.bindings import REMEMBERED_S, Binding, Bindings
from shared.errors import LedgerUnavailable
from shared.stores.memory import MemoryStore, Shelf
from shared.stores.port import KEYS_PER_READ, CommitUnknown, Outcome, StoreUnavailable

LATER_MS = 4_000_000_000_000


class Counting(MemoryStore):
    """Counts the calls, and fails where a test says so."""

    def __init__(self, shelf: Shelf | None = None) -> None:
        super().__init__(shelf)
        self.calls: list[int] = []
        self.failures: list[Exception] = []

    async def transact(self, keys: Sequence[str], step: Any, **rest: Any) -> Outcome[Any]:
        self.calls.append(len(keys))
        if self.failures:
            raise self.failures.pop(0)
        return await super().transact(keys, step, **rest)


async def test_a_thing_is_found_by_other_processes() -> None:
    shelf = Shelf()
    assert await Bindings(MemoryStore(shelf)).bind("files/a", "name:one", "p", LATER_MS)
    other = Bindings(MemoryStore(shelf))
    assert await other.find(["files/a", "files/b"], "name:two") == {
        "files/a": Binding("name:one", "p"),
        "files/b": None,
    }


async def test_a_binding_is_written_once() -> None:
    bindings = Bindings(MemoryStore())
    assert await bindings.bind("files/a", "name:one", "p", LATER_MS)
    assert await bindings.bind("files/a", "name:one", "p", LATER_MS)
    assert not await bindings.bind("files/a", "name:two", "p", LATER_MS)
    assert not await bindings.bind("files/a", "name:one", "q", LATER_MS)
    assert await bindings.find(["files/a"], "name:one") == {"files/a": Binding("name:one", "p")}


async def test_a_binding_ends_with_the_thing() -> None:
    bindings = Bindings(MemoryStore())
    assert await bindings.bind("files/a", "name:one", "p", 1)
    assert await bindings.find(["files/a"], "name:one") == {"files/a": None}
    assert await bindings.bind("files/a", "name:two", "q", LATER_MS)


async def test_a_released_binding_is_forgotten() -> None:
    bindings = Bindings(MemoryStore())
    await bindings.bind("files/a", "name:one", "p", LATER_MS)
    assert (await bindings.find(["files/a"], "name:one"))["files/a"] is not None
    await bindings.release("files/a")
    assert await bindings.find(["files/a"], "name:one") == {"files/a": None}


async def test_the_store_never_has_the_name() -> None:
    """A name is enough to use the thing."""
    store = MemoryStore()
    await Bindings(store).bind("files/the-name", "name:one", "p", LATER_MS)
    (key,) = await store.list("bindings/")
    value = (await store.read(key)).value
    assert value is not None
    assert "the-name" not in key + value.decode()


async def test_only_the_owner_is_answered_without_the_store() -> None:
    """A caller learns from the time neither that a name exists nor that it does not."""
    now_s = 0.0
    store = Counting()
    bindings = Bindings(store, elapsed=lambda: now_s)
    await bindings.bind("files/a", "name:one", "p", LATER_MS)
    store.calls.clear()
    for caller, name, calls in (
        ("name:one", "files/a", 1),
        ("name:one", "files/a", 0),
        ("name:two", "files/a", 1),
        ("name:two", "files/a", 1),
        ("name:two", "files/unknown", 1),
        ("name:two", "files/unknown", 1),
    ):
        store.calls.clear()
        await bindings.find([name], caller)
        assert store.calls == [1] * calls, (caller, name)
    now_s = REMEMBERED_S
    store.calls.clear()
    await bindings.find(["files/a"], "name:one")
    assert store.calls == [1]


async def test_many_names_are_read_in_few_calls() -> None:
    store = Counting()
    names = [f"files/{number}" for number in range(2 * KEYS_PER_READ + 1)]
    assert await Bindings(store).find(names, "name:one") == dict.fromkeys(names)
    assert sorted(store.calls) == [1, KEYS_PER_READ, KEYS_PER_READ]


async def test_a_lost_commit_is_repeated_once() -> None:
    store = Counting()
    store.failures = [CommitUnknown("lost")]
    assert await Bindings(store).bind("files/a", "name:one", "p", LATER_MS)
    store.failures = [CommitUnknown("lost"), CommitUnknown("lost")]
    with pytest.raises(LedgerUnavailable):
        await Bindings(store).bind("files/b", "name:one", "p", LATER_MS)


async def test_without_the_store_nothing_is_answered() -> None:
    store = Counting()
    bindings = Bindings(store)
    for call in (
        bindings.bind("files/a", "name:one", "p", LATER_MS),
        bindings.find(["files/a"], "name:one"),
        bindings.release("files/a"),
    ):
        store.failures = [StoreUnavailable("down")]
        with pytest.raises(LedgerUnavailable, match="owners of stored files cannot be read"):
            await call
