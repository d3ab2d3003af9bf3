"""Builds responses: JSON, our own error format, Retry-After, CORS and server-timing."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import Any

import orjson
from starlette.responses import Response

from shared.errors import GatewayError
from shared.generation import Ending, JsonObject, Timeline
from shared.http.header_value import header_value

RawHeaders = list[tuple[bytes, bytes]]
ErrorBody = Callable[[GatewayError, str], JsonObject]
"""(error, request id) -> the body in the format of the called API."""

_ALLOWED = (
    "Content-Type, Authorization, Admin-API-Key, x-goog-api-key, x-goog-api-client, x-session-id, x-caller-id, "
    "x-priority, x-request-id, x-request-timeout, Last-Event-ID"
)
_RATE_LIMITS = ", ".join(
    f"x-ratelimit-{kind}-{what}" for kind in ("limit", "remaining", "reset") for what in ("requests", "tokens")
)
_EXPOSED = (
    "x-request-id, x-session-id, Retry-After, retry-after-ms, x-should-retry, openai-processing-ms, ETag, Content-Range, "
    f"{_RATE_LIMITS}, x-model-requested, x-model-used, x-schema-unchecked, x-thought-signatures, server-timing"
)
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,128}")
"""A header name (RFC 9110, 5.6.2) of limited length."""
_MAX_ALLOWED_HEADERS = 64
_PREFLIGHT_S = 7200
"""How long a browser may cache a preflight; the longest that Chromium accepts."""


_NOT_SNIFFED = (b"x-content-type-options", b"nosniff")
_NOT_STORED = (b"cache-control", b"no-store")


class JsonResponse(Response):
    """JSON encoded by orjson, which is several times faster than the standard library on large responses. A response may
    contain a conversation, so caches must not store it unless `headers` have a cache-control, and browsers must not guess
    another type."""

    media_type = "application/json"

    def init_headers(self, headers: Mapping[str, str] | None = None) -> None:
        super().init_headers(headers)
        self.raw_headers.append(_NOT_SNIFFED)
        if headers is None or "cache-control" not in headers:
            self.raw_headers.append(_NOT_STORED)

    def render(self, content: Any) -> bytes:
        return orjson.dumps(content)


def own_error_body(error: GatewayError, request_id: str) -> JsonObject:
    """The error format of our own endpoints."""
    body: JsonObject = {
        "code": error.code,
        "message": error.message,
        "status": error.status,
        "request_id": request_id,
    }
    if error.details is not None:
        body["details"] = dict(error.details)
    return {"error": body}


def error_response(
    error: GatewayError, request_id: str, body: ErrorBody, more_headers: Mapping[str, str] | None = None
) -> Response:
    """`more_headers`: those of the called API."""
    headers = {name: header_value(value) for name, value in error.headers.items()}
    headers.update(more_headers or {})
    if not error.retryable:
        headers.setdefault("x-should-retry", "false")
    if error.retry_after_s is not None:
        headers["retry-after"] = str(max(1, math.ceil(error.retry_after_s)))
    return JsonResponse(body(error, request_id), status_code=error.status, headers=headers)


def allow(methods: Iterable[str]) -> str:
    """The Allow header for a path with these methods. HEAD is allowed where GET is, and OPTIONS everywhere."""
    given = list(methods)
    return ", ".join([*given, *(["HEAD"] if "GET" in given else []), "OPTIONS"])


def preflight(methods: Iterable[str], headers: Mapping[str, str]) -> Response:
    """The response to a CORS preflight; `headers` are the request's. Every requested header is allowed: a page's tracing may
    add some, and the gateway ignores headers that it does not know.

    `Access-Control-Request-Private-Network` is not granted, so public pages cannot use a gateway on a private network."""
    allowed = allow(methods)
    return Response(
        status_code=204,
        headers={
            "allow": allowed,
            "access-control-allow-methods": allowed,
            "access-control-allow-headers": _allowed_headers(headers.get("access-control-request-headers", "")),
            "access-control-max-age": str(_PREFLIGHT_S),
            "vary": "Access-Control-Request-Headers",
        },
    )


def _allowed_headers(requested: str) -> str:
    """The valid names among the requested ones; if there are none, the headers that the gateway reads."""
    names = (name.strip() for name in requested.split(",", 4 * _MAX_ALLOWED_HEADERS))
    wanted = list(dict.fromkeys(name for name in names if _TOKEN.fullmatch(name)))
    return ", ".join(wanted[:_MAX_ALLOWED_HEADERS]) or _ALLOWED


@lru_cache(maxsize=256)
def cors_headers(origins: tuple[str, ...], origin: str) -> RawHeaders:
    """For every response, including errors. `origin` is the request's, "" if it has none. Only pages of an origin that the
    operator named may send the browser's credentials, such as cookies."""
    if origins == ("*",):
        return [(b"access-control-allow-origin", b"*"), (b"access-control-expose-headers", _EXPOSED.encode())]
    # A cache must not return one origin's response to another, so Vary is set even for an origin that is not allowed.
    vary = (b"vary", b"Origin")
    if origin not in origins:
        return [vary]
    return [
        (b"access-control-allow-origin", origin.encode()),
        (b"access-control-allow-credentials", b"true"),
        (b"access-control-expose-headers", _EXPOSED.encode()),
        vary,
    ]


def server_timing(timeline: Timeline, total_s: float) -> bytes:
    """`server-timing` (W3C): milliseconds in the queue, upstream, and in total."""
    total = b"total;dur=%.1f" % (total_s * 1000)
    if not timeline.waits:
        return total
    return b"queue;dur=%.1f, upstream;dur=%.1f, %b" % (timeline.queue_s * 1000, timeline.upstream_s * 1000, total)


def generation_answer(content: JsonObject, ending: Ending, request_id: str) -> JsonObject:
    """The body of a generated answer: its content, and what every such answer has."""
    model, finish_reason, usage = ending
    return {
        **content,
        "model": model,
        "finish_reason": finish_reason,
        "usage": usage._asdict(),
        "request_id": request_id,
    }


def generation_headers(timeline: Timeline) -> RawHeaders:
    """`x-model-*`, `x-thought-signatures` and OpenAI's `x-ratelimit-*` for a request that Gemini has answered. With several
    generations, the limits are the tightest ones."""
    headers = model_headers(timeline)
    if timeline.models is None:
        return headers
    for kind, rate in ((b"requests", timeline.rate.requests), (b"tokens", timeline.rate.input_tokens)):
        if rate is not None:
            headers += [
                (b"x-ratelimit-limit-" + kind, b"%d" % rate.limit),
                (b"x-ratelimit-remaining-" + kind, b"%d" % rate.remaining),
                (b"x-ratelimit-reset-" + kind, b"%.3fs" % rate.reset_s),
            ]
    return headers


def model_headers(timeline: Timeline) -> RawHeaders:
    """`x-model-*` and `x-thought-signatures` for a request that Gemini has answered."""
    if timeline.models is None:
        return []
    requested, used = timeline.models
    headers = [
        (b"x-model-requested", header_value(requested).encode("ascii")),
        (b"x-model-used", header_value(used).encode("ascii")),
    ]
    if timeline.signatures_replaced:
        headers.append((b"x-thought-signatures", b"replaced"))
    return headers
