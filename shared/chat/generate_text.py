"""POST /generate_text: a prompt -> one text."""

from __future__ import annotations

from pydantic import Field

from shared.gemini.answer_text import answer_text
from shared.gemini.native_body import native_body, turn
from shared.generation import JsonObject
from shared.http.bodies import GenerationBody, Text
from shared.http.call import Call


class Request(GenerationBody):
    prompt: Text = Field(examples=["Say hello in three languages."])
    system_prompt: str | None = Field(None, description="Instructions for the model.")


async def generate_text(call: Call) -> JsonObject:
    asked = await call.read(Request)
    body = native_body([turn("user", asked.prompt)], asked.system_prompt)
    reply = await call.generate(call.model_for(asked.model, "generate_text"), body)
    return {"generated_text": answer_text(reply.body)}
