"""Ledgers of one Google project are merged while instances use them. In virtual time, except where no time passes."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from shared.admission.ledger_document import Merge
from shared.admission.merge_ledgers import MAX_TRIES, merge_ledgers
from shared.generation import Caller
from shared.ledger.packing import unpack
from shared.ledger.state import COLLECTION, State
from shared.stores.memory import MemoryStore, Shelf
from shared.stores.port import CommitUnknown
from tests.support.instances import Site, account
from tests.support.virtual_time import run

WINDOW_MS = 60_000


def state_of(shelf: Shelf, ledger: str) -> State:
    value = shelf.entries[COLLECTION + ledger].put.value
    return unpack(value)


class TestMerge:
    async def test_survivor_is_the_ledger_that_sorts_first(self):
        shelf = Shelf()
        assert await merge_ledgers(MemoryStore(shelf), "b", "a", WINDOW_MS) == "a"
        assert state_of(shelf, "b").moved == "a" and not state_of(shelf, "a").moved

    async def test_repeating_it_changes_nothing(self):
        shelf = Shelf()
        store = MemoryStore(shelf)
        await merge_ledgers(store, "a", "b", WINDOW_MS)
        before = {key: entry.put for key, entry in shelf.entries.items()}
        assert await merge_ledgers(store, "b", "a", WINDOW_MS) == "a"
        assert {key: entry.put for key, entry in shelf.entries.items()} == before

    @pytest.mark.parametrize("pairs", [("bc", "ab"), ("ac", "bc"), ("ab", "bc", "ac"), ("cb", "ba", "ac")])
    async def test_chains_end_at_one_ledger(self, pairs: tuple[str, ...]):
        shelf = Shelf()
        store = MemoryStore(shelf)
        results = [await merge_ledgers(store, *pair, WINDOW_MS) for pair in pairs]
        assert results[-1] == "a"
        assert [bool(state_of(shelf, ledger).moved) for ledger in "abc"] == [False, True, True]

    async def test_merges_at_the_same_time_agree(self):
        shelf = Shelf()
        stores = [MemoryStore(shelf) for _ in range(3)]
        pairs = zip(stores, ("ab", "ba", "bc"), strict=True)
        assert await asyncio.gather(*(merge_ledgers(store, *pair, WINDOW_MS) for store, pair in pairs)) == ["a"] * 3
        assert state_of(shelf, "b").moved == "a"

    async def test_lost_reply_is_followed_by_another_try(self):
        class LosesReplies(MemoryStore):
            tries = 0

            async def transact(self, keys, step, **options):  # type: ignore[no-untyped-def]
                self.tries += 1
                await super().transact(keys, step, **options)
                raise CommitUnknown("lost")

        shelf = Shelf()
        store = LosesReplies(shelf)
        with pytest.raises(CommitUnknown):
            await merge_ledgers(store, "a", "b", WINDOW_MS)
        assert store.tries == MAX_TRIES
        assert state_of(shelf, "b").moved == "a", "the first try did it"

    def test_both_documents_are_written_by_one_commit(self):
        change = Merge("b", "a", WINDOW_MS).step({COLLECTION + "a": None, COLLECTION + "b": None}, 0)
        assert set(change.writes) == {COLLECTION + "a", COLLECTION + "b"}


def site_of_two() -> tuple[Site, Site]:
    """Two instances, and the same ones as users of another ledger."""
    site = Site(replace(account(8, requests=60), id="one", ledger_id="a"))
    for _ in range(2):
        site.add()
    other = replace(site, account=replace(account(8, requests=60), id="two", ledger_id="b"))
    return site, other


class TestInstances:
    def test_waiting_requests_are_served_after_the_merge(self):
        async def story() -> tuple[int, list[int]]:
            site, other = site_of_two()
            asks = [
                asyncio.create_task(each.ask(at, f"c{n}")) for each in (site, other) for at in (0, 1) for n in range(12)
            ]
            await asyncio.sleep(0.5)
            await merge_ledgers(site.stores[0], "a", "b", WINDOW_MS)
            await asyncio.sleep(10.0)
            site.most_open = other.most_open = 0
            later = [
                asyncio.create_task(each.ask(at, f"d{n}")) for each in (site, other) for at in (0, 1) for n in range(2)
            ]
            await asyncio.gather(*asks, *later)
            state = state_of(site.shelf, "a")
            for gate in site.gates:
                assert gate.clients.ledger_of(other.account) == "a"
                assert gate.clients.known(other.account) is gate.clients.known(site.account)
                await gate.aclose()
            return len(site.served), [sum(state.sections["m"].days.values())]

        served, days = run(story)
        assert served == 56
        assert days[0] <= 56

    def test_instance_without_the_survivor_goes_on_with_its_client(self):
        async def story() -> None:
            _, other = site_of_two()
            await other.ask(0, "c")
            first = other.gates[0].projects["b"]
            await merge_ledgers(other.stores[1], "a", "b", WINDOW_MS)
            await other.ask(0, "c")
            await other.ask(0, "c")
            assert dict(other.gates[0].projects) == {"a": first}
            assert first.config.instance.endswith("@b")
            assert other.gates[0].clients.of(replace(other.account, ledger_id="a")) is first
            await other.gates[0].aclose()
            assert sum(state_of(other.shelf, "a").sections["m"].days.values()) == 3
            assert state_of(other.shelf, "b").sections == {}

        run(story)

    def test_permit_of_the_closed_ledger_stays_valid(self):
        async def story() -> None:
            _, other = site_of_two()
            gate = other.gates[0]
            permit = await gate.acquire([other.account], "m", other.cost, 1e9, Caller("c", "admin"))
            await merge_ledgers(other.stores[1], "a", "b", WINDOW_MS)
            permit.check()
            assert sum(lease.slots for lease in state_of(other.shelf, "a").leases.values()) >= 1
            await permit.close(50)
            await gate.aclose()
            state = state_of(other.shelf, "a")
            assert sum(state.sections["m"].days.values()) == 1
            assert not any(lease.slots for lease in state.leases.values())

        run(story)
