"""The bodies of POST /chat."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import ConfigDict, Field

from shared.chat.request import Request as Request
from shared.http.bodies import AnswerBody, GenerationAnswer
from shared.openapi.operation import Operation


class Answer(GenerationAnswer):
    text: str = Field(examples=["Hello! Bonjour! Hola!"])


class Piece(AnswerBody):
    """An event while the text is generated."""

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
    """The last event: a response's fields besides its text."""

    model_config = ConfigDict(json_schema_extra={"examples": [_DONE]})

    done: Literal[True]


OPERATIONS = {"POST /chat": Operation(Answer, Request, events=(Piece, Done))}
