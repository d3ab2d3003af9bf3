"""The time of a store that lives on this machine: elapsed time plus an offset, so that it never steps."""

from __future__ import annotations

from shared.clock import elapsed_s
from shared.stores.port import TimeSample

_ROUNDING_S = 1e-6
"""A float of ms since 1970 is exact to 0.25 us: a sample without any width would seem to contradict the next one."""


def sample(offset_ms: float) -> TimeSample:
    """The store's time now, where it shows `offset_ms` more than `elapsed_s()` does."""
    now_s = elapsed_s()
    return TimeSample(now_s * 1000 + offset_ms, now_s - _ROUNDING_S, now_s + _ROUNDING_S)
