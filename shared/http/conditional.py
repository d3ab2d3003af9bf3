"""Conditional and range requests (RFC 9110, 13 and 14). Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping

from shared.errors import RangeNotSatisfiable

_OPAQUE_TAGS = re.compile(r'(?:W/)?("[^"]*")')
_ONE_RANGE = re.compile(r"bytes\s*=\s*([0-9]{0,19})\s*-\s*([0-9]{0,19})\s*", re.IGNORECASE)


def not_modified(headers: Mapping[str, str], etag: str) -> bool:
    """Whether If-None-Match names `etag` (with its quotes, strong or weak), by the weak comparison of RFC 9110, 13.1.2."""
    given = headers.get("if-none-match", "")
    return given.strip() == "*" or etag.removeprefix("W/") in _OPAQUE_TAGS.findall(given)


def requested_range(headers: Mapping[str, str], etag: str, size_bytes: int) -> tuple[int, int] | None:
    """The first byte and the end (exclusive) of the requested range; None for the whole. `etag` is strong.
    Raises RangeNotSatisfiable.

    A Range header that is malformed, has another unit or several ranges is ignored, as the RFC allows."""
    found = _ONE_RANGE.fullmatch(headers.get("range", "").strip())
    if found is None or headers.get("if-range", etag).strip() != etag:
        return None
    first, last = found.groups()
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
            f"Range starts past the end ({size_bytes} bytes). Request a range within it.",
            headers={"content-range": f"bytes */{size_bytes}"},
        )
    return begin, min(end, size_bytes)
