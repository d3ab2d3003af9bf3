"""Which handler answers which path of the sessions function."""

from __future__ import annotations

from shared.http.handlers import Handlers

HANDLERS = Handlers(
    __package__,
    {
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
    },
)
