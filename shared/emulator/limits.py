"""Whether one more request fits: exact sliding windows and a Pacific day's count. Pure: every time is an argument.

A request is admitted iff, with it, no window (t - length, t] holds more than the limit. Arrivals may be out of order (a large
body is decided on long after its headers arrived), so every window that contains the new arrival is checked, not only the
window that ends with it.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from .config import Limits
from .errors import Exceeded

PACIFIC = ZoneInfo("America/Los_Angeles")

# A request that is decided on up to this long after the newest arrival is still judged exactly.
LATENESS_S = 60.0
_TRIM_AT = 4096


class SlidingWindow:
    """Arrival times with a cost each, sorted; counts and sums over any window of `length_s` seconds."""

    def __init__(self, length_s: float) -> None:
        self.length_s = length_s
        self._times = array("d")
        # _sums[i] is the cost of the first i arrivals (and of those trimmed away), so it is one longer than _times.
        self._sums = array("q", [0])

    def peak_with(self, at_s: float, cost: int) -> tuple[int, int]:
        """The highest count and the highest cost of a window that contains `at_s`, were this arrival added."""
        times, sums = self._times, self._sums
        first_after = bisect_right(times, at_s)
        peak_count, peak_cost = 1, cost
        for end in self._ends(at_s, first_after):
            start = bisect_right(times, (at_s if end == first_after else times[end - 1]) - self.length_s)
            peak_count = max(peak_count, end - start + 1)
            peak_cost = max(peak_cost, sums[end] - sums[start] + cost)
        return peak_count, peak_cost

    def _ends(self, at_s: float, first_after: int) -> Iterator[int]:
        """Exclusive end indexes of the windows to check: those that end at `at_s` and at each later arrival."""
        yield first_after
        yield from range(first_after + 1, bisect_left(self._times, at_s + self.length_s) + 1)

    def add(self, at_s: float, cost: int) -> None:
        times, sums = self._times, self._sums
        index = bisect_right(times, at_s)
        if index == len(times):
            times.append(at_s)
            sums.append(sums[-1] + cost)
        else:
            times.insert(index, at_s)
            sums.insert(index + 1, sums[index])
            for later in range(index + 1, len(sums)):
                sums[later] += cost
        if len(times) >= _TRIM_AT and index == len(times) - 1:
            self._trim(at_s - self.length_s - LATENESS_S)

    def _trim(self, before_s: float) -> None:
        stale = bisect_right(self._times, before_s)
        if stale * 2 > len(self._times):
            del self._times[:stale]
            del self._sums[:stale]

    def wait_for_count_s(self, at_s: float, limit: int) -> float:
        """Seconds after `at_s` until a window has room for one more under `limit` (>= 1), if nothing else arrives."""
        index = len(self._times) - limit
        return max(0.0, self._times[index] + self.length_s - at_s) if index >= 0 else 0.0

    def wait_for_cost_s(self, at_s: float, limit: int, cost: int) -> float:
        """Like wait_for_count_s, for a cost. A cost above the whole limit never fits; the window's length is returned."""
        if cost > limit:
            return self.length_s
        sums = self._sums
        keep_from = bisect_right(self._times, at_s - self.length_s)
        while keep_from < len(self._times) and sums[-1] - sums[keep_from] > limit - cost:
            keep_from += 1
        return max(0.0, self._times[keep_from - 1] + self.length_s - at_s) if keep_from else 0.0


class ModelQuota:
    """The requests to one model of one project: admitted and offered, per window and per day.

    The maxima are over all windows since the last `forget_maxima`. `offered` includes rejected requests.
    """

    def __init__(self, length_s: float) -> None:
        self._admitted = SlidingWindow(length_s)
        self._offered = SlidingWindow(length_s)
        self._images = SlidingWindow(length_s)
        self._day_ends_s = 0.0
        self.day_count = 0
        self.max_requests = self.max_tokens = self.max_offered_requests = self.max_offered_tokens = self.max_images = 0

    def admit(
        self, at_s: float, tokens: int, limits: Limits, wall_s: float, images: int = 0, requests: int = 1
    ) -> list[Exceeded]:
        """Admits and counts a request that arrived at `at_s`, or returns every exceeded quota and counts only the offer.
        `wall_s` is Unix time, for the daily count. A batch counts as the `requests` that it has."""
        offered = self._offered.peak_with(at_s, tokens)
        _add(self._offered, at_s, tokens, requests)
        self.max_offered_requests = max(self.max_offered_requests, offered[0] + requests - 1)
        self.max_offered_tokens = max(self.max_offered_tokens, offered[1])
        if wall_s >= self._day_ends_s:
            self._day_ends_s, self.day_count = next_midnight_s(wall_s), 0
        count, cost = self._admitted.peak_with(at_s, tokens)
        count += requests - 1
        exceeded = self._exceeded(count, cost, at_s, tokens, limits, wall_s, requests)
        pictures = self._images.peak_with(at_s, images)[1] if images else 0
        if limits.ipm is not None and pictures > limits.ipm:
            exceeded.append(Exceeded("ipm", limits.ipm, self._images.wait_for_cost_s(at_s, limits.ipm, images)))
        if not exceeded:
            if images:
                self._images.add(at_s, images)
                self.max_images = max(self.max_images, pictures)
            _add(self._admitted, at_s, tokens, requests)
            self.day_count += requests
            self.max_requests = max(self.max_requests, count)
            self.max_tokens = max(self.max_tokens, cost)
        return exceeded

    def _exceeded(
        self, count: int, cost: int, at_s: float, tokens: int, limits: Limits, wall_s: float, requests: int
    ) -> list[Exceeded]:
        exceeded, window = [], self._admitted
        if limits.rpd is not None and self.day_count + requests > limits.rpd:
            exceeded.append(Exceeded("rpd", limits.rpd, self._day_ends_s - wall_s))
        if limits.rpm is not None and count > limits.rpm:
            room = limits.rpm - requests + 1
            wait_s = window.wait_for_count_s(at_s, room) if room > 0 else window.length_s
            exceeded.append(Exceeded("rpm", limits.rpm, wait_s))
        if limits.tpm is not None and cost > limits.tpm:
            exceeded.append(Exceeded("tpm", limits.tpm, window.wait_for_cost_s(at_s, limits.tpm, tokens)))
        return exceeded

    def forget_maxima(self) -> None:
        self.max_requests = self.max_tokens = self.max_offered_requests = self.max_offered_tokens = self.max_images = 0


def _add(window: SlidingWindow, at_s: float, tokens: int, requests: int) -> None:
    window.add(at_s, tokens)
    for _ in range(requests - 1):
        window.add(at_s, 0)


def next_midnight_s(wall_s: float) -> float:
    """The Unix time at which the Pacific day that holds `wall_s` ends."""
    tomorrow = datetime.fromtimestamp(wall_s, PACIFIC).date() + timedelta(days=1)
    return datetime(tomorrow.year, tomorrow.month, tomorrow.day, tzinfo=PACIFIC).astimezone(UTC).timestamp()
