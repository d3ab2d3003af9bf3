"""An event loop in a thread of its own, so that the library works in a script, in any thread, and under a running loop."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

T = TypeVar("T")
MAX_STOP_S = 5.0


class LoopThread:
    """The thread starts at the first call. After a fork, the child starts one of its own."""

    def __init__(self, name: str) -> None:
        self._name, self._lock = name, threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._pid = 0

    def submit(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """Runs `work` on the loop. Raises RuntimeError when it is called on the loop itself: waiting there would never end."""
        loop = self._running()
        if self._thread is threading.current_thread():
            work.close()
            raise RuntimeError("This was called on the library's own event loop; call it from your own thread or loop.")
        return asyncio.run_coroutine_threadsafe(work, loop)

    def call(self, work: Coroutine[Any, Any, T]) -> T:
        """Runs `work` on the loop and waits for it. If waiting is interrupted (Ctrl-C), the work is cancelled, and has a
        moment to return what it holds."""
        ended = threading.Event()

        async def watched() -> T:
            try:
                return await work
            finally:
                ended.set()

        future = self.submit(watched())
        try:
            return future.result()
        except BaseException:
            if not future.done() and future.cancel():
                ended.wait(MAX_STOP_S)
            raise

    def stop(self) -> None:
        """Ends the loop. Tasks that are left are cancelled; a thread that does not end in time is left to its process."""
        with self._lock:
            loop, thread, pid = self._loop, self._thread, self._pid
            self._loop = self._thread = None
        if loop is None or thread is None or pid != os.getpid() or thread is threading.current_thread():
            return
        loop.call_soon_threadsafe(loop.stop)
        thread.join(MAX_STOP_S)

    @property
    def is_running(self) -> bool:
        return self._loop is not None and self._pid == os.getpid() and bool(self._thread and self._thread.is_alive())

    def _running(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None or not self.is_running:
                self._loop, self._pid = asyncio.new_event_loop(), os.getpid()
                self._thread = threading.Thread(target=_run, args=(self._loop,), name=self._name, daemon=True)
                self._thread.start()
            return self._loop


def _run(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    try:
        loop.run_forever()
    finally:
        for task in (left := asyncio.all_tasks(loop)):
            task.cancel()
        if left:
            loop.run_until_complete(asyncio.wait(left, timeout=MAX_STOP_S / 2))
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()
