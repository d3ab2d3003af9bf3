"""The events of a streamed POST /chat, made of Gemini's frames as they arrive. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared.gemini import wire
from shared.gemini.answer_text import missing_text, reject_blocked_prompt
from shared.generation import Ending
from shared.http.response import generation_answer

if TYPE_CHECKING:
    from shared.gateway.stream_reply import StreamReply
    from shared.http.event_stream import Events


async def chat_events(reply: StreamReply, request_id: str) -> Events:
    """`{"text"}` for each frame with text, then `{"done": true, ...}` with the other fields of a response.
    Raises PromptBlocked, ResponseBlocked, EmptyResponse."""
    reason: str | None = None
    has_text = False
    async for frame in reply:
        reject_blocked_prompt(frame)
        reason = wire.finish_reason(frame) or reason
        text = wire.text_of(frame)
        has_text = has_text or bool(text)
        yield {"text": text} if text else None
    if not has_text:
        raise missing_text(reason)
    yield generation_answer({"done": True}, Ending(reply.head.model_used, reason, reply.usage), request_id)
