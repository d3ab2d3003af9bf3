"""A native request's body as the bytes that are sent, with their estimated cost. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import orjson

from shared.errors import BadRequest
from shared.gemini.tokens import estimate_input_tokens
from shared.generation import Encoded


def encode(body: Mapping[str, Any], encoded: Encoded | None = None, requests: int = 1) -> Encoded:
    """With the estimated input tokens, for `requests` requests; `encoded` has the bytes already. Raises BadRequest."""
    if encoded is None:
        try:
            encoded = Encoded(orjson.dumps(body), requests)
        except orjson.JSONEncodeError:  # orjson parses deeper nesting than it can serialize.
            raise BadRequest("The body is nested too deeply: 250 levels are the most.") from None
    return replace(encoded, input_tokens=estimate_input_tokens(body, encoded.data))
