"""One ideal queue, with no ledger, no network and no second process: how long its callers would wait. Pure."""

from __future__ import annotations

import heapq
from collections.abc import Sequence


def ideal_fifo(came_s: Sequence[float], limit: int, window_s: float) -> list[float]:
    """When each request is dispatched, first come first served, as early as any window of `window_s` allows; `came_s` is
    sorted. For callers who ask whether or not they were answered: their requests come as they came."""
    dispatched_s: list[float] = []
    for at, came in enumerate(came_s):
        first_s = dispatched_s[at - limit] + window_s if at >= limit else came
        before_s = dispatched_s[-1] if dispatched_s else came
        dispatched_s.append(max(came, first_s, before_s))
    return dispatched_s


def ideal_round(
    callers: int, limit: int, window_s: float, service_s: float, until_s: float
) -> list[tuple[float, float]]:
    """(came, dispatched) of each request until `until_s`, in seconds from the start, when `callers` come at once, each comes
    back as soon as it was answered, and one queue serves them in order, evenly at the limit.

    As early as possible would be bursts a window apart, between which everybody waits: evenly is what a queue's callers
    want. Requests as they came would say nothing here: callers in a closed loop come back when *ours* served them."""
    coming = [0.0] * callers
    done: list[tuple[float, float]] = []
    free_s = 0.0
    while True:
        came_s = heapq.heappop(coming)
        at_s = max(came_s, free_s)
        if at_s >= until_s:
            return done
        done.append((came_s, at_s))
        free_s = at_s + window_s / limit
        heapq.heappush(coming, at_s + service_s)
