"""The body of POST /v1/chat/completions: reads it, refuses what is wrong, and describes it. Pure."""

from __future__ import annotations

from typing import Any

from shared.http.bodies import GenerationBody


class ChatBody(GenerationBody):
    messages: list[dict[str, Any]] | None = None
    stream: bool | None = None
