"""The time of a store that lives on this machine: elapsed time plus an offset, so that it never steps."""

from __future__ import annotations

from shared.clock import elapsed_s
from shared.stores.port import TimeSample

_ROUNDING_S = 1e-6
"""A float of ms since 1970 is exact to 0.25 us. Without any width, about one sample in a thousand would contradict the
others by that much once the machine has been up for days (when elapsed ms have few digits to spare, too)."""


def sample(offset_ms: float) -> TimeSample:
    """The store's time now, where it shows `offset_ms` more than `elapsed_s()` does."""
    now_s = elapsed_s()
    return TimeSample(now_s * 1000 + offset_ms, now_s - _ROUNDING_S, now_s + _ROUNDING_S)
