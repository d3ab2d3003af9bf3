"""What POST /generate_text takes and answers: a description. `shared.chat.chat` reads it without pydantic."""

from __future__ import annotations

from pydantic import BaseModel, Field

from shared.http.bodies import GenerationBody, Text


class Request(GenerationBody):
    prompt: Text = Field(examples=["Say hello in three languages."])
    system_prompt: str | None = Field(None, description="What the model is told to be and to do.")


class Answer(BaseModel):
    generated_text: str = Field(examples=["Hello! Bonjour! Hola!"])
