"""GET /stream, DELETE /stream/{turn} and POST /sessions/{id}/ticket: the answer of a turn while it is generated.

Which turn a stream is of: the one of Last-Event-ID, else the ticket's, else the session's pending one. A browser's EventSource
reconnects after each end of a stream, with the id of the last event; the answer to the id of a turn's last event is 204, which
ends that.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from copy import copy
from typing import TYPE_CHECKING, NamedTuple

from starlette.responses import Response

from shared.bounds.byte_budget import Bucket
from shared.errors import BadRequest
from shared.gemini.native_body import native_body
from shared.generation import Caller, JsonObject
from shared.http.call import Call
from shared.http.event_stream import OWN_FRAMING, Events, EventStream, Framing
from shared.http.event_stream import error_event as response_error_event
from shared.http.response import JsonResponse
from shared.sessions.context import contents_of
from shared.sessions.events import error_event
from shared.sessions.feed import Feed
from shared.sessions.generating import MARGIN_S, Ask
from shared.sessions.identity import owner_fingerprint, session_of, with_session
from shared.sessions.process import live_of, sessions_of
from shared.sessions.session import is_turn
from shared.sessions.store import SessionRef
from shared.sessions.tickets import fingerprint_of, new_ticket, turn_of
from shared.sessions.turn import END_AT, TICKET_MS, EventId, Ticket, Turn
from shared.sessions.turns import no_turn

if TYPE_CHECKING:
    from shared.gateway.stream_reply import StreamReply

LAST_EVENT_ID = "last-event-id"
_AFTER_GENERATION_S = MARGIN_S + 2.0
"""How long after the deadline of a generation its stream may end: a reader learns how the turn ended, even if the instance is
gone."""


class _Opened(NamedTuple):
    """What a request opens."""

    turn: str
    caller: Caller
    """As whom the answer is generated."""
    session: SessionRef | None = None
    """None for a ticket."""
    ticket: str = ""
    """Its fingerprint."""


async def open_stream(call: Call) -> Response:
    if call.method == "HEAD":
        # GET has an effect: it generates the answer.
        return Response(media_type=OWN_FRAMING.media_type)
    last = _last_event(call)
    if last is not None and last.position >= END_AT:
        return Response(status_code=204)
    opened = await _opened(call, last)
    stream = _Stream(call, opened, last.position if last is not None else 0)
    response = EventStream(
        stream.events(),
        call.deadline_s + _AFTER_GENERATION_S,
        dispatched_s=stream.dispatched_s,
        framing=Framing(stream.error_event),
        claim=call.services.byte_budget.claim(call.claim.bucket),
    )
    return response if opened.session is None else with_session(call, opened.session, response)


async def stop_turn(call: Call) -> JsonObject:
    """Answers when the turn has ended; `state` is `streaming` if its instance does not respond."""
    name, live = call.path_parameters["turn"], live_of(call)
    turn = await _owned(call, name, owner_fingerprint(call))
    if turn.state == "pending":
        turn = await live.turns.stop_pending(name, turn)
    if turn.state == "streaming":
        turn = await live.stop(name, turn)
    return {"success": turn.over, "turn": name, "state": turn.state}


async def create_ticket(call: Call) -> Response:
    """For the turn that GET /stream would open."""
    caller = call.caller
    if caller.kind == "caller_key":
        raise BadRequest(
            "A ticket cannot carry your Gemini key, because URLs are logged. Read GET /stream with the header x-goog-api-key.",
            field="x-goog-api-key",
        )
    session = await session_of(call, call.path_parameters["id"])
    turn = await sessions_of(call).pending_turn(session)
    text = new_ticket(turn)
    ticket = Ticket(fingerprint_of(text), caller.id, caller.kind)
    await live_of(call).turns.add_ticket(turn, ticket)
    body = {"success": True, "ticket": text, "turn": turn, "expires_in": TICKET_MS // 1000}
    return with_session(call, session, JsonResponse(body))


class _Stream:
    """One response: the events of a turn for one reader."""

    def __init__(self, call: Call, opened: _Opened, after: int) -> None:
        self._call, self._opened, self._after = call, opened, after
        self._live = live_of(call)
        self._feed: Feed | None = None

    async def events(self) -> Events:
        # The turn is opened here: a stream that was never read must not have started a generation.
        call, name = self._call, self._opened.turn
        ask = Ask(self._reply, call.deadline_s, call.timeline, self._opened.ticket)
        self._feed = self._live.open(name, ask)
        async with aclosing(self._feed.events(self._after)) as events:
            async for event in events:
                yield event

    def dispatched_s(self) -> float | None:
        return self._live.dispatched_s(self._opened.turn)

    def error_event(self, data: JsonObject) -> bytes:
        """With an id if it ended the turn, so that a browser does not reconnect. Another error ended only this response: a
        reconnect gets the rest."""
        ended = self._feed is not None and self._feed.failed_turn
        return error_event(self._opened.turn, data) if ended else response_error_event(data)

    @asynccontextmanager
    async def _reply(self, turn: Turn) -> AsyncIterator[StreamReply]:
        """Gemini's answer to the history up to `turn`. It may outlive the request, so it has a claim on bytes of its own."""
        call = copy(self._call)
        call.caller = self._opened.caller
        call.claim = call.services.byte_budget.claim(Bucket(call.caller.id, call.caller.kind == "admin"))
        try:
            session = await sessions_of(call).read(turn.owner, turn.session)
            body = native_body(await contents_of(call, session, turn))
            async with call.generator.stream(call.model_for(None, "stream"), body) as reply:
                yield reply
        finally:
            call.claim.release()


async def _opened(call: Call, last: EventId | None) -> _Opened:
    """Raises NotFound, NothingPending and BadRequest."""
    query = call.request.query_params
    ticket = query.get("ticket")
    if ticket:
        name = turn_of(ticket)
        if last is not None and last.turn != name:
            raise BadRequest(
                "Last-Event-ID names an event of another turn than the ticket opens; send the ticket of that turn.",
                field=LAST_EVENT_ID,
            )
        if not is_turn(name):
            raise no_turn()
        found = await live_of(call).turns.use_ticket(name, fingerprint_of(ticket))
        return _Opened(name, Caller(found.caller, found.kind), ticket=found.fingerprint)
    session = await session_of(call, query.get("session_id"))
    if last is None:
        return _Opened(await sessions_of(call).pending_turn(session), call.caller, session)
    turn = await _owned(call, last.turn, session.owner)
    if turn.session != session.sid:
        raise no_turn()
    return _Opened(last.turn, call.caller, session)


async def _owned(call: Call, name: str, owner: str) -> Turn:
    """Raises the same NotFound for a turn of another owner as for an unknown one."""
    if not is_turn(name):
        raise no_turn()
    turn = await live_of(call).turns.read(name)
    if turn.owner != owner:
        raise no_turn()
    return turn


def _last_event(call: Call) -> EventId | None:
    text = call.headers.get(LAST_EVENT_ID, "")
    if not text:
        return None
    last = EventId.parse(text)
    if last is None:
        raise BadRequest(
            "Last-Event-ID is not the id of an event of this server; send the id of the last event that you received, or none.",
            field=LAST_EVENT_ID,
        )
    return last
