"""Cancels the work for a client that disconnects."""

from __future__ import annotations

import asyncio
from types import TracebackType

from starlette.types import Receive

from shared.errors import CallerGone


class DisconnectWatch:
    """`with DisconnectWatch(receive): ...` raises CallerGone out of the block when the client disconnects.

    ASGI reports a disconnect as a message of `receive`, so the body must have been read before. Costs one idle task. The
    work receives an ordinary CancelledError, and releases its resources in `finally`.
    """

    __slots__ = ("_gone", "_receive", "_task", "_watcher")

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._gone = False

    def __enter__(self) -> None:
        loop = asyncio.get_running_loop()
        task = asyncio.current_task(loop)
        if task is None:
            raise RuntimeError("use DisconnectWatch inside a task")
        self._task = task
        self._watcher = loop.create_task(self._watch())

    async def _watch(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self._gone = True
        self._task.cancel()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        watcher, task = self._watcher, self._task
        # A cancelled task refers to its error, whose traceback refers to a frame with this object: no cycle.
        del self._watcher, self._task
        watcher.cancel()
        if not self._gone:
            return
        # Another cancellation (the server is shutting down) may have been added to ours; it must continue.
        if task.uncancel() == 0 and (kind is None or issubclass(kind, asyncio.CancelledError)):
            raise CallerGone("The caller closed the connection before the response was ready.") from None
