"""The memory limit of this process: that of its cgroup, or the memory of the machine."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

LIMIT_FILES = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
"""The limit files of cgroup versions 2 and 1 (docs.kernel.org/admin-guide/cgroup-v2.html)."""


def memory_bytes(files: Iterable[str] = LIMIT_FILES) -> int:
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min([machine, *filter(None, map(_limit, files))])


def _limit(file: str) -> int | None:
    """The limit in a file; None if there is no such file or no limit in it."""
    try:
        text = Path(file).read_text().strip()
    except OSError:
        return None
    return int(text) if text.isascii() and text.isdigit() else None
