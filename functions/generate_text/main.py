"""POST /generate_text: {"prompt"} -> {"generated_text"}."""

from functions.generate_text.models import Request as Request  # loaded before the server takes requests
from shared.chat.generate_text import generate_text as answer
from shared.generation import JsonObject
from shared.http.endpoint import Call, endpoint


@endpoint()
async def generate_text(call: Call) -> JsonObject:
    return await answer(call)
