"""Elapsed time, the only local time that decisions use. `admission.server_clock` estimates the store's time."""

from __future__ import annotations

import time

_BOOTTIME: int | None = getattr(time, "CLOCK_BOOTTIME", None)


def elapsed_s() -> float:
    """Seconds on a clock that never steps. On Linux it also counts while the machine is suspended (CLOCK_BOOTTIME)."""
    if _BOOTTIME is None:
        return time.monotonic()
    return time.clock_gettime(_BOOTTIME)


def unix_s() -> float:
    """Unix time by this machine's clock, which may be wrong. Use it only to interpret a date from another system."""
    return time.time()
