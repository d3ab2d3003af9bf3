"""Memory for large things that may wait for it, in the order of arrival."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Held:
    """What one holder has."""

    __slots__ = ("_room", "size_bytes")

    def __init__(self, room: ByteRoom, size_bytes: int) -> None:
        self._room, self.size_bytes = room, size_bytes

    def shrink(self, size_bytes: int) -> None:
        """Releases what is over `size_bytes`."""
        if size_bytes < self.size_bytes:
            self._room.release(self.size_bytes - size_bytes)
            self.size_bytes = size_bytes


class ByteRoom:
    """Bound to one event loop. Something larger than the whole room waits until it is empty."""

    def __init__(self, total_bytes: int) -> None:
        self.total_bytes = self._free = total_bytes
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    @asynccontextmanager
    async def hold(self, size_bytes: int) -> AsyncIterator[Held]:
        """Waits for the room. A holder must not ask for more while it holds some: two of them could wait for each other."""
        wanted = min(size_bytes, self.total_bytes)
        await self._take(wanted)
        held = Held(self, wanted)
        try:
            yield held
        finally:
            self.release(held.size_bytes)

    def release(self, size_bytes: int) -> None:
        self._free += size_bytes
        self._hand_out()

    async def _take(self, wanted: int) -> None:
        if not self._waiting and wanted <= self._free:
            self._free -= wanted
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        entry = (wanted, turn)
        self._waiting.append(entry)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._free += wanted
            else:
                self._waiting.remove(entry)
            self._hand_out()
            raise

    def _hand_out(self) -> None:
        while self._waiting and self._waiting[0][0] <= self._free:
            wanted, turn = self._waiting.popleft()
            if not turn.done():
                self._free -= wanted
                turn.set_result(None)
