"""Notices that the client went away, and cancels the work that is done for it."""

from __future__ import annotations

import asyncio
from types import TracebackType

from starlette.types import Receive

from shared.errors import CallerGone


class DisconnectWatch:
    """`with DisconnectWatch(receive): ...` raises CallerGone out of the block when the client disconnects.

    ASGI tells it by a message of `receive`, so the body must have been read before. Costs one task, which does nothing
    until then. The work sees an ordinary CancelledError, and may use its `finally` to give back what it holds.
    """

    __slots__ = ("_gone", "_receive", "_task", "_watcher")

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._gone = False

    def __enter__(self) -> None:
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a disconnect is watched for from within a task")
        self._task = task
        self._watcher = asyncio.create_task(self._watch())

    async def _watch(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self._gone = True
        self._task.cancel()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        watcher, task = self._watcher, self._task
        # A cancelled task keeps its error, and that one's traceback a frame with this object.
        del self._watcher, self._task
        watcher.cancel()
        if not self._gone:
            return
        # Another cancellation (the server is shutting down) may have come on top of ours: that one goes on.
        if task.uncancel() == 0 and (kind is None or issubclass(kind, asyncio.CancelledError)):
            raise CallerGone("The caller closed the connection before the answer was ready.") from None
