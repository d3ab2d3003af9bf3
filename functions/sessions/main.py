"""Conversations that are stored here: messages, uploads, history, and answers as server-sent events."""

from starlette.responses import Response

from shared.generation import JsonObject
from shared.http.endpoint import Call, endpoint
from shared.sessions.access import opened_by
from shared.sessions.routes import handler_for


@endpoint(opened_by=opened_by)
async def sessions(call: Call) -> Response | JsonObject:
    return await handler_for(call.method, call.route)(call)
