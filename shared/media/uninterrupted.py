"""Finishes a write to a store although its caller leaves, so that its outcome is known when the caller's request ends."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

_Result = TypeVar("_Result")


async def uninterrupted(storing: Coroutine[Any, Any, _Result]) -> _Result:
    """The result of `storing`. A cancellation is raised after `storing` has ended; an error of `storing` is then dropped."""
    task = asyncio.ensure_future(storing)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        if not task.cancelled():
            # An error that nobody asks for is logged as a defect when the task is deleted.
            task.exception()
        raise
