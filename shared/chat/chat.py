"""Chat requests and answers: a request's JSON -> a native body, Gemini's answer -> ours, whole or as it comes. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from shared.chat.generation_config import NAMES, generation_config, safety_settings
from shared.gemini import wire
from shared.gemini.answer_text import missing_text, reject_blocked_prompt
from shared.gemini.native_body import native_body, turn
from shared.generation import Ending, JsonObject
from shared.http.fields import Fields
from shared.http.response import generation_answer

if TYPE_CHECKING:
    from shared.gateway.stream_reply import StreamReply
    from shared.http.event_stream import Events

MOST_TURNS = 50_000
"""Each is read for 5 us, in which the process does nothing else: a body has room for a million."""
_ROLES = {"user": "user", "model": "model", "assistant": "model"}
_SESSION_FIELDS = ("message", "session_id")


@dataclass(frozen=True, slots=True)
class ChatRequest:
    model: str | None
    """As the caller wrote it; None if it did not."""
    body: JsonObject
    """For generateContent."""
    stream: bool = False


def read_chat(values: JsonObject) -> ChatRequest:
    """The body of POST /chat. Raises BadRequest."""
    fields = Fields(values)
    _refuse_sessions(fields)
    request = ChatRequest(
        model=fields.text("model"),
        body=native_body(
            _contents(fields),
            fields.text("system_prompt"),
            generation_config(fields.mapping("generation_config")),
            safety_settings(fields.mappings("safety_settings")),
        ),
        stream=fields.flag("stream"),
    )
    for name in values:
        if name in NAMES:
            raise fields.refuse(
                name, f'belongs into generation_config, like {{"generation_config": {{"{name}": ...}}}}'
            )
    fields.finish("credentials", *_SESSION_FIELDS)
    return request


def read_prompt(values: JsonObject) -> ChatRequest:
    """A body with one `prompt`, as POST /generate_text has it. Raises BadRequest."""
    fields = Fields(values)
    body = native_body([turn("user", fields.required_text("prompt"))], fields.text("system_prompt"))
    request = ChatRequest(fields.text("model"), body)
    fields.finish("credentials")
    return request


async def chat_events(reply: StreamReply, request_id: str) -> Events:
    """`{"text"}` per frame that has some, then `{"done": true, ...}` with what an answer has besides its text."""
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


def _contents(fields: Fields) -> list[Any]:
    native = fields.mappings("contents", MOST_TURNS)
    if native is None:
        history = [_past_turn(index, entry) for index, entry in enumerate(fields.mappings("history", MOST_TURNS) or ())]
        return [*history, turn("user", fields.required_text("prompt"))]
    for other in ("prompt", "history"):
        if fields.given(other):
            raise fields.refuse("contents", f"holds the whole conversation: send either contents or {other}")
    if not native:
        raise fields.refuse("contents", "is empty; send at least one entry")
    return [wire.camel_content(content) for content in native]


def _past_turn(index: int, entry: JsonObject) -> JsonObject:
    past = Fields(entry, f"history[{index}]")
    role = past.required_text("role")
    if role not in _ROLES:
        hint = "; instructions go into system_prompt" if role in ("system", "developer") else ""
        raise past.refuse("role", f"must be one of {', '.join(_ROLES)}{hint}")
    given = [name for name in ("content", "text", "parts") if past.given(name)]
    if len(given) != 1:
        raise past.refuse("content", "must be given, or text or parts in its place; exactly one of the three")
    past.finish()
    if given == ["parts"]:
        parts = past.mappings("parts")
        if not parts:
            raise past.refuse("parts", "is empty; send at least one part")
        return wire.camel_content({"role": _ROLES[role], "parts": parts})
    return turn(_ROLES[role], past.required_text(given[0]))


def _refuse_sessions(fields: Fields) -> None:
    for name in _SESSION_FIELDS:
        if fields.given(name) and fields.given("prompt"):
            raise fields.refuse(name, "belongs to a stored conversation and cannot be sent together with prompt")
        if fields.given(name):
            raise fields.refuse(
                name,
                "belongs to a stored conversation, and this server keeps none: send prompt, and earlier turns as history",
            )
