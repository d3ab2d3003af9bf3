"""The bodies of POST /chat."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import ConfigDict, Field, RootModel

from shared.chat.request import Request as Request
from shared.http.bodies import AnswerBody, GenerationAnswer
from shared.openapi.operation import Operation


class Generated(GenerationAnswer):
    """To a prompt."""

    text: str = Field(examples=["Hello! Bonjour! Hola!"])


class Stored(AnswerBody):
    """To a message."""

    success: Literal[True]
    session_id: str = Field(description="Also in the header x-session-id and in a cookie.")
    turn: str = Field(description="The id of the message's turn; GET /stream answers it.")


class Answer(RootModel[Generated | Stored]):
    """To a prompt its text; to a message the session that it is in."""


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


OPERATIONS = {"POST /chat": Operation(Answer, Request, events=(Piece, Done), anonymous=True, in_session=True)}
