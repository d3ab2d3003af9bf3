"""Looks up host names for callers, in threads because the system's resolver blocks, and with a share for each caller.

A silent name server occupies a thread for up to half a minute, longer than any request waits. So one caller has at most
MAX_OF_ONE look-ups at once, all callers without an admin key together have MAX_OF_STRANGERS, and the rest is for known
callers. A look-up counts until its thread has ended. Waiting look-ups are served in the order of arrival, except those
whose caller has used up its share.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Sequence
from typing import NamedTuple

MAX_AT_ONCE = 128
"""Maximum threads; one that waits for a name server takes about 30 KB."""
MAX_OF_STRANGERS = 96
MAX_OF_ONE = 2


class Asker(NamedTuple):
    """The caller that a name is looked up for."""

    id: str
    stranger: bool


class LookUps:
    """Bound to the event loop of its first look-up."""

    def __init__(self) -> None:
        self._running: dict[str, int] = {}
        """Running look-ups by the asker's id."""
        self._strangers = 0
        self._waiting: dict[asyncio.Future[None], Asker] = {}

    async def resolve(self, asker: Asker, host: str, port: int) -> Sequence[str]:
        """The addresses of `host`. Waits for a free thread first. Raises OSError and UnicodeError."""
        await self._turn(asker)
        loop = asyncio.get_running_loop()
        found: asyncio.Future[Sequence[str]] = loop.create_future()

        def finish(result: Sequence[str] | Exception) -> None:
            self._release(asker)
            if found.done():
                return  # The caller no longer waits.
            if isinstance(result, Exception):
                found.set_exception(result)
            else:
                found.set_result(result)

        def look_up() -> None:
            result: Sequence[str] | Exception
            try:
                result = _addresses(host, port)
            except (OSError, UnicodeError) as error:
                result = error
            if not loop.is_closed():
                loop.call_soon_threadsafe(finish, result)

        # Not in an executor, whose threads are joined at the process's end: a silent name server would delay that.
        thread = threading.Thread(target=look_up, name="look-up", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:  # The system cannot start another thread.
            self._release(asker)
            raise OSError(str(error)) from None
        return await found

    async def _turn(self, asker: Asker) -> None:
        if self._has_room(asker):
            self._take(asker)
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting[turn] = asker
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._release(asker)
            raise
        finally:
            self._waiting.pop(turn, None)

    def _has_room(self, asker: Asker) -> bool:
        if self._running.get(asker.id, 0) >= MAX_OF_ONE or (asker.stranger and self._strangers >= MAX_OF_STRANGERS):
            return False
        return sum(self._running.values()) < MAX_AT_ONCE

    def _take(self, asker: Asker) -> None:
        self._running[asker.id] = self._running.get(asker.id, 0) + 1
        self._strangers += asker.stranger

    def _release(self, asker: Asker) -> None:
        left = self._running[asker.id] - 1
        if left:
            self._running[asker.id] = left
        else:
            del self._running[asker.id]
        self._strangers -= asker.stranger
        for turn, waiting in self._waiting.items():
            if not turn.done() and self._has_room(waiting):
                self._take(waiting)
                turn.set_result(None)
                return


def _addresses(host: str, port: int) -> Sequence[str]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(address[0]) for *_, address in found]
