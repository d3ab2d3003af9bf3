"""An event loop in a thread of its own, so that the library works in a script, in any thread, and under a running loop."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Coroutine
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, Generic, TypeVar

T = TypeVar("T")
MAX_STOP_S = 5.0
WAKE_S = 0.5


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
        watched = Watched(work)
        try:
            return _waited_for(self.submit(watched.run()))
        except BaseException:
            # An interrupt may come at any line, also before `submit` has returned.
            self.end(watched)
            raise

    def end(self, watched: Watched[Any]) -> None:
        """Cancels work, and waits a moment for its end."""
        loop = self._loop
        if loop is None or loop.is_closed() or self._thread is threading.current_thread():
            watched.close()
        else:
            loop.call_soon_threadsafe(watched.cancel)
            watched.ended.wait(MAX_STOP_S)

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


def _waited_for(future: Future[T]) -> T:
    """The result. Wakes up now and then: a signal that another thread got does not end a wait of the main thread."""
    while not future.done():
        with suppress(TimeoutError):
            future.result(WAKE_S)
    return future.result()


class Watched(Generic[T]):
    """Work that can be cancelled from another thread, which can wait for its end."""

    def __init__(self, work: Coroutine[Any, Any, T]) -> None:
        self._work = work
        self._task: asyncio.Task[Any] | None = None
        self._is_cancelled = False
        self.ended = threading.Event()

    async def run(self) -> T:
        self._task = asyncio.current_task()
        try:
            if self._is_cancelled:
                self._work.close()
                raise asyncio.CancelledError
            return await self._work
        finally:
            self.ended.set()

    def close(self) -> None:
        """Work that will never run."""
        self._work.close()
        self.ended.set()

    def cancel(self) -> None:
        """Called on the loop."""
        self._is_cancelled = True
        if self._task is None:
            self.ended.set()
        else:
            self._task.cancel()


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
