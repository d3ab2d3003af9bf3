"""How long the requests of one process may occupy Gemini: the deadlines of open ones, and the longest that is expected. Pure.

A lease covers deadlines: the ledger gives the slots of a process that died to others when the last request that it may have
sent has ended. So a process states in each renew how long its requests last, and begins none that ends later than its lease
covers. Times are elapsed times in seconds, `*_ms` are the store's."""

from __future__ import annotations

import math

from shared.admission.cancelled import DRIFT, JITTER_S
from shared.ledger.step import MIN_DEADLINE_MS

MIN_DEADLINE_S = MIN_DEADLINE_MS / 1000


class Deadlines:
    """The deadlines of one project's requests. `longest_s` bounds the time of each; `kept_s`: how long an own deadline is
    expected again, which is forgotten after twice that time at most."""

    __slots__ = ("_before_s", "_ends_s", "_kept_s", "_now_s", "_since_s", "longest_s", "margin_s")

    def __init__(self, longest_s: float, kept_s: float) -> None:
        self.longest_s = longest_s
        self.margin_s = JITTER_S + DRIFT * longest_s
        """A request may arrive at Gemini this much later, or end later by its clock (A1, A3)."""
        self._kept_s = kept_s
        self._ends_s: dict[int, float] = {}
        """When each open request ends at the latest."""
        self._since_s = 0.0
        """When the current period of `kept_s` began."""
        self._now_s = self._before_s = 0.0
        """The longest time of a request that came in the current period, and in the one before."""

    def expect(self, time_s: float, now_s: float) -> None:
        """Record that a request came which may last `time_s` from now on."""
        if now_s - self._since_s >= self._kept_s:
            self._before_s = self._now_s if now_s - self._since_s < 2 * self._kept_s else 0.0
            self._now_s, self._since_s = 0.0, now_s
        self._now_s = max(self._now_s, time_s)

    def begin(self, request: int, end_s: float, now_s: float) -> None:
        """`request` is open until `end_s` at the latest. A second call never shortens that."""
        self._ends_s[request] = max(now_s + self._bounded(end_s - now_s), self._ends_s.get(request, 0.0))

    def end(self, request: int) -> None:
        """`request` is not open any more. Unknown ones are ignored."""
        self._ends_s.pop(request, None)

    def _bounded(self, time_s: float) -> float:
        # Three times for each request: comparisons cost less than calls of min and max.
        if time_s < MIN_DEADLINE_S:
            time_s = MIN_DEADLINE_S
        return time_s if time_s < self.longest_s else self.longest_s

    def ends_ms(self, end_s: float, now_s: float, latest_ms: float) -> float:
        """When a request that is dispatched now with the deadline `end_s` has ended at Gemini, by a clock that shows at most
        `latest_ms`."""
        return latest_ms + 1000 * (self._bounded(end_s - now_s) + self.margin_s)

    def expected_ms(self, now_s: float) -> int:
        """How long after its dispatch the longest request that is expected has ended at Gemini."""
        old = now_s - self._since_s
        recent_s = (
            max(self._now_s, self._before_s) if old < self._kept_s else self._now_s if old < 2 * self._kept_s else 0.0
        )
        return math.ceil(1000 * (self._bounded(recent_s) + self.margin_s))

    def open_until_ms(self, now_s: float, latest_ms: float) -> int:
        """When all open requests have ended at Gemini; 0 if none is open."""
        if not self._ends_s:
            return 0
        return math.ceil(latest_ms + 1000 * (max(self._ends_s.values()) - now_s + self.margin_s))
