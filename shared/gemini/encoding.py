"""A native request's body as the bytes that are sent, with their estimated tokens. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from shared.errors import BadRequest
from shared.gemini.tokens import estimate_input_tokens
from shared.generation import EncodedBody

_UNTOUCHED_BYTES = 4 * 1024 * 1024
"""Of a larger body the room is never touched, and takes no memory: glibc gives more than 32 MiB fresh pages (mallopt(3))."""


def encode(body: Mapping[str, Any]) -> EncodedBody:
    """Raises BadRequest."""
    try:
        data = _exact(orjson.dumps(body))
    except orjson.JSONEncodeError:  # orjson parses deeper nesting than it writes.
        raise BadRequest("The body is nested too deeply; send at most 250 levels.") from None
    return EncodedBody(body, data, estimate_input_tokens(body, data))


def _exact(data: bytes) -> bytes:
    """The same bytes without the room for escapes that orjson leaves behind them: 2 KB would hold 16 KB while they wait."""
    return bytes(memoryview(data)) if len(data) < _UNTOUCHED_BYTES else data
