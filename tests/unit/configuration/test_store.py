"""Reading on the request path: how often, together, and while the store fails."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from shared.configuration.document import Configuration
from shared.configuration.store import KEY, RETRY_S, ConfigurationStore
from shared.errors import StaleConfiguration, Unavailable
from shared.stores.memory import MemoryStore, Shelf
from shared.stores.port import Change, Put, Reading, StoreUnavailable


class Clock:
    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


class CountingStore(MemoryStore):
    def __init__(self, shelf: Shelf) -> None:
        super().__init__(shelf)
        self.reads = 0
        self.fails = False
        self.hold: asyncio.Event | None = None

    async def read(self, key: str, *, timeout_s: float = 5.0) -> Reading:
        self.reads += 1
        reading = await super().read(key, timeout_s=timeout_s)
        if self.hold is not None:
            await self.hold.wait()
        if self.fails:
            raise StoreUnavailable("The store cannot be reached.")
        return reading


class Rig:
    def __init__(self) -> None:
        self.shelf, self.clock = Shelf(), Clock()
        self.store = CountingStore(self.shelf)
        self.problems: list[str] = []
        self.configurations = ConfigurationStore(self.store, log=self.problems.append, elapsed=self.clock)
        self.others = ConfigurationStore(MemoryStore(self.shelf))

    async def set_elsewhere(self, concurrency: int) -> Configuration:
        return await self.others.change(lambda now: replace(now, concurrency=concurrency))


@pytest.fixture
def rig() -> Rig:
    return Rig()


async def test_absent_document_is_version_0(rig: Rig) -> None:
    assert await rig.configurations.read() == Configuration()


async def test_is_read_once_in_five_seconds(rig: Rig) -> None:
    for _ in range(100):
        await rig.configurations.read()
    assert rig.store.reads == 1
    await rig.set_elsewhere(7)
    rig.clock.now_s += 5.1
    assert (await rig.configurations.read()).concurrency == 7
    assert rig.store.reads == 2


async def test_concurrent_callers_share_one_read(rig: Rig) -> None:
    rig.store.hold = asyncio.Event()
    reading = [asyncio.create_task(rig.configurations.read()) for _ in range(50)]
    await asyncio.sleep(0)
    reading[0].cancel()
    rig.store.hold.set()
    assert await asyncio.gather(*reading[1:]) == [Configuration()] * 49
    assert rig.store.reads == 1


async def test_own_change_is_known_at_once(rig: Rig) -> None:
    await rig.configurations.read()
    await rig.configurations.change(lambda now: replace(now, concurrency=3))
    assert (await rig.configurations.read()).concurrency == 3
    assert rig.store.reads == 1


async def test_a_read_that_began_before_an_own_change_does_not_undo_it(rig: Rig) -> None:
    await rig.configurations.read()
    rig.clock.now_s += 6
    rig.store.hold = asyncio.Event()
    reading = asyncio.create_task(rig.configurations.read())
    await asyncio.sleep(0.01)
    await rig.configurations.change(lambda now: replace(now, concurrency=3))
    rig.store.hold.set()
    await reading
    assert (await rig.configurations.read()).concurrency == 3


class TestFailures:
    async def test_last_known_value_stays_and_one_line_is_logged(self, rig: Rig) -> None:
        await rig.set_elsewhere(7)
        await rig.configurations.read()
        rig.store.fails = True
        for _ in range(4):
            rig.clock.now_s += 6
            assert (await rig.configurations.read()).concurrency == 7
        assert len(rig.problems) == 1
        assert "cannot be read" in rig.problems[0]
        rig.store.fails = False
        rig.clock.now_s += 6
        await rig.set_elsewhere(8)
        assert (await rig.configurations.read()).concurrency == 8

    async def test_failed_read_is_not_repeated_at_once(self, rig: Rig) -> None:
        await rig.configurations.read()
        rig.store.fails = True
        rig.clock.now_s += 6
        for _ in range(20):
            await rig.configurations.read(max_age_s=0.0)
        assert rig.store.reads == 2
        rig.clock.now_s += RETRY_S + 0.1
        await rig.configurations.read()
        assert rig.store.reads == 3

    async def test_what_was_never_read_is_unknown_and_not_empty(self, rig: Rig) -> None:
        rig.store.fails = True
        for _ in range(3):
            with pytest.raises(Unavailable, match="cannot be read"):
                await rig.configurations.read()
        assert len(rig.problems) == 1
        rig.store.fails = False
        assert await rig.configurations.read() == Configuration()

    async def test_slow_store_delays_nobody_who_knows_a_value(self, rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("shared.configuration.store.MAX_WAIT_S", 0.0)
        await rig.configurations.read()
        rig.clock.now_s += 6
        rig.store.hold = asyncio.Event()
        assert await asyncio.wait_for(rig.configurations.read(), 10) == Configuration()
        await rig.configurations.aclose()

    async def test_hostile_document_leaves_the_last_known_one(self, rig: Rig) -> None:
        await rig.set_elsewhere(7)
        await rig.configurations.read()
        await rig.store.transact([KEY], lambda _, now: Change(None, {KEY: Put(b'{"concurrency": "<script>"}')}))
        rig.clock.now_s += 6
        assert (await rig.configurations.read()).concurrency == 7
        assert "concurrency" in rig.problems[0]
        assert "<script>" not in rig.problems[0]


class TestChanges:
    async def test_a_change_that_changes_nothing_is_no_version(self, rig: Rig) -> None:
        first = await rig.set_elsewhere(7)
        assert (await rig.set_elsewhere(7)).version == first.version == 1

    async def test_second_of_two_writers_is_told_what_changed(self, rig: Rig) -> None:
        seen = await rig.configurations.read()
        await rig.set_elsewhere(7)
        with pytest.raises(StaleConfiguration, match="Changed since: concurrency") as found:
            await rig.configurations.change(lambda now: replace(now, tier="free"), expected_version=seen.version)
        assert found.value.status == 409
        assert (await rig.others.read(0.0)).tier is None

    async def test_what_a_changer_raises_is_raised_and_nothing_is_written(self, rig: Rig) -> None:
        with pytest.raises(Unavailable, match="x"):
            await rig.configurations.change(lambda now: (_ for _ in ()).throw(Unavailable("x")))
        assert rig.shelf.entries == {}
