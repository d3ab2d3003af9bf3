"""Conditional and range requests (RFC 9110, 13 and 14) for what has a strong ETag. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping

from shared.errors import RangeNotSatisfiable

_ETAGS = re.compile(r'(?:W/)?("[^"]*")')
_ONE_RANGE = re.compile(r"bytes\s*=\s*([0-9]{0,19})\s*-\s*([0-9]{0,19})\s*", re.IGNORECASE)


def not_modified(headers: Mapping[str, str], etag: str) -> bool:
    """Whether the caller has it already; `etag` with its quotes."""
    given = headers.get("if-none-match", "")
    return given.strip() == "*" or etag in _ETAGS.findall(given)


def requested_range(headers: Mapping[str, str], etag: str, size_bytes: int) -> tuple[int, int] | None:
    """From its first byte to before its second; None for the whole. Raises RangeNotSatisfiable.

    As the RFC allows, a header that is malformed, of another unit or of several ranges is ignored."""
    asked = _ONE_RANGE.fullmatch(headers.get("range", "").strip())
    if asked is None or headers.get("if-range", etag).strip() != etag:
        return None
    first, last = asked.groups()
    if first:
        begin, end = int(first), int(last) + 1 if last else size_bytes
        if last and end <= begin:
            return None
    elif last:
        begin, end = max(0, size_bytes - int(last)), size_bytes
    else:
        return None
    if begin >= size_bytes:
        raise RangeNotSatisfiable(
            f"The range begins behind the end; there are {size_bytes} bytes.",
            headers={"content-range": f"bytes */{size_bytes}"},
        )
    return begin, min(end, size_bytes)
