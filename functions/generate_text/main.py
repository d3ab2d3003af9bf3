"""POST /generate_text: {"prompt"} -> {"generated_text"}."""

from functions.generate_text.models import Request
from shared.gemini.answer_text import answer_text
from shared.gemini.native_body import native_body, turn
from shared.generation import JsonObject
from shared.http.endpoint import Call, endpoint


@endpoint()
async def generate_text(call: Call) -> JsonObject:
    asked = await call.read(Request)
    body = native_body([turn("user", asked.prompt)], asked.system_prompt)
    reply = await call.generate(call.model_for(asked.model, "generate_text"), body)
    return {"generated_text": answer_text(reply.body)}
