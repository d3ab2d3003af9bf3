"""How one request carries a batch on: what it stores, and when, whatever its client and its stores do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import orjson
import pytest

from functions.batch import carrying
from functions.batch.carrying import Carrying
from functions.batch.lines import items_of
from shared.batch.item import Task
from shared.batch.record import BatchRecord
from shared.batch.result import Result
from shared.batch.stored import StoredBatches
from shared.clock import elapsed_s
from shared.errors import LedgerUnavailable, QueueFull
from shared.media.port import FILES
from shared.media.url import open_objects
from shared.stores.memory import MemoryStore

AT = ("anna", "b")


class Claim:
    """Holds at most `most` bytes."""

    def __init__(self, most: int) -> None:
        self.most = most

    def cover(self, size_bytes: int) -> None:
        if size_bytes > self.most:
            raise QueueFull("Full; retry later.", retry_after_s=1.0)


class Bench:
    """A batch, and a request that carries it on. Items after the first one are answered while `gate` is open."""

    def __init__(self, folder: Path) -> None:
        objects = open_objects(f"file://{folder}", FILES)
        self.batches = StoredBatches(MemoryStore(), lambda: objects)
        self.gate = asyncio.Event()
        self.gate.set()
        self.begun: list[int] = []
        self.claim = Claim(1 << 20)

    async def answer(self, task: Task) -> Result:
        self.begun.append(task.index)
        if task.index:
            await self.gate.wait()
        return Result(task.index, f"answer {task.index}", None, task.metadata, task.id)

    async def make(self, total: int) -> None:
        lines = [orjson.dumps({"prompt": f"number {number}"}) for number in range(total)]
        options = {"model": "m", "max_workers": 2}
        await self.batches.create(*AT, items_of(lines, {}), "d", total, options, 1_796_000_000_000)

    async def lines(self) -> AsyncGenerator[Any, None]:
        patience = SimpleNamespace(stated=False, of_silence=False)
        call: Any = SimpleNamespace(patience=patience, received_s=elapsed_s(), claim=self.claim)
        carried = Carrying(call, self.batches, *AT, await self.batches.take(*AT), 0)
        answering: Any = SimpleNamespace(answer=self.answer)
        carried._answering = lambda: answering  # type: ignore[method-assign]
        return carried.lines()

    async def record(self) -> BatchRecord:
        return (await self.batches.describe(*AT))[0]


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    for name in ("WRITE_S", "MIN_LOOK_S"):
        monkeypatch.setattr(carrying, name, 0.01)
    return Bench(tmp_path)


async def read(lines: AsyncGenerator[Any, None]) -> list[dict[str, Any]]:
    return [orjson.loads(line) for chunk in [one async for one in lines] for line in chunk.splitlines()]


def indexes(lines: list[dict[str, Any]]) -> list[int]:
    return sorted(line["index"] for line in lines if line["type"] == "result")


async def until(condition: Any) -> None:
    async with asyncio.timeout(50):
        while not await condition():  # noqa: ASYNC110 - a store has no event
            await asyncio.sleep(0.005)


async def test_results_are_stored_while_the_client_does_not_read(bench: Bench) -> None:
    """A slow client must cost neither the lease nor what was paid for."""
    await bench.make(6)
    lines = await bench.lines()
    await anext(lines)

    async def all_stored() -> bool:
        return (await bench.record()).done_count == 6

    await until(all_stored)
    await lines.aclose()
    assert indexes(await read(await bench.lines())) == list(range(6)) and len(bench.begun) == 6


async def test_a_client_that_leaves_between_two_lines(bench: Bench) -> None:
    """What is in flight is finished and stored before the lease is released."""
    await bench.make(6)
    bench.gate.clear()
    lines = await bench.lines()
    await anext(lines)
    leaving = asyncio.create_task(lines.aclose())
    await asyncio.sleep(0)
    bench.gate.set()
    await leaving
    record, in_flight = await bench.record(), len(bench.begun)
    assert (record.done_count, record.lease_until_ms) == (in_flight, 0) and in_flight > 1


async def test_the_lease_is_renewed_after_the_client_left(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise another request would generate again what is in flight."""
    monkeypatch.setattr(carrying, "RENEW_S", 0.0)
    await bench.make(2)
    bench.gate.clear()
    lines = await bench.lines()
    reading = asyncio.create_task(read(lines))

    async def in_flight() -> bool:
        return len(bench.begun) == 2

    await until(in_flight)
    reading.cancel()
    before = (await bench.record()).lease_until_ms

    async def renewed() -> bool:
        return (await bench.record()).lease_until_ms > before

    await until(renewed)
    bench.gate.set()
    await asyncio.gather(reading, return_exceptions=True)
    assert (await bench.record()).done_count == 2


@pytest.mark.parametrize("applied", [True, False])
async def test_a_write_is_repeated_as_it_was(bench: Bench, monkeypatch: pytest.MonkeyPatch, applied: bool) -> None:
    """Its reply was lost. The results that came meanwhile are another segment, else one of both would be lost or twice."""
    await bench.make(6)
    plain, failures = StoredBatches.add, 1

    async def add(self: StoredBatches, *arguments: Any) -> BatchRecord:
        nonlocal failures
        if not failures:
            return await plain(self, *arguments)
        failures -= 1
        if applied:
            await plain(self, *arguments)
        raise LedgerUnavailable("The store is away.", retry_after_s=1)

    plain_answer = bench.answer

    async def answer(task: Task) -> Result:
        async def failed() -> bool:
            return not failures

        if task.index:
            await until(failed)
        return await plain_answer(task)

    monkeypatch.setattr(bench, "answer", answer)
    monkeypatch.setattr(StoredBatches, "add", add)
    found = indexes(await read(await bench.lines()))
    assert set(found) < set(range(7)) and len(found) == len(set(found))
    assert indexes(await read(await bench.lines())) == list(range(6)) and sorted(bench.begun) == list(range(6))
    assert (await bench.record()).segments[0] == [1, 1]


async def test_a_store_that_stays_away_ends_the_response(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    async def add(self: StoredBatches, *arguments: Any) -> BatchRecord:
        raise LedgerUnavailable("The store is away.", retry_after_s=1)

    monkeypatch.setattr(StoredBatches, "add", add)
    monkeypatch.setattr(carrying, "LEFT_S", 0.05)
    await bench.make(6)
    with pytest.raises(LedgerUnavailable):
        await read(await bench.lines())
    record, now_ms = await bench.batches.describe(*AT)
    assert (record.state(now_ms), record.done_count) == ("open", 0)


async def test_items_are_read_only_where_memory_has_room(bench: Bench) -> None:
    await bench.make(6)
    bench.claim.most = 10
    with pytest.raises(QueueFull):
        await read(await bench.lines())
    record, now_ms = await bench.batches.describe(*AT)
    assert record.state(now_ms) == "open" and not bench.begun
