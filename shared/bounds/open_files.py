"""The limit of open files of this process. A waiting request takes two: its connection, and the one to Gemini.

Systems start processes with a low soft limit (often 1,024, macOS 256) below the hard one, up to which a process may raise its
own. Cloud Run's hard limit is 25,000 (cloud.google.com/run/docs/known-issues).
"""

from __future__ import annotations

import contextlib
import resource

WANTED = 8192
"""For the 2,000 connections of clients (`http.protocol`), as many to Gemini, and the ledger, storage and fetches."""


def raised(soft: int, hard: int) -> int:
    """The soft limit to set: WANTED, as far as the hard one permits, and never less than it is. Negative: unlimited. Pure."""
    if soft < 0 or soft >= WANTED:
        return soft
    return WANTED if hard < 0 else max(soft, min(hard, WANTED))


def raise_open_files() -> None:
    """A system that does not permit it leaves the limit as it is; then fewer connections are accepted."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (raised(soft, hard), hard))
