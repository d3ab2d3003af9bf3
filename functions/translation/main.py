"""POST /translation: a text and a language -> the text in that language."""

from functions.translation.models import Request
from shared.gemini.native_body import native_body, turn
from shared.generation import JsonObject
from shared.http.endpoint import Call, endpoint


@endpoint()
async def translation(call: Call) -> JsonObject:
    asked = await call.read(Request)
    source = f" from {asked.source_language}" if asked.source_language else ""
    instruction = f"Translate what the user sends{source} into {asked.target_language}; answer with that only."
    body = native_body([turn("user", asked.text)], instruction)
    return await call.answer_text(asked.model, body)
