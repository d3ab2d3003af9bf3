"""Several streams as one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
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


def one_stream(*sources: Source, note: Callable[[Exception], Exception] = lambda error: error) -> Any:
    return interleaved([source.items() for source in sources], note)


async def test_items_come_as_they_arrive() -> None:
    go = asyncio.Event()
    slow, fast = Source(go, "b"), Source("a")
    items = one_stream(slow, fast)
    assert await anext(items) == "a"
    go.set()
    assert [item async for item in items] == ["b"]
    assert slow.closed and fast.closed


async def test_a_source_that_fails_lets_the_others_end() -> None:
    go = asyncio.Event()
    first, second = ValueError("first"), ValueError("second")
    noted: list[Exception] = []

    def note(error: Exception) -> Exception:
        noted.append(error)
        if len(noted) == 2:
            go.set()
        return error

    found: list[str] = []
    with pytest.raises(ValueError) as raised:
        async for item in one_stream(Source("a", first), Source(second), Source("b", go, "c"), note=note):
            found.append(item)
    assert sorted(found) == ["a", "b", "c"]
    assert raised.value is noted[0]
    assert {first, second} == set(noted)


async def test_a_reader_that_leaves_closes_every_source() -> None:
    sources = [Source("a", asyncio.Event()) for _ in range(3)]
    items = one_stream(*sources)
    assert await anext(items) == "a"
    await items.aclose()
    assert all(source.closed for source in sources)


async def test_a_reader_that_waits_stops_its_sources() -> None:
    """At most as many items are kept as there are sources, and one in each hand."""
    sources = [Source(*["a"] * 100) for _ in range(2)]
    items = one_stream(*sources)
    await anext(items)
    for _ in range(100):
        await asyncio.sleep(0)
    assert sum(source.taken for source in sources) <= 1 + 2 + 2
    await items.aclose()
