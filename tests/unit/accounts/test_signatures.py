"""Which backend made a thought signature: written in one commit, read in one round trip."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from shared.accounts.signatures import LIFETIME_MS, MAX_READ, MAX_WRITTEN, SignatureBackends
from shared.stores.memory import MemoryStore, Shelf
from shared.stores.port import Outcome, StoreUnavailable


class Recording(MemoryStore):
    """Records the keys of each call and the size of its change."""

    def __init__(self, shelf: Shelf | None = None) -> None:
        super().__init__(shelf)
        self.calls: list[tuple[int, int]] = []
        self.is_down = False

    async def transact(self, keys: Sequence[str], step: Any, **rest: Any) -> Outcome[Any]:
        if self.is_down:
            raise StoreUnavailable("down")
        outcome = await super().transact(keys, step, **rest)
        self.calls.append((len(keys), outcome.writes))
        return outcome


async def test_an_answers_signatures_are_one_commit() -> None:
    shelf = Shelf()
    store = Recording(shelf)
    await SignatureBackends(store).record(["a", "b", "a"], "vertex")
    assert store.calls == [(2, 1)]
    other = Recording(shelf)
    assert await SignatureBackends(other).find(["a", "x", "b"]) == {"a": "vertex", "b": "vertex"}
    assert other.calls == [(3, 0)]


async def test_an_answer_without_signatures_writes_nothing() -> None:
    store = Recording()
    await SignatureBackends(store).record([], "api_key")
    assert store.calls == []


async def test_what_this_process_knows_is_not_read() -> None:
    store = Recording()
    backends = SignatureBackends(store)
    await backends.record(["a"], "api_key")
    assert await backends.find(["a"]) == {"a": "api_key"}
    assert store.calls == [(1, 1)]


async def test_an_entry_lives_for_a_day_and_has_no_signature() -> None:
    store = MemoryStore()
    await SignatureBackends(store).record(["a-signature"], "vertex")
    (key,) = await store.list("bindings/")
    entry = store._shelf.entries[key].put
    reading = await store.read(key)
    assert reading.value == b"vertex"
    assert "a-signature" not in key
    assert entry.expires_at_ms == pytest.approx(reading.sample.server_ms + LIFETIME_MS, abs=60_000)


async def test_a_failing_store_loses_no_answer(caplog: pytest.LogCaptureFixture) -> None:
    store = Recording()
    backends = SignatureBackends(store)
    store.is_down = True
    await backends.record(["a"], "api_key")
    assert await backends.find(["a", "b"]) == {"a": "api_key"}
    assert [record.levelname for record in caplog.records] == ["WARNING", "WARNING"]


async def test_writes_and_reads_are_bounded() -> None:
    store = Recording()
    backends = SignatureBackends(store)
    many = [str(number) for number in range(MAX_READ + 50)]
    await backends.record(many, "vertex")
    assert store.calls == [(MAX_WRITTEN, 1)]
    store.calls.clear()
    found = await SignatureBackends(store).find([*many[MAX_WRITTEN:], many[0]])
    assert found == {many[0]: "vertex"}
    assert sum(keys for keys, _ in store.calls) == len(many) - MAX_WRITTEN + 1
    store.calls.clear()
    await SignatureBackends(store).find(many)
    assert sum(keys for keys, _ in store.calls) == MAX_READ
