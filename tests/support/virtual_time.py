"""Time that passes only when nothing is left to do: minutes of waiting take as long as the work in them."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from types import SimpleNamespace
from typing import Any, TypeVar
from unittest.mock import patch

T = TypeVar("T")

START_S = 1000.0


class _Jumping(selectors.SelectSelector):
    """Where a real one would sleep, this one moves the time on."""

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


def run(main: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """`main()` to its end, with asyncio's time and `clock.elapsed_s()` on one virtual clock."""
    loop = VirtualLoop()
    clock = SimpleNamespace(clock_gettime=lambda _: loop.time(), monotonic=loop.time)
    with patch("shared.clock.time", clock), asyncio.Runner(loop_factory=lambda: loop) as runner:
        return runner.run(main())
