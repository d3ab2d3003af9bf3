"""Events that are read ahead of a client: how far, at what cost in the byte budget, and how they end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import pytest

from shared.bounds.byte_budget import Bucket, ByteBudget
from shared.errors import UpstreamFailed
from shared.http.read_ahead import MAX_WAITING_BYTES, WRITE_BYTES, ReadAhead

SIZE_BYTES = 1000
BUCKET = Bucket("caller", known=True)


class Source:
    """Items of SIZE_BYTES, the number of which is the first byte; an error to raise; None: nothing to send."""

    def __init__(self, *items: int | Exception | None, total_bytes: int = 1 << 30) -> None:
        self.read = 0
        self.closed = self.begun = False
        self.budget = ByteBudget(total_bytes)
        self.items = self._items(items)
        self.ahead = ReadAhead(self.items, self._encoded, self.budget.claim(BUCKET))

    @staticmethod
    def _encoded(item: bytes | None) -> bytes:
        return item or b""

    async def _items(self, items: tuple[int | Exception | None, ...]) -> AsyncGenerator[bytes | None, None]:
        try:
            for item in items:
                if isinstance(item, Exception):
                    raise item
                self.read += 1
                yield None if item is None else bytes([item % 256]) * SIZE_BYTES
        finally:
            self.closed = True

    def _begins(self) -> None:
        self.begun = True

    async def started(self) -> ReadAhead[bytes | None]:
        """Read as far as it can be without a client."""
        self.ahead.start(self._begins)
        for _ in range(5):
            await asyncio.sleep(0)
        return self.ahead


async def all_of(ahead: ReadAhead[bytes | None]) -> list[bytes]:
    return [data async for data in taken(ahead)]


async def taken(ahead: ReadAhead[bytes | None]) -> AsyncGenerator[bytes, None]:
    while data := await ahead.take():
        yield data


async def test_a_short_source_is_over_before_it_is_taken() -> None:
    source = Source(1, None, 2)
    ahead = await source.started()
    assert (source.closed, source.read) == (True, 3)
    assert await all_of(ahead) == [b"\1" * SIZE_BYTES + b"\2" * SIZE_BYTES]
    await ahead.aclose()


async def test_a_long_source_waits_at_the_limit() -> None:
    count = 3 * MAX_WAITING_BYTES // SIZE_BYTES
    source = Source(*range(count))
    ahead = await source.started()
    assert source.read == -(-MAX_WAITING_BYTES // SIZE_BYTES)
    first = await ahead.take()
    for _ in range(5):
        await asyncio.sleep(0)
    assert source.read == -(-(MAX_WAITING_BYTES + len(first)) // SIZE_BYTES)
    rest = await all_of(ahead)
    assert first + b"".join(rest) == b"".join(bytes([number % 256]) * SIZE_BYTES for number in range(count))
    await ahead.aclose()


async def test_waiting_events_are_joined_up_to_a_limit() -> None:
    """What is handed over no longer counts here, so it must not be all."""
    source = Source(*range(100))
    ahead = await source.started()
    sizes = [len(data) for data in await all_of(ahead)]
    assert sum(sizes) == 100 * SIZE_BYTES
    assert max(sizes) == WRITE_BYTES // SIZE_BYTES * SIZE_BYTES
    await ahead.aclose()


async def test_waiting_events_count_in_the_byte_budget() -> None:
    source = Source(*range(50))
    ahead = await source.started()
    assert source.budget.used_bytes == 50 * SIZE_BYTES
    assert len(await all_of(ahead)) > 1
    assert source.budget.used_bytes == 0
    await ahead.aclose()


async def test_one_write_is_not_counted() -> None:
    """A client that keeps up costs the budget nothing."""
    source = Source(*range(WRITE_BYTES // SIZE_BYTES))
    ahead = await source.started()
    assert source.closed
    assert source.budget.used_bytes == 0
    await ahead.aclose()


async def test_a_full_budget_lets_one_write_wait() -> None:
    """The event that has no room stops the reading, and none is lost."""
    source = Source(*range(100), total_bytes=WRITE_BYTES // 2)
    ahead = await source.started()
    assert source.read == WRITE_BYTES // SIZE_BYTES + 1
    assert source.budget.used_bytes == 0
    assert len(b"".join(await all_of(ahead))) == 100 * SIZE_BYTES
    await ahead.aclose()


async def test_closing_while_full_closes_the_source() -> None:
    source = Source(*range(1000))
    ahead = await source.started()
    assert not source.closed
    await ahead.aclose()
    assert source.closed
    assert source.budget.used_bytes == 0


async def test_a_source_that_never_began_is_closed() -> None:
    source = Source(1)
    source.ahead.start(source._begins)
    await source.ahead.aclose()
    assert (source.read, source.items.ag_frame) == (0, None)


async def test_an_error_comes_after_the_events_before_it() -> None:
    source = Source(1, UpstreamFailed("Broken."))
    ahead = await source.started()
    ahead.check()
    assert await ahead.take() == b"\1" * SIZE_BYTES
    with pytest.raises(UpstreamFailed):
        await ahead.take()
    await ahead.aclose()


async def test_an_error_before_the_first_item_is_raised_first() -> None:
    source = Source(UpstreamFailed("Broken."))
    ahead = await source.started()
    assert source.begun
    with pytest.raises(UpstreamFailed):
        ahead.check()
    await ahead.aclose()


async def test_an_item_that_is_not_sent_begins_the_stream() -> None:
    source = Source(None, UpstreamFailed("Broken."))
    ahead = await source.started()
    assert source.begun
    ahead.check()
    await ahead.aclose()


async def test_an_empty_source_is_over() -> None:
    source = Source()
    ahead = await source.started()
    assert source.begun
    ahead.check()
    assert await ahead.take() == b""
    await ahead.aclose()
