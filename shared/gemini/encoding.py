"""A native request's body as the bytes that are sent, with their estimated tokens. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from shared.errors import BadRequest
from shared.gemini.tokens import estimate_input_tokens
from shared.generation import EncodedBody


def encode(body: Mapping[str, Any]) -> EncodedBody:
    """Raises BadRequest."""
    try:
        data = orjson.dumps(body)
    except orjson.JSONEncodeError:  # orjson parses deeper nesting than it writes.
        raise BadRequest("The body is nested too deeply; send at most 250 levels.") from None
    return EncodedBody(body, data, estimate_input_tokens(body, data))
