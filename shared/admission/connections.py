"""How many exchanges with Gemini this process may have open over all ledgers, and which request is next. Pure, except for
futures.

An exchange takes its connection together with its permit, and holds it until it has ended: the client's pool of connections
has as many, so nothing ever waits there with a permit that runs out. Waiting for a connection is waiting in the queue. Where
the server has keys of its own, callers' keys together hold at most half of the connections: a caller who brings
many keys could otherwise open slow exchanges on all connections.
"""

from __future__ import annotations

import asyncio
from collections import deque
from heapq import heappop, heappush
from typing import Generic, TypeVar

Line = TypeVar("Line")
Turn = tuple[float, int]
"""A place in the queue's order: tag and sequence number of a waiting request."""


class Connections(Generic[Line]):
    """`total` connections, of which guests (exchanges with callers' own keys) hold at most `guests`; None: as many as there
    are. A `Line` has requests that wait for a connection; the one whose first request has the earliest turn is next."""

    def __init__(self, total: int, guests: int | None = None) -> None:
        self.held = self.held_by_guests = 0
        self._turns: dict[Line, tuple[bool, Turn]] = {}
        """The lines that wait, with whether they are guests'."""
        self._order: tuple[list[tuple[Turn, int, Line]], list[tuple[Turn, int, Line]]] = ([], [])
        """Heaps of the server's lines and of guests'. An entry that is not in `_turns` is out of date."""
        self._entries = 0
        self._counting: tuple[deque[asyncio.Future[None]], deque[asyncio.Future[None]]] = (deque(), deque())
        self.resize(total, guests)

    def resize(self, total: int, guests: int | None) -> None:
        """Exchanges that are open beyond smaller numbers end as usual. The caller then serves the waiting lines."""
        self.total, self.guests = total, total if guests is None else guests
        self._serve_counting()

    def most(self, guest: bool) -> int:
        return self.guests if guest else self.total

    def has_room(self, guest: bool) -> bool:
        return self.held < self.total and (not guest or self.held_by_guests < self.guests)

    def take(self, guest: bool) -> None:
        """Take a connection. The caller has checked that one is free."""
        self.held += 1
        self.held_by_guests += guest

    def release(self, guest: bool) -> None:
        """Release a connection. The caller then serves the waiting lines: see `next_line`."""
        self.held -= 1
        self.held_by_guests -= guest
        self._serve_counting()

    def _serve_counting(self) -> None:
        for kind, counting in enumerate(self._counting):
            while counting and self.has_room(bool(kind)):
                turn = counting.popleft()
                if not turn.done():
                    self.take(bool(kind))
                    turn.set_result(None)

    async def wait(self, guest: bool) -> None:
        """Take a connection as soon as one is free, before the lines: for a short request that needs no permit."""
        if self.has_room(guest):
            self.take(guest)
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._counting[guest].append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.release(guest)
            raise

    def __contains__(self, line: Line) -> bool:
        return line in self._turns

    def enter(self, line: Line, guest: bool, turn: Turn) -> None:
        """`line` waits for a connection, with its first request's turn. One that waits already keeps its earliest turn."""
        known = self._turns.get(line)
        if known is None or turn < known[1]:
            self._turns[line] = (guest, turn)
            self._entries += 1
            heappush(self._order[guest], (turn, self._entries, line))

    def next_line(self) -> Line | None:
        """The line to serve now, removed from the order; None if no line waits for which a connection is free."""
        if not self._turns:
            return None
        heads = [
            order for kind, order in enumerate(self._order) if self.has_room(bool(kind)) and self._refreshed(order)
        ]
        if not heads:
            return None
        line = heappop(min(heads, key=lambda order: order[0][:2]))[2]
        del self._turns[line]
        return line

    def _refreshed(self, order: list[tuple[Turn, int, Line]]) -> bool:
        """Whether any line is in the order, after outdated entries at its head were removed."""
        while order:
            turn, _, line = order[0]
            if line in self._turns and self._turns[line][1] == turn:
                return True
            heappop(order)
        return False
