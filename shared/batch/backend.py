"""What answers the tasks of a library's call: the engine of this process, or a gateway."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from shared.batch.item import Item, Task
from shared.batch.result import Result


@dataclass(frozen=True, slots=True)
class BatchOptions:
    model: str
    max_workers: int = 4
    """Maximum tasks that are sent and not delivered."""
    interval_s: float = 0.0
    """Minimum time between two dispatches, of all workers together, retries included."""
    paced_by: object | None = field(default=None, compare=False)
    """Runs with the same one keep the interval together; None: the run alone."""


Deliver = Callable[[Result], Awaitable[None]]
"""Returns when the result is where it has to be: another task may be taken."""


@runtime_checkable
class Counting(Protocol):
    """A backend that can count tokens without generating."""

    async def count(self, item: Item, model: str) -> tuple[int, bool]:
        """Input tokens, and whether Gemini itself counted them."""
        ...


class Backend(Protocol):
    """Bound to one event loop."""

    async def run(self, tasks: AsyncIterator[Task], options: BatchOptions, deliver: Deliver) -> None:
        """Delivers one result for each task, as they finish; a failure of an item is a result. Raises what `deliver` raises, and
        GatewayError where no task at all can be answered. Cancelling it ends what is in flight."""
        ...

    async def states(self) -> dict[str, dict[str, Any]]:
        """The states of the keys, as `get_keys_status_summary` returns them."""
        ...

    async def aclose(self) -> None: ...
