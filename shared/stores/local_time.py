"""The clock of a store on this machine: elapsed time plus a fixed offset, so that it never jumps."""

from __future__ import annotations

from shared.clock import elapsed_s
from shared.stores.port import TimeSample


def sample(offset_ms: float) -> TimeSample:
    """The store's time now: `elapsed_s()` plus `offset_ms`."""
    now_s = elapsed_s()
    return TimeSample(now_s * 1000 + offset_ms, now_s, now_s)
