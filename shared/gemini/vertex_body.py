"""A native request of the Gemini API as Vertex AI takes it. Pure.

The differences, from google-genai 3.6.1 (`_..._to_vertex` in its models.py) and public reports of 2026:

    contents[].role                    required; the Gemini API takes "user" where it is missing, and so does this
    store, model, partMetadata,        unknown to Vertex, which rejects unknown names; they do not change the answer, so they
    enableEnhancedCivicAnswers         are left out
    countTokens                        has the request's own fields, not `generateContentRequest`
    fileSearch, toolCall,              change the answer: they are sent, and Vertex rejects them by name
    toolResponse, includeServerSideToolInvocations
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

_IGNORED = ("store", "model")
_IGNORED_IN_CONFIG = ("enableEnhancedCivicAnswers",)
_IGNORED_IN_PART = ("partMetadata",)
_COUNTED = ("contents", "systemInstruction", "tools", "generationConfig")


def vertex_body(verb: str, body: bytes, message: Mapping[str, Any] | None) -> bytes | None:
    """The body for Vertex; None if it is `body` itself. `message` is the parsed body, in camelCase; None: it is parsed here."""
    if message is None:
        try:
            message = orjson.loads(body)
        except orjson.JSONDecodeError:
            return None  # Vertex rejects it with a reason.
        if not isinstance(message, dict):
            return None
    changed = _counted(message) if verb == "countTokens" else _request(message)
    return None if changed is message else orjson.dumps(changed)


def _counted(message: Mapping[str, Any]) -> Mapping[str, Any]:
    inner = message.get("generateContentRequest", message)
    if not isinstance(inner, Mapping):
        return message
    return _request({name: inner[name] for name in _COUNTED if name in inner})


def _request(message: Mapping[str, Any]) -> Mapping[str, Any]:
    result = _without(message, _IGNORED)
    for name, convert in (("contents", _contents), ("generationConfig", _config)):
        value = result.get(name)
        converted = convert(value)
        if converted is not value:
            result = {**result, name: converted}
    return result


def _config(value: Any) -> Any:
    return _without(value, _IGNORED_IN_CONFIG) if isinstance(value, dict) else value


def _contents(value: Any) -> Any:
    """The same list if nothing has to change."""
    if isinstance(value, dict):
        return _content(value)
    if not isinstance(value, list):
        return value
    converted = [_content(content) for content in value]
    return converted if any(new is not old for new, old in zip(converted, value, strict=True)) else value


def _content(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    result = value if value.get("role") else {**value, "role": "user"}
    parts = value.get("parts")
    if isinstance(parts, list) and any(isinstance(part, dict) and "partMetadata" in part for part in parts):
        shown = [_without(part, _IGNORED_IN_PART) if isinstance(part, dict) else part for part in parts]
        result = {**result, "parts": shown}
    return result


def _without(value: Mapping[str, Any], names: tuple[str, ...]) -> Mapping[str, Any]:
    if not any(name in value for name in names):
        return value
    return {name: item for name, item in value.items() if name not in names}
