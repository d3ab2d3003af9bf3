"""POST /chat: a prompt (with history, or a whole native conversation) -> a text, at once or as server-sent events. Or a message,
which is stored in the caller's session."""

from starlette.responses import Response

from functions.chat.models import Request as Request  # loaded before the server takes requests
from shared.generation import JsonObject
from shared.http.endpoint import Call, endpoint
from shared.sessions.access import chat_opened_by
from shared.sessions.chat import chat as answer


@endpoint(opened_by=chat_opened_by)
async def chat(call: Call) -> Response | JsonObject:
    return await answer(call)
