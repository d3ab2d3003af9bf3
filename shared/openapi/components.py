"""The parts of the specification that are the same for every operation: headers, credentials, the shape of errors. Pure."""

from __future__ import annotations

from typing import Any

from shared.generation import JsonObject
from shared.http.manifest import Access

EVERY_HEADER = ("x-request-id", "server-timing")
GENERATION_HEADERS = (
    *(f"x-ratelimit-{kind}-{what}" for kind in ("limit", "remaining", "reset") for what in ("requests", "tokens")),
    "x-model-requested",
    "x-model-used",
)


def parameters(request_timeout_s: float) -> JsonObject:
    def header(name: str, description: str, schema: JsonObject, example: Any) -> JsonObject:
        return {"name": name, "in": "header", "description": description, "schema": schema, "example": example}

    return {
        "x-request-id": header(
            "x-request-id",
            "A name for this request, in the answer and in the log: 1 to 128 letters, digits and `._:/+=@-`; in place of "
            "another one a new name is made.",
            {"type": "string"},
            "order-17",
        ),
        "x-caller-id": header(
            "x-caller-id",
            "Who asks, where many share one admin key: they take turns in the queue.",
            {"type": "string", "pattern": "^[ -~]{1,200}$"},
            "team-a",
        ),
        "x-priority": header(
            "x-priority",
            "`batch` takes what interactive requests leave.",
            {"type": "string", "enum": ["interactive", "batch"], "default": "interactive"},
            "interactive",
        ),
        "x-request-timeout": header(
            "x-request-timeout",
            "How long the caller waits, in seconds, queue and Gemini together.",
            {"type": "number", "exclusiveMinimum": 0, "maximum": request_timeout_s},
            30,
        ),
    }


def _header(description: str, kind: str = "string", *, required: bool = False) -> JsonObject:
    return {"description": description, "required": required, "schema": {"type": kind}}


HEADERS: JsonObject = {
    "x-request-id": _header("The request's name, also in the log.", required=True),
    "server-timing": _header("Milliseconds in the queue, at Gemini, and in all."),
    "retry-after": _header("Seconds after which the request can be served.", "integer"),
    "x-should-retry": _header("`false` where no retry can help, such as for a spent daily quota; absent otherwise."),
    "x-ratelimit-limit-requests": _header(
        "Requests per minute of the model and project; absent if unlimited.", "integer"
    ),
    "x-ratelimit-limit-tokens": _header("Input tokens per minute; absent if unlimited.", "integer"),
    "x-ratelimit-remaining-requests": _header("What this minute has left for this instance.", "integer"),
    "x-ratelimit-remaining-tokens": _header("What this minute has left for this instance.", "integer"),
    "x-ratelimit-reset-requests": _header(
        "Time until the whole limit is available again if nothing more is sent: `59.8s`."
    ),
    "x-ratelimit-reset-tokens": _header(
        "Time until the whole limit is available again if nothing more is sent: `59.8s`."
    ),
    "x-model-requested": _header("The model's name as it was asked for."),
    "x-model-used": _header("The model that answered."),
}
SECURITY_SCHEMES: JsonObject = {
    "AdminKey": {
        "type": "apiKey",
        "in": "header",
        "name": "Admin-API-Key",
        "description": "A key of this server's; it answers with its own Gemini keys.",
    },
    "GeminiKey": {
        "type": "apiKey",
        "in": "header",
        "name": "x-goog-api-key",
        "description": "The caller's own Gemini key, which has limits of its own.",
    },
    "GeminiKeyAsBearer": {"type": "http", "scheme": "bearer", "description": "The same, as a bearer token."},
}
_CREDENTIALS: list[JsonObject] = [{name: []} for name in SECURITY_SCHEMES]
SECURITY: dict[Access, list[JsonObject]] = {
    "public": [],
    "credential": _CREDENTIALS,
    "anonymous": [*_CREDENTIALS, {}],
}
SECURITY_OF_THE_ADMIN: list[JsonObject] = [{"AdminKey": []}]
ERROR: JsonObject = {
    "title": "Error",
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["code", "message", "status", "request_id"],
            "properties": {
                "code": {"type": "string", "description": "Stable: what programs decide by."},
                "message": {"type": "string", "description": "What happened and what to do, for people."},
                "status": {"type": "integer", "description": "As in the status line."},
                "request_id": {"type": "string"},
                "details": {"type": "object", "description": "For example `field`, which names what is wrong."},
            },
        }
    },
}
DESCRIPTION = """A gateway to Google Gemini that keeps one project's limits across every instance.

**Credentials.** The first that is there counts: the server's `Admin-API-Key`; a Gemini key of the caller's own, as \
`credentials.gemini_api_key` in the body, as a bearer token, or as `x-goog-api-key`. Operations that show a way without \
one answer anybody where the server's operator allows it.

**Errors** have one shape, `{{"error": {{"code", "message", "status", "request_id", "details"?}}}}`. Besides those that \
are listed with each operation: 404 `not_found` for a path that does not exist, 405 `method_not_allowed` with `Allow`. \
A body has at most {limit_mb} MB.

**Waiting.** A request waits in a fair queue until it can be served or its `x-request-timeout` is over; if the \
ledger says that it cannot be served by then, it waits no longer and is told so, with 429 and `Retry-After`. Without \
`x-request-timeout` the timeouts that SDKs send count, capped at the server's: `x-server-timeout`, \
`x-stainless-read-timeout`, `x-stainless-timeout`.

**Streams** send their headers with the first event, or 15 s after the request was sent to Gemini, and then a comment \
(`: keep-alive`) after each 15 s without an event. What fails after the headers is an event named `error`."""
