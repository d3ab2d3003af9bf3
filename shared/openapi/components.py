"""The parts of the specification that all operations share: headers, credentials, the error body. Pure."""

from __future__ import annotations

from typing import Any

from shared.generation import JsonObject
from shared.http.manifest import Access

EVERY_HEADER = ("x-request-id", "server-timing")
GENERATION_HEADERS = (
    *(f"x-ratelimit-{kind}-{what}" for kind in ("limit", "remaining", "reset") for what in ("requests", "tokens")),
    "x-model-requested",
    "x-model-used",
    "x-thought-signatures",
)


def parameters(request_timeout_s: float) -> JsonObject:
    def header(name: str, description: str, schema: JsonObject, example: Any) -> JsonObject:
        return {"name": name, "in": "header", "description": description, "schema": schema, "example": example}

    return {
        "x-request-id": header(
            "x-request-id",
            "An id for this request, returned and logged: 1 to 128 letters, digits and `._:/+=@-`. An invalid id is "
            "replaced by a new one.",
            {"type": "string"},
            "order-17",
        ),
        "x-caller-id": header(
            "x-caller-id",
            "The caller's name, where several share one admin key: the queue is fair between names.",
            {"type": "string", "pattern": "^[ -~]{1,200}$"},
            "team-a",
        ),
        "x-priority": header(
            "x-priority",
            "`batch` requests are served after interactive ones.",
            {"type": "string", "enum": ["interactive", "batch"], "default": "interactive"},
            "interactive",
        ),
        "x-request-timeout": header(
            "x-request-timeout",
            "Maximum total time in seconds, in the queue and at Gemini.",
            {"type": "number", "exclusiveMinimum": 0, "maximum": request_timeout_s},
            30,
        ),
    }


def _header(description: str, kind: str = "string", *, required: bool = False) -> JsonObject:
    return {"description": description, "required": required, "schema": {"type": kind}}


HEADERS: JsonObject = {
    "x-request-id": _header("The id of the request, also in the log.", required=True),
    "server-timing": _header("Milliseconds in the queue, at Gemini, and in total."),
    "retry-after": _header("Seconds until the request can be served.", "integer"),
    "retry-after-ms": _header("The same in milliseconds.", "integer"),
    "openai-processing-ms": _header("Milliseconds that the request took.", "integer"),
    "x-should-retry": _header(
        "`false` if no retry can succeed, for example when the daily quota is exceeded; absent otherwise."
    ),
    "x-ratelimit-limit-requests": _header(
        "Requests per minute for the model and project; absent if unlimited.", "integer"
    ),
    "x-ratelimit-limit-tokens": _header("Input tokens per minute; absent if unlimited.", "integer"),
    "x-ratelimit-remaining-requests": _header("Requests that this instance may still send in this minute.", "integer"),
    "x-ratelimit-remaining-tokens": _header(
        "Input tokens that this instance may still send in this minute.", "integer"
    ),
    "x-ratelimit-reset-requests": _header(
        "Time until the whole limit is available again if nothing more is sent: `59.8s`."
    ),
    "x-ratelimit-reset-tokens": _header(
        "Time until the whole limit is available again if nothing more is sent: `59.8s`."
    ),
    "x-model-requested": _header("The model name in the request."),
    "x-model-used": _header("The model that generated the response."),
    "x-thought-signatures": _header(
        "`replaced` if thought signatures of the request were replaced by Gemini's placeholder, because no account of the "
        "service that made them could serve; absent otherwise."
    ),
}
SECURITY_SCHEMES: JsonObject = {
    "AdminKey": {
        "type": "apiKey",
        "in": "header",
        "name": "Admin-API-Key",
        "description": "The admin key of this server, which then uses its own Gemini keys.",
    },
    "GeminiKey": {
        "type": "apiKey",
        "in": "header",
        "name": "x-goog-api-key",
        "description": "The caller's own Gemini key, with its own limits.",
    },
    "GeminiKeyAsBearer": {
        "type": "http",
        "scheme": "bearer",
        "description": "The caller's own Gemini key as a bearer token. On /v1 the admin key may be sent so too.",
    },
}
_CREDENTIALS: list[JsonObject] = [{name: []} for name in SECURITY_SCHEMES]
SECURITY: dict[Access, list[JsonObject]] = {
    "public": [],
    "credential": _CREDENTIALS,
    "anonymous": [*_CREDENTIALS, {}],
}
ADMIN_SECURITY: list[JsonObject] = [{"AdminKey": []}]
ERROR: JsonObject = {
    "title": "Error",
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["code", "message", "status", "request_id"],
            "properties": {
                "code": {"type": "string", "description": "Stable, for programs."},
                "message": {"type": "string", "description": "What is wrong and what to do, for people."},
                "status": {"type": "integer", "description": "The HTTP status."},
                "request_id": {"type": "string"},
                "details": {"type": "object", "description": "For example `field`, the path of the invalid field."},
            },
        }
    },
}
DESCRIPTION = """A gateway to Google Gemini that keeps one project's limits across every instance.

**Credentials.** The first one present is used: the server's `Admin-API-Key`, or the caller's own Gemini key as \
`credentials.gemini_api_key` in the body, as a bearer token, or as `x-goog-api-key`. Operations with optional security \
need no credential if the server's operator allows it.

**Errors** have one shape, `{{"error": {{"code", "message", "status", "request_id", "details"?}}}}`; those of /v1 have \
OpenAI's, `{{"error": {{"message", "type", "param", "code"}}}}`. In addition to those listed with each operation: 404 \
`not_found` for a path that does not exist, 405 `method_not_allowed` with `Allow`. A body has at most {limit_mb} MB.

**Waiting.** A request waits in a fair queue until it can be served or its `x-request-timeout` expires. A request that \
cannot be served in time is rejected early, with 429 and `Retry-After`. Without `x-request-timeout`, the timeouts that \
SDKs send apply, capped at the server's: `x-server-timeout`, `x-stainless-read-timeout`, `x-stainless-timeout`.

**Streams** send their headers with the first event, or 15 s after the request was sent to Gemini, and then a comment \
(`: keep-alive`) after each 15 s without an event. An error after the headers is an event named `error`."""
