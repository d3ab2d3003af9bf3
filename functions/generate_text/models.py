"""The bodies of POST /generate_text."""

from __future__ import annotations

from pydantic import Field

from shared.chat.generate_text import Request as Request
from shared.http.bodies import AnswerBody


class Answer(AnswerBody):
    generated_text: str = Field(examples=["Hello! Bonjour! Hola!"])
