"""Finds Google's error in the body of a response, however it is wrapped. Pure.

    {"error": {"code": 429, "message": ..., "status": ..., "details": [...]}}      Google's REST format
    [{"error": ...}]   data: {"error": ...}                                       the same in a stream
    {"error": {"message": "{\\n  \\"error\\": ...}", "code": 429}}                   a gateway on the Node SDK
    {"error": {"message": ..., "metadata": {"raw": "{\\"error\\": ...}"}}}           OpenRouter
    [GoogleGenerativeAI Error]: Error fetching from <url>: [429 Too Many Requests] <message> [{"@type": ...}]
    429 RESOURCE_EXHAUSTED. {'error': ...}                                         a gateway on the Python SDK

An error inside a message is read only if it is the whole message, after one of these prefixes: other messages quote the
caller's text, which may be JSON too.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

MAX_ERROR_BYTES = 256 * 1024
"""Longer bodies are not parsed (the longest known one is 4 KB)."""

MAX_DEPTH = 6
"""Maximum of nested errors that are unwrapped; a chain of three gateways nests three."""

MAX_PYTHON_CHARS = 16 * 1024
MAX_DETAILS = 32

JsonObject = Mapping[str, Any]

_PREFIX = re.compile(
    r"(?:\[?[\w.]{0,40} ?(?:Error|Exception)\]?(?:: | - |:\s?))*"
    r"(?:Error fetching from https?://\S{1,500}: )?"
    r"(?:\[(?P<code>[45]\d\d)[^\]\n]{0,60}\]\s*|(?:got status: )?(?P<status>[45]\d\d)[ A-Za-z_]{0,40}[.:]?\s*(?=[{\[]))?"
)
_DETAILS = re.compile(r'\[\s*\{\s*"@type"')
_REASON = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,63}")
_TAG = re.compile(r"<[^>]{0,2000}>")


@dataclass(frozen=True, slots=True)
class ErrorBody:
    """One error. `code` is the HTTP status that the error itself names, and `status` its name (`RESOURCE_EXHAUSTED`)."""

    message: str = ""
    code: int | None = None
    status: str = ""
    reason: str | None = None
    details: tuple[JsonObject, ...] = ()
    nested: bool = False
    """Whether it was found inside the message of another error."""


def read_error_body(body: bytes) -> ErrorBody | None:
    """The innermost error of a body; None if it has none."""
    if len(body) > MAX_ERROR_BYTES:
        return None
    try:
        # A streaming route may send its error as an event.
        parsed = orjson.loads(body.strip().removeprefix(b"\xef\xbb\xbf").removeprefix(b"data:"))
    except orjson.JSONDecodeError:
        parsed = body.decode("utf-8", "replace").strip()
    return read_error_object(parsed)


def read_error_object(parsed: Any) -> ErrorBody | None:
    """The innermost error of a parsed body; None if it has none."""
    outer = _error_of(parsed, 0)
    if outer is None:
        return None
    error = _innermost(outer, 0)
    details = [detail for detail in _list(error.get("details"))[:MAX_DETAILS] if isinstance(detail, dict)]
    message, status = error.get("message"), error.get("status")
    return ErrorBody(
        message.strip() if isinstance(message, str) else "",
        _code(error.get("code")),
        status if isinstance(status, str) else "",
        _reason(details, error),
        tuple(details),
        nested=error is not outer,
    )


def plain_text(body: bytes) -> str:
    """The text of an HTML page without its tags, or of a plain text: Google's front end writes "try again in 30 seconds"."""
    return " ".join(_TAG.sub(" ", body[:4096].decode("utf-8", "replace")).split())


def is_type(detail: JsonObject, name: str, *fields: str) -> bool:
    """Whether a detail is a google.rpc.`name`: by its type, or by its `fields` if a proxy dropped the type."""
    kind = detail.get("@type")
    return kind.endswith(name) if isinstance(kind, str) else all(field in detail for field in fields)


def _error_of(value: Any, depth: int) -> JsonObject | None:
    """The error in a JSON value, or in a text that contains a JSON value."""
    if depth > MAX_DEPTH:
        return None
    if isinstance(value, str):
        return _from_text(value, depth)
    if isinstance(value, list):
        value = next((item for item in value if isinstance(item, dict) and "error" in item), None)
    if not isinstance(value, dict):
        return None
    error = value.get("error")
    if isinstance(error, dict):
        return error
    if isinstance(error, str):
        return {"message": error}
    return value if isinstance(value.get("message"), str) else None


def _innermost(error: JsonObject, depth: int) -> JsonObject:
    """`error`, or the error inside it, completed with fields that only the outer error has."""
    metadata = error.get("metadata")
    raw = metadata.get("raw") if isinstance(metadata, dict) else None
    for value in (error.get("message"), error.get("error"), raw):
        inner = _error_of(value, depth + 1)
        if inner is not None:
            said = {name: value for name, value in inner.items() if value is not None}
            return _innermost({**error, "message": "", "error": None, "metadata": None, **said}, depth + 1)
    return error


def _from_text(text: str, depth: int) -> JsonObject | None:
    text = text.strip()
    prefix = _PREFIX.match(text)
    rest = text[prefix.end() :] if prefix else text
    if rest.startswith(("{", "[{")):
        return _error_of(_parse_text(rest), depth + 1)
    if prefix is None or prefix["code"] is None:
        return None
    details = _DETAILS.search(rest)
    if details is None:
        return {"code": int(prefix["code"]), "message": rest}
    listed = _parse_text(rest[details.start() :])
    return {"code": int(prefix["code"]), "message": rest[: details.start()].strip(), "details": listed}


def _parse_text(text: str) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        pass
    if len(text) > MAX_PYTHON_CHARS:
        return None
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return None


def _code(code: Any) -> int | None:
    if isinstance(code, str) and re.fullmatch(r"[45]\d\d", code):
        return int(code)
    return code if type(code) is int and 400 <= code <= 599 else None


def _reason(details: Sequence[JsonObject], error: JsonObject) -> str | None:
    """The reason of ErrorInfo, or of Google's older format; in OpenAI's format the `code`, which is a string there."""
    infos = [detail.get("reason") for detail in details if is_type(detail, "ErrorInfo", "reason")]
    older = [entry.get("reason") for entry in _list(error.get("errors"))[:MAX_DETAILS] if isinstance(entry, dict)]
    for reason in (*infos, *older, error.get("code")):
        if isinstance(reason, str) and _REASON.fullmatch(reason):
            return reason
    return None


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
