"""Time that passes only when no work is left: minutes of waiting take only as long as the work in them."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from contextlib import ExitStack
from types import SimpleNamespace
from typing import Any, TypeVar
from unittest.mock import patch

T = TypeVar("T")

START_S = 1000.0
WALL_S = 1_800_000_000.0
"""The time of day when elapsed time began. A store takes its time from it, so that the position of a test's start within a
slot does not depend on when the test runs."""


class _Jumping(selectors.SelectSelector):
    """A selector that advances the time where a real one would sleep."""

    def __init__(self) -> None:
        super().__init__()
        self.now_s = START_S

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if not ready:
            assert timeout is not None, "everything waits for something that nobody will do"
            self.now_s += max(0.0, timeout)
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._jumping = _Jumping()
        super().__init__(self._jumping)

    def time(self) -> float:
        return self._jumping.now_s


def run(main: Callable[[], Coroutine[Any, Any, T]], wall_s: float = WALL_S) -> T:
    """`main()` to its end, with asyncio's time, `clock.elapsed_s()` and the memory store's time of day on one virtual clock."""
    loop = VirtualLoop()
    clock = SimpleNamespace(
        clock_gettime=lambda _: loop.time(), monotonic=loop.time, time=lambda: wall_s + loop.time()
    )  # fmt: skip
    with ExitStack() as stack:
        for module in ("shared.clock", "shared.stores.memory"):
            stack.enter_context(patch(f"{module}.time", clock))
        return stack.enter_context(asyncio.Runner(loop_factory=lambda: loop)).run(main())
