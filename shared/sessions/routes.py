"""Which handler answers which path of the sessions function. A handler is imported by the first request for it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from importlib import import_module
from typing import Any

from starlette.responses import Response

from shared.generation import JsonObject
from shared.http.call import Call

Handler = Callable[[Call], Awaitable[Response | JsonObject]]

HANDLERS: dict[tuple[str, str], str] = {
    ("GET", "/"): "answers:health",
    ("POST", "/chat"): "chat:chat",
    ("POST", "/generate_text"): "shared.chat.generate_text:generate_text",
    ("GET", "/sessions"): "answers:list_sessions",
    ("GET", "/sessions/{id}"): "answers:read_session",
    ("DELETE", "/sessions/{id}"): "answers:delete_session",
    ("POST", "/sessions/{id}/ticket"): "stream:create_ticket",
    ("GET", "/stream"): "stream:open_stream",
    ("DELETE", "/stream/{turn}"): "stream:stop_turn",
    ("POST", "/upload"): "uploads:upload",
    ("POST", "/upload/{id}/complete"): "uploads:complete",
    ("PUT", "/upload/{id}/content"): "uploads:put_content",
}
"""(method, pattern of endpoint.json) -> module (of this package, or with its whole name), and the name of its handler."""


def handler_for(method: str, route: str) -> Handler:
    module, name = HANDLERS["GET" if method == "HEAD" else method, route].split(":")
    found: Any = getattr(import_module(module if "." in module else f"shared.sessions.{module}"), name)
    handler: Handler = found
    return handler
