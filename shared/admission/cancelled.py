"""Cancelled exchanges on which Gemini may still work: each keeps its concurrency slot until Gemini has ended it. Pure.

A closed connection does not show that Gemini stopped (assumption A4b of the ledger's README). Times are elapsed times in
seconds."""

from __future__ import annotations

from heapq import heappop, heappush

JITTER_S = 0.25
"""The travel times of requests to Gemini differ by at most this (A1): one that took longer to arrive also ends later."""
DRIFT = 1e-3
"""Other clocks measure the rest of an exchange at most this much faster (A3 allows 500 ppm for each of two)."""


def runs_on_s(left_s: float, usual_s: float | None) -> float:
    """How long Gemini may work on an exchange that was cancelled `left_s` before its deadline. `usual_s`: how much longer such
    an answer usually takes, None if unknown."""
    if usual_s is not None:
        left_s = min(left_s, usual_s + JITTER_S)
    return max(0.0, left_s) * (1 + DRIFT)


class Cancelled:
    """The cancelled exchanges of one ledger."""

    __slots__ = ("_ends_s",)

    def __init__(self) -> None:
        self._ends_s: list[float] = []
        """A heap of the times at which they are over."""

    def add(self, end_s: float) -> None:
        heappush(self._ends_s, end_s)

    def count(self, now_s: float) -> int:
        """How many keep a slot at `now_s`. Those that are over are forgotten."""
        while self._ends_s and self._ends_s[0] <= now_s:
            heappop(self._ends_s)
        return len(self._ends_s)

    def __len__(self) -> int:
        """How many are remembered; some may be over by now."""
        return len(self._ends_s)

    @property
    def next_end_s(self) -> float | None:
        """When the next one is over; None if none is remembered."""
        return self._ends_s[0] if self._ends_s else None

    def ends_ms(self, now_s: float, latest_ms: float) -> tuple[int, ...]:
        """When they are over by a clock that shows at most `latest_ms` at `now_s`."""
        return tuple(int(latest_ms + 1000 * (end_s - now_s)) + 1 for end_s in sorted(self._ends_s))
