"""What POST /chat takes and answers: a description. `shared.chat.chat` reads it without pydantic, which starts faster."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from shared.chat.chat import MOST_TURNS
from shared.chat.generation_bodies import GenerationConfig, Ignored, SafetySetting
from shared.http.bodies import Body, GenerationAnswer, GenerationBody, Text
from shared.openapi.operation import Operation

_NULL = {"type": "null"}
_SAID_ONCE: dict[str, Any] = {
    "oneOf": [
        {"required": ["content"], "properties": {"content": {"type": "string"}, "text": _NULL, "parts": _NULL}},
        {"required": ["text"], "properties": {"content": _NULL, "text": {"type": "string"}, "parts": _NULL}},
        {"required": ["parts"], "properties": {"content": _NULL, "text": _NULL, "parts": {"type": "array"}}},
    ]
}
_PROMPT_OR_CONTENTS: dict[str, Any] = {
    "oneOf": [
        {"required": ["prompt"], "properties": {"prompt": {"type": "string"}, "contents": _NULL}},
        {"required": ["contents"], "properties": {"contents": {"type": "array"}, "prompt": _NULL, "history": _NULL}},
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
    ],
}


class Turn(Body):
    """Something that was said before: exactly one of `content` and `text`, which mean the same, and `parts`."""

    model_config = ConfigDict(json_schema_extra=_SAID_ONCE)

    role: Literal["user", "model", "assistant"]
    content: Text | None = None
    text: Text | None = None
    parts: list[dict[str, Any]] | None = Field(None, min_length=1, description="Gemini's own: text, inlineData, ...")

    @model_validator(mode="after")
    def _said_once(self) -> Turn:
        if [self.content, self.text, self.parts].count(None) != 2:
            raise ValueError("must have exactly one of content, text and parts")
        return self


class Request(GenerationBody):
    """`prompt`, with what was said before as `history`; or the whole conversation as native `contents`."""

    model_config = ConfigDict(json_schema_extra=_PROMPT_OR_CONTENTS)

    prompt: Text | None = None
    system_prompt: str | None = Field(None, description="What the model is told to be and to do.")
    history: list[Turn] | None = Field(None, max_length=MOST_TURNS)
    contents: list[dict[str, Any]] | None = Field(
        None, min_length=1, max_length=MOST_TURNS, description="As Gemini's generateContent has it."
    )
    generation_config: GenerationConfig | None = None
    safety_settings: list[SafetySetting] | None = None
    stream: bool | None = Field(None, description="The answer comes as server-sent events, while it is made.")
    message: Ignored = None
    session_id: Ignored = None

    @model_validator(mode="after")
    def _prompt_or_contents(self) -> Request:
        if self.contents is None and self.prompt is None:
            raise ValueError("must have a prompt")
        if self.contents is not None and (self.prompt is not None or self.history is not None):
            raise ValueError("must have either contents or prompt and history")
        return self


class Answer(GenerationAnswer):
    text: str = Field(examples=["Hello! Bonjour! Hola!"])


class Piece(BaseModel):
    """An event while the answer is made."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"text": "Bonjour"}]})

    text: str


_DONE: dict[str, Any] = {
    "done": True,
    "model": "gemini-3.8-flash",
    "finish_reason": "STOP",
    "usage": {"prompt_tokens": 9, "output_tokens": 1, "thinking_tokens": 0, "total_tokens": 10},
    "request_id": "req_0123456789abcdef01234567",
}


class Done(GenerationAnswer):
    """The last event: what an answer has besides its text."""

    model_config = ConfigDict(json_schema_extra={"examples": [_DONE]})

    done: Literal[True]


OPERATIONS = {"POST /chat": Operation(Answer, Request, events=(Piece, Done))}
