"""Memory that large things wait for."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

from shared.bounds.byte_room import ByteRoom


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_room_is_given_in_the_order_of_arrival() -> None:
    """A small one does not pass a large one, which would wait forever."""
    room, order = ByteRoom(10), list[str]()

    async def hold(name: str, size_bytes: int) -> None:
        async with room.hold(size_bytes):
            order.append(name)

    async with AsyncExitStack() as stack:
        await stack.enter_async_context(room.hold(6))
        tasks = [asyncio.create_task(hold("large", 8))]
        await settle()
        tasks.append(asyncio.create_task(hold("small", 1)))
        await settle()
        assert order == []
    await asyncio.gather(*tasks)
    assert order == ["large", "small"]


async def test_what_is_larger_than_the_room_gets_all_of_it() -> None:
    room = ByteRoom(10)
    async with room.hold(100) as held:
        assert held.size_bytes == 10


async def test_shrinking_lets_others_in() -> None:
    room = ByteRoom(10)
    async with room.hold(10) as held:
        waiting = asyncio.create_task(room._take(5))
        await settle()
        assert not waiting.done()
        held.shrink(5)
        await asyncio.wait_for(waiting, 10)
        held.shrink(9)
        assert held.size_bytes == 5


async def test_a_cancelled_wait_takes_nothing() -> None:
    room = ByteRoom(10)
    async with room.hold(10):
        waiting = asyncio.create_task(room._take(10))
        await settle()
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
    async with room.hold(10):
        pass
