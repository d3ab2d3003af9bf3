"""Responses of POST /chat from Gemini's: whole, or frame by frame as they arrive. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared.gemini import wire
from shared.gemini.answer_text import answer_text, refuse_blocked_prompt, without_text
from shared.generation import JsonObject, Reply, Usage

if TYPE_CHECKING:
    from shared.http.call import StreamReply
    from shared.http.event_stream import Events


def chat_answer(reply: Reply, request_id: str) -> JsonObject:
    """The response of POST /chat. Raises PromptBlocked, ResponseBlocked, EmptyResponse."""
    text = answer_text(reply.body)
    return {"text": text, **_ending(reply, wire.finish_reason(reply.body), reply.usage, request_id)}


async def chat_events(reply: StreamReply, request_id: str) -> Events:
    """`{"text"}` for each frame with text, then `{"done": true, ...}` with the other fields of a response. Raises what
    `chat_answer` does."""
    reason: str | None = None
    has_text = False
    async for frame in reply:
        refuse_blocked_prompt(frame)
        reason = wire.finish_reason(frame) or reason
        text = wire.text_of(frame)
        has_text = has_text or bool(text)
        yield {"text": text} if text else None
    if not has_text:
        raise without_text(reason)
    yield {"done": True, **_ending(reply.head, reason, reply.usage, request_id)}


def _ending(head: Reply, reason: str | None, usage: Usage, request_id: str) -> JsonObject:
    return {"model": head.model_used, "finish_reason": reason, "usage": usage._asdict(), "request_id": request_id}
