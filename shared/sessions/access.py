"""Which requests of the sessions do without a credential."""

from __future__ import annotations

from shared.generation import JsonObject
from shared.http.endpoint import EVERYBODY, Call

SESSIONS = "sessions"
"""In ALLOW_ANONYMOUS."""


def opened_by(call: Call, body: JsonObject | None) -> str | None:
    """For the function sessions."""
    if call.route == "/chat":
        return chat_opened_by(call, body)
    if call.route == "/generate_text":
        return "generate_text"
    if call.route == "/stream" and call.request.query_params.get("ticket"):
        # A ticket is a capability, which the handler checks.
        return EVERYBODY
    return SESSIONS


def advice(call: Call) -> str:
    """The session's cookie is no credential, and an EventSource can send no header."""
    if call.route != "/stream":
        return ""
    return "An EventSource, which sends no headers, opens a stream with a ticket: POST /sessions/<id>/ticket gives one."


def chat_opened_by(call: Call, body: JsonObject | None) -> str | None:
    """For POST /chat: only a message does without a credential, since a prompt is answered at once, with the server's key."""
    return SESSIONS if is_message(body) else None


def is_message(body: JsonObject | None) -> bool:
    return body is not None and body.get("message") is not None
