"""The body of POST /chat: a prompt with earlier turns, or a whole native conversation -> a generateContent body; or a message
for a session. Pure."""

from __future__ import annotations

from typing import Annotated, Any, Literal, NamedTuple

from pydantic import ConfigDict, Field, model_validator

from shared.chat.generation_config import GenerationConfig, SafetySetting, native_config, native_safety
from shared.gemini import wire
from shared.gemini.native_body import native_body, turn
from shared.generation import JsonObject
from shared.http.bodies import Body, GenerationBody, Rule, Text, wrong

MAX_TURNS = 50_000
"""Reading one takes about 5 us, during which the process does nothing else. A body has room for a million."""
_ROLES = {"user": "user", "model": "model", "assistant": "model"}
_ROLE = Rule("must be one of user, model, assistant; put instructions into system_prompt")
_NULL = {"type": "null"}
_ONE_CONTENT: dict[str, Any] = {
    "oneOf": [
        {"required": ["content"], "properties": {"content": {"type": "string"}, "text": _NULL, "parts": _NULL}},
        {"required": ["text"], "properties": {"content": _NULL, "text": {"type": "string"}, "parts": _NULL}},
        {"required": ["parts"], "properties": {"content": _NULL, "text": _NULL, "parts": {"type": "array"}}},
    ]
}
_WITH_MESSAGE = frozenset({"message", "session_id", "credentials"})
"""Fields that a body with `message` may have."""
_PROMPT_OR_CONTENTS: dict[str, Any] = {
    "oneOf": [
        {
            "required": ["prompt"],
            "properties": {"prompt": {"type": "string"}, "contents": _NULL, "message": _NULL, "session_id": _NULL},
        },
        {
            "required": ["contents"],
            "properties": {
                "contents": {"type": "array"},
                "prompt": _NULL,
                "history": _NULL,
                "message": _NULL,
                "session_id": _NULL,
            },
        },
        {
            "required": ["message"],
            "properties": {
                "message": {"type": "string"},
                **dict.fromkeys(
                    (
                        "prompt",
                        "contents",
                        "history",
                        "system_prompt",
                        "model",
                        "generation_config",
                        "safety_settings",
                        "stream",
                    ),
                    _NULL,
                ),
            },
        },
    ],
    "examples": [
        {"prompt": "Say hello in three languages.", "system_prompt": "Answer briefly."},
        {
            "prompt": "And the second one?",
            "history": [
                {"role": "user", "content": "Which planet is the largest?"},
                {"role": "assistant", "content": "Jupiter."},
            ],
            "generation_config": {"temperature": 0.2, "max_output_tokens": 2048},
        },
        {"prompt": "Tell a short story.", "stream": True},
        {"contents": [{"role": "user", "parts": [{"text": "Hello"}]}], "model": "gemini-3.8-flash"},
        {"message": "Which planet is the largest?"},
    ],
}


class StoredMessage(NamedTuple):
    """A message for a session."""

    text: str
    session_id: str | None


class NativeRequest(NamedTuple):
    """A request as it is sent on. The parsed body need not be kept while Gemini works."""

    model: str | None
    """As the caller wrote it; None if absent."""
    body: JsonObject
    """For generateContent."""
    stream: bool


class Turn(Body):
    """An earlier turn: exactly one of `content`, `text` (the same as `content`) and `parts`."""

    model_config = ConfigDict(json_schema_extra=_ONE_CONTENT)

    role: Annotated[Literal["user", "model", "assistant"], _ROLE]
    content: Text | None = None
    text: Text | None = None
    parts: list[dict[str, Any]] | None = Field(
        None, min_length=1, fail_fast=True, description="Gemini's own parts: text, inlineData, ..."
    )

    @model_validator(mode="after")
    def _one_content(self) -> Turn:
        if (self.content is None) + (self.text is None) + (self.parts is None) != 2:
            raise wrong("content", "must be sent exactly once, as content, text or parts")
        return self

    def native(self) -> JsonObject:
        role = _ROLES[self.role]
        if self.parts is not None:
            return wire.camel_content({"role": role, "parts": self.parts})
        return turn(role, self.text if self.content is None else self.content)  # type: ignore[arg-type]


class Request(GenerationBody):
    """`prompt`, with earlier turns as `history`; or the whole conversation as native `contents`; or a `message` for a session."""

    model_config = ConfigDict(json_schema_extra=_PROMPT_OR_CONTENTS)

    prompt: Text | None = None
    system_prompt: str | None = Field(None, description="Instructions for the model.")
    history: list[Turn] | None = Field(None, max_length=MAX_TURNS, fail_fast=True)
    contents: list[dict[str, Any]] | None = Field(
        None, min_length=1, max_length=MAX_TURNS, fail_fast=True, description="As in Gemini's generateContent."
    )
    generation_config: GenerationConfig | None = None
    safety_settings: list[SafetySetting] | None = Field(None, fail_fast=True)
    stream: bool | None = Field(None, description="Return the text as server-sent events while it is generated.")
    message: Text | None = Field(
        None,
        description="A message to store in the caller's session; GET /stream answers it. Only session_id may be with it. It "
        "needs no credential where ALLOW_ANONYMOUS names sessions; a prompt always needs one.",
    )
    session_id: str | None = Field(
        None,
        description="The session of `message`; `new` opens one. Without it: that of the header x-session-id, of the cookie, "
        "or the caller's default one.",
    )

    @model_validator(mode="after")
    def _message_or_prompt(self) -> Request:
        sent = {name for name in self.model_fields_set if getattr(self, name) is not None}
        if self.message is not None and (others := sorted(sent - _WITH_MESSAGE)):
            raise wrong(
                "message",
                f"and {others[0]} are mutually exclusive: a message is stored for GET /stream, a prompt is answered at once",
            )
        if self.message is None and self.session_id is not None:
            raise wrong("session_id", "is for message only; a prompt has its earlier turns in history")
        return self

    @model_validator(mode="after")
    def _prompt_or_contents(self) -> Request:
        if self.message is not None:
            return self
        if self.contents is None and self.prompt is None:
            raise wrong(
                "prompt", "is required; send a text, the whole conversation as contents, or a message for a session"
            )
        if self.contents is not None and (self.prompt is not None or self.history is not None):
            other = "history" if self.prompt is None else "prompt"
            raise wrong(
                "contents",
                f"and {other} are mutually exclusive; send one: contents is the whole conversation",
            )
        return self

    def asked(self) -> NativeRequest | StoredMessage:
        return self.native() if self.message is None else StoredMessage(self.message, self.session_id)

    def native(self) -> NativeRequest:
        if self.contents is not None:
            contents = [wire.camel_content(content) for content in self.contents]
        else:
            contents = [*(past.native() for past in self.history or ()), turn("user", self.prompt or "")]
        config, safety = native_config(self.generation_config), native_safety(self.safety_settings)
        return NativeRequest(self.model, native_body(contents, self.system_prompt, config, safety), bool(self.stream))
