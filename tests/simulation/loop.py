"""Virtual time: an asyncio event loop that jumps from one timer to the next, and processes that drift, freeze and die on it."""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import time
from collections import deque
from collections.abc import Callable, Coroutine, Iterator
from contextvars import Context, ContextVar, copy_context
from typing import TYPE_CHECKING, Any

import shared.clock

STEPS_AT_ONE_MOMENT = 100_000
"""With more callbacks than this while no time passes, a process spins."""

_process: ContextVar[Process] = ContextVar("process")


class Livelock(Exception):
    """No time passes while callbacks run."""


class Process:
    """One operating-system process: its clock counts from its boot and drifts; its CPU may stop, and it may be killed.

    Time passes only at awaits, so every fault strikes at an await."""

    def __init__(self, loop: VirtualLoop, name: str, *, drift: float = 0.0, boot_s: float = 0.0) -> None:
        self.loop, self.name = loop, name
        self.rate, self.boot_s = 1.0 + drift, boot_s
        self.wall_step_s = 0.0
        self.killed = self.frozen = False
        self._stops: set[str] = set()
        self.steps = 0
        self.strikes: dict[int, list[Callable[[], None]]] = {}
        """What befalls it right before its n-th callback."""
        self._backlog: list[Handle] = []
        self._tasks: set[asyncio.Task[Any]] = set()
        self._context = copy_context()
        self._context.run(_process.set, self)

    def elapsed_s(self) -> float:
        return self.boot_s + self.loop.now_s * self.rate

    def true_s(self, elapsed_s: float) -> float:
        return (elapsed_s - self.boot_s) / self.rate

    def spawn(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        return self.loop.create_task(work, context=self._context.copy())

    def owns(self, task: asyncio.Task[Any]) -> None:
        # A strong reference: a task of a killed process must not run its `finally` when it is collected.
        self._tasks.add(task)
        if len(self._tasks) > 64:
            self._tasks = {task for task in self._tasks if not task.done()}

    def freeze(self, reason: str) -> None:
        """Stop its CPU, until every reason has ended."""
        self._stops.add(reason)
        self.frozen = True

    def hold(self, handle: Handle) -> None:
        self._backlog.append(handle)

    def thaw(self, reason: str) -> None:
        """Handle what arrived meanwhile before the timers that are due, as an event loop does after a stop."""
        self._stops.discard(reason)
        if self.frozen and not self._stops:
            self.frozen = False
            backlog, self._backlog = self._backlog, []
            self.loop.resume(sorted(backlog, key=lambda handle: handle.is_timer))

    def kill(self) -> None:
        self.killed = True
        self._backlog.clear()

    def bury(self) -> None:
        """End the remaining tasks once the loop is closed, so that what their `finally` blocks start has no effect."""
        asyncio._set_running_loop(self.loop)
        for task in self._tasks:
            if not task.done():
                task._log_destroy_pending = False  # type: ignore[attr-defined]
                for _ in range(20):
                    try:
                        task.get_coro().close()
                    except BaseException:  # noqa: BLE001, S112 - it awaits once more, or fails: nobody is there to be told.
                        continue
                    break
        self._tasks.clear()
        asyncio._set_running_loop(None)


class Handle:
    """A callback of the process `owner`; None: of the world."""

    __slots__ = ("args", "callback", "context", "dropped", "is_timer", "owner")

    def __init__(
        self,
        callback: Callable[..., object],
        args: tuple[Any, ...],
        context: Context,
        owner: Process | None,
        *,
        is_timer: bool,
    ) -> None:
        self.callback, self.args, self.context, self.owner = callback, args, context, owner
        self.is_timer, self.dropped = is_timer, False

    def cancel(self) -> None:
        self.dropped = True

    def cancelled(self) -> bool:
        return self.dropped


if TYPE_CHECKING:
    _EventLoop: (
        Any  # For the type checker every method of an event loop is abstract; this class has those that are used.
    )
else:
    _EventLoop = asyncio.AbstractEventLoop


class VirtualLoop(_EventLoop):  # type: ignore[misc]
    """What asyncio's futures, tasks, timeouts and waits need of a loop. A callback belongs to the process that scheduled it."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.current: Process | None = None
        self.errors: list[str] = []
        self._heap: list[tuple[float, int, Handle]] = []
        self._ready: deque[Handle] = deque()
        self._sequence = 0
        self._closed = False
        self._world = copy_context()

    # -- what asyncio calls ------------------------------------------------------------------------------------------

    def time(self) -> float:
        return self.now_s if self.current is None else self.current.elapsed_s()

    def get_debug(self) -> bool:
        return False

    def is_closed(self) -> bool:
        return self._closed

    def is_running(self) -> bool:
        return not self._closed

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(self, coro: Any, *, name: str | None = None, context: Context | None = None) -> asyncio.Task[Any]:
        if self._closed:
            coro.close()
            return self.create_future()  # type: ignore[return-value]
        task = asyncio.Task(coro, loop=self, name=name, context=context)
        owner = self.current if context is None else context.get(_process)
        if owner is not None:
            owner.owns(task)
        return task

    def call_soon(self, callback: Any, *args: Any, context: Context | None = None) -> Any:
        handle = self._handle(callback, args, context, is_timer=False)
        if not self._closed:
            self._ready.append(handle)
        return handle

    call_soon_threadsafe = call_soon

    def call_later(self, delay: float, callback: Any, *args: Any, context: Context | None = None) -> Any:
        handle = self._handle(callback, args, context, is_timer=True)
        rate = 1.0 if handle.owner is None else handle.owner.rate
        self._push(self.now_s + max(0.0, delay) / rate, handle)
        return handle

    def call_at(self, when: float, callback: Any, *args: Any, context: Context | None = None) -> Any:
        handle = self._handle(callback, args, context, is_timer=True)
        true_s = when if handle.owner is None else handle.owner.true_s(when)
        self._push(max(self.now_s, true_s), handle)
        return handle

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        if not self._closed:
            self.errors.append(f"{context.get('message')}: {context.get('exception')!r}")

    # -- what the world calls ----------------------------------------------------------------------------------------

    def post(self, delay_s: float, callback: Callable[..., object], *args: Any) -> None:
        """Schedule a callback of the world: messages travel on even if their sender is frozen or dead."""
        self._push(self.now_s + delay_s, Handle(callback, args, self._world, None, is_timer=True))

    def resume(self, handles: list[Handle]) -> None:
        self._ready.extend(handles)

    def run_until(self, end_s: float) -> None:
        """Run everything that is due until `end_s` (virtual time)."""
        asyncio._set_running_loop(self)
        try:
            steps = 0
            while True:
                steps += 1
                if steps > STEPS_AT_ONE_MOMENT:
                    raise Livelock(f"{STEPS_AT_ONE_MOMENT} callbacks at {self.now_s:.6f} s")
                if self._ready:
                    self._run(self._ready.popleft())
                elif self._heap and self._heap[0][0] <= end_s:
                    due_s, _, handle = heapq.heappop(self._heap)
                    if due_s > self.now_s:
                        self.now_s, steps = due_s, 0
                    if not handle.dropped:
                        self._ready.append(handle)
                else:
                    self.now_s = max(self.now_s, end_s)
                    return
        finally:
            asyncio._set_running_loop(None)

    def close(self) -> None:
        self._closed = True
        self._heap.clear()
        self._ready.clear()

    # ----------------------------------------------------------------------------------------------------------------

    def _handle(self, callback: Any, args: tuple[Any, ...], context: Context | None, *, is_timer: bool) -> Handle:
        owner = self.current if context is None else context.get(_process)
        return Handle(callback, args, context or copy_context(), owner, is_timer=is_timer)

    def _push(self, at_s: float, handle: Handle) -> None:
        if not self._closed:
            self._sequence += 1
            heapq.heappush(self._heap, (at_s, self._sequence, handle))

    def _run(self, handle: Handle) -> None:
        owner = handle.owner
        if handle.dropped or (owner is not None and owner.killed):
            return
        if owner is not None:
            if not owner.frozen:
                owner.steps += 1
                for strike in owner.strikes.pop(owner.steps, ()) if owner.strikes else ():
                    strike()
            if owner.frozen or owner.killed:
                owner.hold(handle)
                return
        self.current = owner
        try:
            handle.context.run(handle.callback, *handle.args)
        except Exception as error:  # noqa: BLE001 - one callback's failure is reported, and the others run, as in asyncio's loop.
            self.call_exception_handler({"message": "a callback failed", "exception": error})
        finally:
            self.current = None


class _VirtualTime:
    """Replaces the module `time` in shared.clock."""

    def __init__(self, loop: VirtualLoop) -> None:
        self.monotonic = loop.time

    def clock_gettime(self, clock: int) -> float:
        return self.monotonic()


@contextlib.contextmanager
def virtual_clocks(loop: VirtualLoop, wall_s: float) -> Iterator[None]:
    """While entered, elapsed time is the running process's, and so is the wall clock, which is wrong where it was stepped."""

    def wall() -> float:
        current = loop.current
        return wall_s + loop.now_s + (0.0 if current is None else current.wall_step_s)

    real, real_wall = shared.clock.time, time.time
    shared.clock.time = _VirtualTime(loop)  # type: ignore[assignment]
    time.time = wall
    try:
        yield
    finally:
        shared.clock.time = real
        time.time = real_wall
