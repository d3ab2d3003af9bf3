"""The store's time as an interval, its earliest and latest value, from samples and elapsed time alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from shared.clock import elapsed_s
from shared.stores.port import TimeSample

DRIFT = 500e-6
"""Elapsed time and the store's clock drift apart by less than this (A3); NTP slews by at most 500 ppm."""
ROUNDING_MS = 0.002
"""The precision of a sample: 0.25 us for a float of ms since 1970, 1 us for Firestore's times. Without this tolerance, samples
that were taken within microseconds would contradict each other."""


class Instant(NamedTuple):
    """One moment: elapsed time, and the store's time as an interval, which is valid only if `known`."""

    now_s: float
    earliest_ms: float
    latest_ms: float
    known: bool = True


class ServerClock:
    """`earliest_ms() <= the store's time <= latest_ms()` (ms since 1970) while `known`."""

    def __init__(self, elapsed: Callable[[], float] = elapsed_s) -> None:
        self._elapsed = elapsed
        self._low = self._high = 0.0
        self._at_s = 0.0
        self.known = False

    def observe(self, sample: TimeSample) -> bool:
        """Narrow the interval by a sample; False if it contradicts the interval, which is then forgotten."""
        now_s = self._elapsed()
        error_ms = max(0.0, now_s - sample.sent_s) * 1000 * DRIFT + ROUNDING_MS
        low = sample.server_ms - sample.received_s * 1000 - error_ms
        high = sample.server_ms - sample.sent_s * 1000 + error_ms
        consistent = True
        if self.known:
            wider = self._widening(now_s)
            old_low, old_high = self._low - wider, self._high + wider
            if low > old_high or high < old_low:
                consistent = False
            else:
                low, high = max(low, old_low), min(high, old_high)
        self._low, self._high, self._at_s, self.known = low, high, now_s, True
        return consistent

    def _widening(self, now_s: float) -> float:
        return (now_s - self._at_s) * (1000 * DRIFT) if now_s > self._at_s else 0.0

    def earliest_ms(self) -> float:
        now_s = self._elapsed()
        return now_s * 1000 + self._low - self._widening(now_s)

    def latest_ms(self) -> float:
        now_s = self._elapsed()
        return now_s * 1000 + self._high + self._widening(now_s)

    def bounds_ms(self) -> tuple[float, float]:
        now_s = self._elapsed()
        wider = self._widening(now_s)
        return now_s * 1000 + self._low - wider, now_s * 1000 + self._high + wider

    def instant(self) -> Instant:
        now_s = self._elapsed()
        now_ms, wider = now_s * 1000, self._widening(now_s)
        return Instant(now_s, now_ms + self._low - wider, now_ms + self._high + wider, self.known)
