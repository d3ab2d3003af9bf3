"""An event loop in a thread of its own, so that the library works in a script, in any thread, and under a running loop."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Coroutine
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

T = TypeVar("T")
MAX_STOP_S = 5.0
WAKE_S = 0.5


@dataclass(frozen=True, slots=True, eq=False)
class _Running:
    """One loop and its thread, of one process."""

    loop: asyncio.AbstractEventLoop
    thread: threading.Thread
    pid: int
    waited_for: set[Future[Any]] = field(default_factory=set)
    """Results of work that has not ended."""


class LoopThread:
    """The thread starts at the first call. After a fork, the child starts one of its own."""

    def __init__(self, name: str) -> None:
        self._name, self._lock = name, threading.Lock()
        self._running: _Running | None = None

    def submit(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """Runs `work` on the loop. Raises RuntimeError when it is called on the loop itself: waiting there would never end."""
        with self._lock:
            running = self._started()
            if running.thread is not threading.current_thread():
                future = asyncio.run_coroutine_threadsafe(work, running.loop)
                running.waited_for.add(future)
                future.add_done_callback(running.waited_for.discard)
                return future
        work.close()
        raise RuntimeError("This was called on the library's own event loop; call it from your own thread or loop.")

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
        running = self._running
        if running is not None and running.thread is threading.current_thread():
            watched.close()
            return
        if running is None:
            watched.close()
        else:
            # The loop may end meanwhile, and then cancels all work itself.
            with suppress(RuntimeError):
                running.loop.call_soon_threadsafe(watched.cancel)
        watched.ended.wait(MAX_STOP_S)

    def stop(self) -> None:
        """Ends the loop. Tasks that are left are cancelled; a thread that does not end in time is left to its process."""
        with self._lock:
            running, self._running = self._running, None
        if running is None or running.pid != os.getpid() or running.thread is threading.current_thread():
            return
        with suppress(RuntimeError):
            running.loop.call_soon_threadsafe(running.loop.stop)
        running.thread.join(MAX_STOP_S)

    @property
    def is_running(self) -> bool:
        running = self._running
        return running is not None and running.pid == os.getpid() and running.thread.is_alive()

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The loop on which work runs now. Another one after `stop`, a fork, or the end of the thread."""
        with self._lock:
            return self._started().loop

    def _started(self) -> _Running:
        if self._running is None or not self.is_running:
            loop = asyncio.new_event_loop()
            thread = threading.Thread(target=lambda: self._run(running), name=self._name, daemon=True)
            self._running = running = _Running(loop, thread, os.getpid())
            thread.start()
        return self._running

    def _run(self, running: _Running) -> None:
        asyncio.set_event_loop(running.loop)
        try:
            running.loop.run_forever()
        finally:
            with self._lock:
                if self._running is running:
                    self._running = None
            _end(running)


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
        """There is no loop to run it: ends work that has not begun."""
        if self._task is None:
            self._work.close()
            self.ended.set()

    def cancel(self) -> None:
        """Called on the loop."""
        self._is_cancelled = True
        if self._task is None:
            self.ended.set()
        else:
            self._task.cancel()


def _end(running: _Running) -> None:
    """Nothing is submitted to the loop any more."""
    loop = running.loop
    try:
        for task in (left := asyncio.all_tasks(loop)):
            task.cancel()
        if left:
            loop.run_until_complete(asyncio.wait(left, timeout=MAX_STOP_S / 2))
        loop.run_until_complete(loop.shutdown_asyncgens())
    finally:
        loop.close()
        for future in list(running.waited_for):
            with suppress(InvalidStateError):
                future.set_exception(RuntimeError("The library's event loop ended before the work; call it again."))
