"""The pages of Gemini's list of models."""

from __future__ import annotations

import base64
import binascii
from typing import Any

from . import errors, models

PAGE_SIZE, MAX_PAGE_SIZE = 50, 1000


def page(version: str, size: str | None, token: str) -> dict[str, Any]:
    """The body of one page. `size` and `token` are as the request has them. Raises GoogleError."""
    size = str(PAGE_SIZE) if size is None else size
    if not size.isdecimal():
        raise errors.invalid(f"Invalid value at 'page_size' (TYPE_INT32), \"{size[:40]}\"")
    listed, start = models.entries(version), _start(token)
    end = start + min(int(size) or PAGE_SIZE, MAX_PAGE_SIZE)
    found: dict[str, Any] = {"models": listed[start:end]}
    if end < len(listed):
        found["nextPageToken"] = base64.urlsafe_b64encode(str(end).encode()).decode()
    return found


def _start(token: str) -> int:
    if not token:
        return 0
    try:
        return int(base64.urlsafe_b64decode(token))
    except (ValueError, binascii.Error):
        raise errors.invalid("Invalid page token.") from None
