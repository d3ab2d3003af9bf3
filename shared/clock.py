"""Elapsed time, the only local time the gateway decides by. The store's time is held by `admission.server_clock`."""

from __future__ import annotations

import time

_BOOTTIME: int | None = getattr(time, "CLOCK_BOOTTIME", None)


def elapsed_s() -> float:
    """Seconds on a clock that never steps. On Linux it also counts while the machine is suspended (CLOCK_BOOTTIME)."""
    if _BOOTTIME is None:
        return time.monotonic()
    return time.clock_gettime(_BOOTTIME)


def unix_s() -> float:
    """Unix time by this machine's clock, which may be wrong: only to read a date that somebody else wrote."""
    return time.time()
