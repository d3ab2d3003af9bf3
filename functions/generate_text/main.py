"""POST /generate_text: {"prompt"} -> {"generated_text"}."""

from shared.chat.chat import answer_text, model_for, read_prompt
from shared.generation import JsonObject
from shared.http.endpoint import Call, endpoint


@endpoint()
async def generate_text(call: Call) -> JsonObject:
    asked = await call.read(read_prompt)
    reply = await call.generate(model_for(asked.model, "generate_text", call.settings), asked.body)
    return {"generated_text": answer_text(reply.body)}
