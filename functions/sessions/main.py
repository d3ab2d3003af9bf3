"""Conversations that are stored here: messages, uploads, history, and answers as server-sent events."""

from starlette.responses import Response

from shared.generation import JsonObject
from shared.http.endpoint import Call, endpoint
from shared.sessions.access import advice, opened_by
from shared.sessions.routes import HANDLERS


@endpoint(opened_by=opened_by, advice=advice)
async def sessions(call: Call) -> Response | JsonObject:
    if call.route == "/try":
        # Imported by the first request for it.
        from functions.sessions.try_page import page

        return page().response(call.headers)
    return await HANDLERS.answer(call)
