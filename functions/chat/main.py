"""POST /chat: a prompt (with history, or a whole native conversation) -> a text, at once or as server-sent events."""

from functools import partial

from starlette.responses import Response

from functions.chat.models import Request
from shared.chat.chat import chat_events
from shared.generation import JsonObject
from shared.http.endpoint import Call, endpoint


@endpoint()
async def chat(call: Call) -> Response | JsonObject:
    asked = await call.read(Request, Request.native)
    if asked.stream:
        model = call.model_for(asked.model, "chat")
        return call.stream(model, asked.body, partial(chat_events, request_id=call.request_id))
    return await call.answer_text(asked.model, asked.body)
