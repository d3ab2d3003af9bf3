"""Chat requests and answers: a request's JSON -> a native body, Gemini's answer -> ours, whole or as it comes. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from shared.chat.generation_config import NAMES, generation_config, safety_settings
from shared.errors import BadRequest, EmptyResponse, GatewayError, PromptBlocked, ResponseBlocked
from shared.gemini import wire
from shared.gemini.models import Purpose, default_model, info_of
from shared.generation import JsonObject, Reply, Usage
from shared.http.fields import Fields

if TYPE_CHECKING:
    from shared.http.call import StreamReply
    from shared.http.event_stream import Events
    from shared.settings.settings import Settings

MOST_TURNS = 50_000
"""Each is read for 5 us, in which the process does nothing else: a body has room for a million."""
_ROLES = {"user": "user", "model": "model", "assistant": "model"}
_OVERRIDDEN: frozenset[Purpose] = frozenset({"chat", "generate_text", "stream", "batch"})
"""What GEMINI_MODEL_TYPE chooses the model for: endpoints that answer with plain text."""
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


def turn(role: str, text: str) -> JsonObject:
    return {"role": role, "parts": [{"text": text}]}


def native_body(
    contents: list[Any],
    system_prompt: str | None = None,
    config: JsonObject | None = None,
    safety: list[JsonObject] | None = None,
) -> JsonObject:
    """A generateContent body; what is empty is left out."""
    body: JsonObject = {"contents": contents}
    if system_prompt and system_prompt.strip():
        body["systemInstruction"] = {"parts": [{"text": system_prompt}]}
    if config:
        body["generationConfig"] = config
    if safety:
        body["safetySettings"] = safety
    return body


def model_for(asked: str | None, purpose: Purpose, settings: Settings) -> str:
    """What the caller asked for; else GEMINI_MODEL_TYPE where that rules; else the table's default for `purpose`.

    Where a text is wanted, raises BadRequest for what is no model's id, and for a model that is known to answer with
    something else: that would be paid for, and left out of the answer."""
    override = settings.model_override if purpose in _OVERRIDDEN else None
    model = asked if asked is not None else override or default_model(purpose, settings.tier)
    if purpose == "image":
        return model
    info = info_of(model)
    if info is not None and info.answers_with != "text":
        default = default_model(purpose, settings.tier)
        way_out = "POST /generate makes images" if info.image_output else f"leave model out for {default}"
        raise BadRequest(f"model {info.id} answers with {info.answers_with}, not with text; {way_out}.", field="model")
    return model


def chat_answer(reply: Reply, request_id: str) -> JsonObject:
    """The answer of POST /chat. Raises PromptBlocked, ResponseBlocked, EmptyResponse."""
    text = answer_text(reply.body)
    return {"text": text, **_ending(reply, wire.finish_reason(reply.body), reply.usage, request_id)}


async def chat_events(reply: StreamReply, request_id: str) -> Events:
    """`{"text"}` per frame that has some, then `{"done": true, ...}` with what an answer has besides its text."""
    reason: str | None = None
    has_text = False
    async for frame in reply:
        refuse_blocked_prompt(frame)
        reason = wire.finish_reason(frame) or reason
        text = wire.text_of(frame)
        has_text = has_text or bool(text)
        yield {"text": text} if text else None
    if not has_text:
        raise _without_text(reason)
    yield {"done": True, **_ending(reply.head, reason, reply.usage, request_id)}


def answer_text(body: JsonObject) -> str:
    """The text of a native answer; never "". Raises PromptBlocked, ResponseBlocked, EmptyResponse."""
    refuse_blocked_prompt(body)
    text = wire.text_of(body)
    if not text:
        raise _without_text(wire.finish_reason(body))
    return text


def _ending(head: Reply, reason: str | None, usage: Usage, request_id: str) -> JsonObject:
    return {"model": head.model_used, "finish_reason": reason, "usage": usage._asdict(), "request_id": request_id}


def refuse_blocked_prompt(body: JsonObject) -> None:
    """Raises PromptBlocked."""
    reason = wire.block_reason(body)
    if reason and not wire.candidates(body):
        raise PromptBlocked(
            f"Gemini refused the prompt ({reason}); change the prompt or safety_settings.",
            details={"block_reason": reason},
        )


def _without_text(reason: str | None) -> GatewayError:
    details = {"finish_reason": reason}
    if reason == "MAX_TOKENS":
        return EmptyResponse(
            "Gemini reached the limit of tokens (MAX_TOKENS) before any text; raise generation_config.max_output_tokens "
            "(thinking counts against it).",
            details=details,
        )
    if reason in (None, "STOP", "FINISH_REASON_UNSPECIFIED"):
        return EmptyResponse(
            f"Gemini answered without any text (finish reason {reason or 'missing'}); try again, or change the prompt.",
            details=details,
        )
    return ResponseBlocked(
        f"Gemini stopped before any text (finish reason {reason}); change the prompt or safety_settings.",
        details=details,
    )


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
