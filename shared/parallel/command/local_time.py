"""Times as the person at the terminal reads them."""

from __future__ import annotations

import math
from datetime import datetime


def until(unix_s: float | None) -> str:
    """A time in the time zone of this machine, rounded up to whole seconds; "" for None."""
    if unix_s is None:
        return ""
    return datetime.fromtimestamp(math.ceil(unix_s)).astimezone().strftime("%Y-%m-%d %H:%M:%S %Z")
