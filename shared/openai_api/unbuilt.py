"""Paths of OpenAI's API that this gateway does not have: 404 that names what to use instead."""

from __future__ import annotations

from starlette.responses import Response

from shared.errors import NotFound
from shared.http.call import Call

_MAX_SHOWN = 100
_CHAT = "POST /v1/chat/completions"
_INSTEAD = {
    "completions": f"Use {_CHAT} instead, with the prompt as a message.",
    "responses": f"Use {_CHAT} instead.",
    "conversations": f"Use {_CHAT} instead, with the whole conversation as messages.",
    "assistants": f"Use {_CHAT} instead, with the instructions as a system message.",
    "threads": f"Use {_CHAT} instead, with the whole conversation as messages.",
    "vector_stores": "Use POST /v1/embeddings and a vector database instead.",
    "audio": f"To transcribe or understand speech, use {_CHAT} instead, with an input_audio part. No path makes speech.",
    "realtime": f"Use {_CHAT} instead, with stream: true.",
    "moderations": f"Gemini filters each request itself: {_CHAT} with safe_mode: true blocks most.",
    "images/variations": "Use POST /v1/images/edits instead.",
    "uploads": "Use POST /v1/files instead.",
    "batches": f"Use {_CHAT} instead, with the header x-priority: batch.",
    "fine_tuning": "Gemini's models cannot be fine-tuned here.",
    "v1": "The client's base URL and its path both have /v1: remove it from one of them.",
}
"""First segments after /v1/ -> what to do."""


async def not_built(call: Call) -> Response:
    raise NotFound(explanation(call.method, call.path))


def explanation(method: str, path: str) -> str:
    called = f"{method} {path[:_MAX_SHOWN]}"
    below = path.removeprefix("/v1/") + "/"
    for start, instead in _INSTEAD.items():
        if below.startswith(f"{start}/"):
            return f"{called} is not part of this server's API. {instead}"
    return f"{called} is not part of this server's API. GET /openapi.json lists what it has."
