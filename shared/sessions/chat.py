"""POST /chat: a message is stored in the caller's session, a prompt is answered at once."""

from __future__ import annotations

from functools import partial

from starlette.responses import Response

from shared.chat.chat import chat_events
from shared.chat.request import Request, StoredMessage
from shared.generation import JsonObject
from shared.http.call import Call
from shared.http.response import JsonResponse
from shared.sessions.identity import session_of, with_session
from shared.sessions.process import message_rate, sessions_of
from shared.settings.shares import MESSAGE_UNIT_BYTES


async def chat(call: Call) -> Response | JsonObject:
    asked = await call.read(Request, Request.asked)
    if isinstance(asked, StoredMessage):
        return await _store(call, asked)
    if asked.stream:
        model = call.model_for(asked.model, "chat")
        return call.stream(model, asked.body, partial(chat_events, request_id=call.request_id))
    return await call.answer_text(asked.model, asked.body)


async def _store(call: Call, message: StoredMessage) -> Response:
    session = await session_of(call, message.session_id)
    if call.is_stranger:
        await message_rate(call).admit(call.holders, 1 + len(message.text.encode()) // MESSAGE_UNIT_BYTES)
    turn = await sessions_of(call).append_message(session, message.text)
    return with_session(call, session, JsonResponse({"success": True, "session_id": session.sid, "turn": turn}))
