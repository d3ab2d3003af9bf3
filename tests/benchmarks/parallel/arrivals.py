"""What the offline Gemini saw, judged over every window. Pure."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from typing import Any, NamedTuple


class Seen(NamedTuple):
    """`used`: the part of the limit that was used from the end of the first window to the last full moment."""

    admitted: int
    rejected: int
    used: float | None
    most_in_a_window: int


def seen(
    stats: dict[str, Any], model: str, limit: float, *, tokens: bool = False, until_s: float | None = None
) -> Seen:
    """`stats`: GET /stats with arrivals. `limit`: of a window. `until_s`: how many seconds after the first arrival the load was
    still complete; the rest is not judged."""
    window_s = stats["window_s"]
    found = [m for project in stats["projects"].values() for name, m in project["models"].items() if name == model]
    pairs = sorted(
        (at_s, weight if tokens else 1)
        for one in found
        for at_s, weight in zip(one["arrivals"]["at_s"], one["arrivals"]["tokens"], strict=True)
    )
    times = [at_s for at_s, _ in pairs]
    rejected = sum(sum(one["refused"].values()) for one in found)
    most = max((one["max_tokens_in_window" if tokens else "max_requests_in_window"] for one in found), default=0)
    return Seen(len(times), rejected, used(pairs, times, window_s, limit, until_s), most)


def used(
    pairs: Sequence[tuple[float, int]], times: Sequence[float], window_s: float, limit: float, until_s: float | None
) -> float | None:
    """Over whole windows only: what a window began with, its end gives back."""
    if not times:
        return None
    begin_s, end_s = times[0] + window_s, times[-1] if until_s is None else times[0] + until_s
    windows = int((end_s - begin_s) // window_s)
    if windows < 1:
        return None
    first, last = bisect_left(times, begin_s), bisect_left(times, begin_s + windows * window_s)
    return sum(weight for _, weight in pairs[first:last]) / (limit * windows)
