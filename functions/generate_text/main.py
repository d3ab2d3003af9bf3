"""POST /generate_text: {"prompt"} -> {"generated_text"}."""

from shared.chat.chat import read_prompt
from shared.gemini.answer_text import answer_text
from shared.generation import JsonObject
from shared.http.endpoint import Call, endpoint


@endpoint()
async def generate_text(call: Call) -> JsonObject:
    asked = await call.read(read_prompt)
    reply = await call.generate(call.model_for(asked.model, "generate_text"), asked.body)
    return {"generated_text": answer_text(reply.body)}
