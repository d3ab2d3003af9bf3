"""The bodies of POST /translation."""

from __future__ import annotations

from pydantic import Field

from shared.http.bodies import GenerationAnswer, GenerationBody, Text


class Request(GenerationBody):
    text: Text = Field(description="What to translate.", examples=["Good morning, everyone."])
    target_language: Text = Field(description="A language's name or code.", examples=["Chinese"])
    source_language: Text | None = Field(None, description="Detected if absent.")


class Answer(GenerationAnswer):
    text: str = Field(examples=["大家早上好。"])
