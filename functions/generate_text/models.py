"""The bodies of POST /generate_text."""

from __future__ import annotations

from pydantic import Field

from shared.http.bodies import AnswerBody, GenerationBody, Text


class Request(GenerationBody):
    prompt: Text = Field(examples=["Say hello in three languages."])
    system_prompt: str | None = Field(None, description="Instructions for the model.")


class Answer(AnswerBody):
    generated_text: str = Field(examples=["Hello! Bonjour! Hola!"])
