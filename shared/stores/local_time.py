"""The clock of a store on this machine: elapsed time plus a fixed offset, so that it never jumps."""

from __future__ import annotations

from shared.clock import elapsed_s
from shared.stores.port import TimeSample

_ROUNDING_S = 1e-6
"""A float of ms since 1970 is exact to 0.25 us. Without this tolerance about one sample in a thousand would contradict the
others once the machine has been running for days."""


def sample(offset_ms: float) -> TimeSample:
    """The store's time now: `elapsed_s()` plus `offset_ms`."""
    now_s = elapsed_s()
    return TimeSample(now_s * 1000 + offset_ms, now_s - _ROUNDING_S, now_s + _ROUNDING_S)
