"""POST /chat: a prompt (with history, or a whole native conversation) -> a text, at once or as server-sent events."""

from functools import partial

from starlette.responses import Response

from shared.chat import chat_answer, chat_events, model_for, read_chat
from shared.endpoint import Call, endpoint
from shared.generation import JsonObject


@endpoint()
async def chat(call: Call) -> Response | JsonObject:
    asked = await call.read(read_chat)
    model = model_for(asked.model, "chat", call.settings)
    if asked.stream:
        return call.stream(model, asked.body, partial(chat_events, request_id=call.request_id))
    return chat_answer(await call.generate(model, asked.body), call.request_id)
