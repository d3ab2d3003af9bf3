"""Several streams as one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import pytest

from shared.openai_api.interleaving import interleaved

Step = str | Exception | asyncio.Event


class Source:
    """Yields texts, waits for events, raises errors; knows whether it was closed."""

    def __init__(self, *steps: Step) -> None:
        self.steps = steps
        self.closed = False
        self.taken = 0

    async def items(self) -> AsyncGenerator[str, None]:
        try:
            for step in self.steps:
                if isinstance(step, Exception):
                    raise step
                if isinstance(step, asyncio.Event):
                    await step.wait()
                else:
                    self.taken += 1
                    yield step
        finally:
            self.closed = True


async def read(*sources: Source, into: list[str] | None = None, noted: list[Exception] | None = None) -> list[str]:
    found: list[str] = [] if into is None else into

    def note(error: Exception) -> Exception:
        if noted is not None:
            noted.append(error)
        return error

    async with aclosing(interleaved([source.items() for source in sources], note)) as items:
        async for item in items:
            found.append(item)
    return found


async def test_items_come_as_they_arrive() -> None:
    go = asyncio.Event()
    slow, fast = Source(go, "b"), Source("a")
    found: list[str] = []
    task = asyncio.create_task(read(slow, fast, into=found))
    while not found:
        await asyncio.sleep(0)
    assert found == ["a"]
    go.set()
    assert await task == ["a", "b"]
    assert slow.closed and fast.closed


async def test_a_source_that_fails_lets_the_others_end() -> None:
    go = asyncio.Event()
    first, second = ValueError("first"), ValueError("second")
    found: list[str] = []
    noted: list[Exception] = []
    others = [Source("a", first), Source(second), Source("b", go, "c")]
    task = asyncio.create_task(read(*others, into=found, noted=noted))
    while len(noted) < 2:
        await asyncio.sleep(0)
    go.set()
    with pytest.raises(ValueError, match="first|second"):
        await task
    assert sorted(found) == ["a", "b", "c"]
    assert {first, second} == set(noted)


async def test_a_reader_that_leaves_closes_every_source() -> None:
    sources = [Source("a", asyncio.Event()) for _ in range(3)]
    items: Any = interleaved([source.items() for source in sources], lambda error: error)
    assert await anext(items) == "a"
    await items.aclose()
    assert all(source.closed for source in sources)


async def test_a_reader_that_waits_stops_its_sources() -> None:
    """At most as many items are kept as there are sources, and one in each hand."""
    sources = [Source(*["a"] * 100) for _ in range(2)]
    items: Any = interleaved([source.items() for source in sources], lambda error: error)
    await anext(items)
    for _ in range(100):
        await asyncio.sleep(0)
    assert sum(source.taken for source in sources) <= 1 + 2 + 2
    await items.aclose()
