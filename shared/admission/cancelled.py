"""Cancelled exchanges on which Gemini may still work: each keeps its concurrency slot until Gemini has ended it. Pure.

A closed connection does not show that Gemini stopped (assumption A4b of the ledger's README). Times are elapsed times in
seconds."""

from __future__ import annotations

from bisect import bisect_right, insort

JITTER_S = 0.25
"""Travel times of requests to Gemini differ by at most this (A1): a request that took longer to arrive also ends later."""
DRIFT = 1e-3
"""Two clocks differ by at most this fraction of the time that they measure (A3 allows 500 ppm for each)."""


def runs_on_s(took_s: float, deadline_s: float, usual_s: float | None) -> float:
    """How long Gemini may still work on an exchange that was cancelled after `took_s`. Gemini ends it `deadline_s` after its
    beginning by its own clock, which may be slower: so also an exchange that is cancelled at its deadline runs on for a moment.
    `usual_s`: how much longer such an answer usually takes, None if unknown."""
    left_s = deadline_s * (1 + DRIFT) - took_s
    if usual_s is not None:
        left_s = min(left_s, (usual_s + JITTER_S) * (1 + DRIFT))
    return max(0.0, left_s)


class Cancelled:
    """The cancelled exchanges of one ledger."""

    __slots__ = ("_ends_s",)

    def __init__(self) -> None:
        self._ends_s: list[float] = []
        """When they are over, in order."""

    def __bool__(self) -> bool:
        """Whether any exchange is remembered, even if it is over by now."""
        return bool(self._ends_s)

    def add(self, end_s: float) -> None:
        insort(self._ends_s, end_s)

    def count(self, now_s: float) -> int:
        """The number of exchanges that keep a slot at `now_s`."""
        return len(self._ends_s) - bisect_right(self._ends_s, now_s)

    def forget(self, now_s: float) -> bool:
        """Forget exchanges that are over at `now_s`. Returns whether there were any."""
        over = bisect_right(self._ends_s, now_s)
        del self._ends_s[:over]
        return over > 0

    @property
    def next_end_s(self) -> float | None:
        """When the next exchange is over; None if none is remembered."""
        return self._ends_s[0] if self._ends_s else None

    def ends_ms(self, now_s: float, latest_ms: float) -> tuple[int, ...]:
        """When the exchanges are over, by a clock that shows at most `latest_ms` at `now_s`."""
        return tuple(int(latest_ms + 1000 * (end_s - now_s)) + 1 for end_s in self._ends_s)
