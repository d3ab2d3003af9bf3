"""The geometry of time: how wide a slot is, how long a dispatch counts, and when a Pacific day begins and ends."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from typing import NamedTuple
from zoneinfo import ZoneInfo

SLOTS_PER_WINDOW = 240
JITTER_MS = 250
"""Maximum variation of the time between the last check of a permit and its request's arrival at Gemini (A1, A2).

It does not shrink with a test's window: a stalled process stalls just as long."""

HOUR_MS = 3_600_000
_PACIFIC = ZoneInfo("America/Los_Angeles")


class Grid(NamedTuple):
    """A window of `window_ms` cut into slots of `slot_ms`; a dispatch in slot d may share a window with any slot < d + span."""

    window_ms: int
    slot_ms: int
    span: int

    @classmethod
    def of(cls, window_s: float = 60.0) -> Grid:
        window_ms = round(window_s * 1000)
        slot_ms = max(1, window_ms // SLOTS_PER_WINDOW)
        return cls(window_ms, slot_ms, -(-(window_ms + JITTER_MS) // slot_ms) + 1)

    def slot(self, ms: float) -> int:
        return int(ms // self.slot_ms)

    def start_ms(self, slot: int) -> int:
        return slot * self.slot_ms

    def slots(self, ms: int) -> int:
        """Whole slots in `ms` of a 60 s window, scaled to this one; at least 1."""
        return max(1, round(ms * self.window_ms / 60_000 / self.slot_ms))

    def best_use(self) -> float:
        """The share of a rate limit that is usable when the window's shape at Gemini is unknown: 0.992 at 60 s."""
        return self.window_ms / (self.span * self.slot_ms)


class Day(NamedTuple):
    """A Pacific date as its ordinal, and the moments (ms since 1970) at which it begins and the next one does."""

    ordinal: int
    start_ms: int
    end_ms: int


@lru_cache(maxsize=8)
def _bounds(ordinal: int) -> Day:
    day = date.fromordinal(ordinal)
    start, end = (datetime.combine(d, time.min, _PACIFIC) for d in (day, day + timedelta(days=1)))
    return Day(ordinal, int(start.timestamp() * 1000), int(end.timestamp() * 1000))


def pacific_day(ms: float) -> Day:
    """The day whose count Gemini charges at `ms`: daily quotas reset at midnight Pacific time.

    Source: ai.google.dev/gemini-api/docs/rate-limits."""
    return _day_of_hour(int(ms // HOUR_MS))


@lru_cache(maxsize=64)
def _day_of_hour(hour: int) -> Day:
    """Midnight Pacific time is the beginning of an hour in UTC too, so an hour is in one day."""
    return _bounds(datetime.fromtimestamp(hour * HOUR_MS / 1000, UTC).astimezone(_PACIFIC).toordinal())
