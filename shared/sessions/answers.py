"""GET /sessions, GET and DELETE /sessions/{id}: what a caller sees of its sessions."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import aclosing, suppress
from datetime import UTC, datetime

from starlette.responses import Response

from shared.errors import BadRequest, NotFound
from shared.generation import JsonObject
from shared.http.call import Call
from shared.http.response import JsonResponse
from shared.http.stored_files import delete_file
from shared.sessions.identity import owner_fingerprint, session_of, with_session
from shared.sessions.process import live_of, sessions_of
from shared.sessions.session import MAX_TURNS, FileRef, Head, TurnEntry, files_owner
from shared.sessions.store import MAX_LISTED, Listed
from shared.sessions.turn import Unanswered
from shared.sessions.turns import MAX_LOOKED_AT

PAGE_SIZE = 50
MAX_TURNS_SHOWN = 200
_DELETED_AT_ONCE = 8


async def health(call: Call) -> JsonObject:
    return await call.health()


async def list_sessions(call: Call) -> JsonObject:
    """An anonymous caller is known by its session's id alone, so that is all it sees."""
    limit = _whole(call.request.query_params, "limit", PAGE_SIZE, 1, MAX_LISTED)
    if call.caller.kind == "anonymous":
        session = await session_of(call)
        listed = [] if session.head is None else [Listed(session.sid, session.head)]
    else:
        listed = await sessions_of(call).newest(owner_fingerprint(call), limit=limit)
    return {"sessions": [_head_json(sid, head) for sid, head in listed]}


async def read_session(call: Call) -> Response:
    """The newest turns, or those before the number `before`. Raises NotFound, BadRequest."""
    query = call.request.query_params
    limit = _whole(query, "limit", PAGE_SIZE, 1, MAX_TURNS_SHOWN)
    before = _whole(query, "before", None, 0, MAX_TURNS) if "before" in query else None
    sessions = sessions_of(call)
    session = await sessions.read(owner_fingerprint(call), call.path_parameters["id"])
    assert session.head is not None
    turns = await sessions.history(session, before=before, limit=limit)
    call.claim.grow(sum(one.size_bytes for one in turns))
    unanswered = await sessions.unanswered(turns)
    body = {
        **_head_json(session.sid, session.head),
        "turns": [_turn_json(one, unanswered) for one in turns],
        "has_more": bool(turns) and turns[0].number > 0,
        "uploads": [_file_json(file) for file in session.head.uploads],
    }
    return with_session(call, session, JsonResponse(body))


async def delete_session(call: Call) -> Response:
    """Its files first: if the rest fails, a second call completes it. Raises NotFound, StorageUnavailable."""
    sessions = sessions_of(call)
    session = await sessions.read(owner_fingerprint(call), call.path_parameters["id"])
    assert session.head is not None
    files = {file.id: file for file in session.head.uploads}
    unanswered: list[str] = []
    async with aclosing(sessions.entries(session)) as pages:
        async for page in pages:
            files.update({file.id: file for one in page for file in one.files})
            unanswered += [one.turn for one in page if one.answer is None]
    await _stop(call, unanswered)
    found = list(files.values())
    for at in range(0, len(found), _DELETED_AT_ONCE):
        await asyncio.gather(*(_delete_file(call, session.sid, file) for file in found[at : at + _DELETED_AT_ONCE]))
    await sessions.delete(session)
    return Response(status_code=204)


async def _stop(call: Call, names: Sequence[str]) -> None:
    """Stops the answers that are still generated: nobody could read them. Only the newest turns can have one."""
    if not names:
        return
    live = live_of(call)
    found = (await live.turns.look(None, names[-MAX_LOOKED_AT:])).turns
    streaming = {name: turn for name, turn in found.items() if turn is not None and turn.state == "streaming"}
    for result in await asyncio.gather(*(live.stop(*one) for one in streaming.items()), return_exceptions=True):
        # Another request may have deleted the session meanwhile.
        if isinstance(result, BaseException) and not isinstance(result, NotFound):
            raise result


async def _delete_file(call: Call, sid: str, file: FileRef) -> None:
    with suppress(NotFound):
        await delete_file(call, file.id, files_owner(sid))


def _head_json(sid: str, head: Head) -> JsonObject:
    return {
        "session_id": sid,
        "title": head.title,
        "created": _time(head.created_ms),
        "updated": _time(head.updated_ms),
        "messages": head.turns,
        "pending": head.pending or None,
    }


def _turn_json(entry: TurnEntry, unanswered: Mapping[str, Unanswered]) -> JsonObject:
    turn: JsonObject = {
        "turn": entry.turn,
        "number": entry.number,
        "message": entry.text,
        "files": [_file_json(file) for file in entry.files],
        "created": _time(entry.created_ms),
    }
    answer = entry.answer
    if answer is None:
        state, error = unanswered[entry.turn]
        return {**turn, "state": state, "answer": None, **_error_json(error)}
    return {
        **turn,
        "state": answer.state,
        "answer": answer.text,
        "model": answer.model,
        "finish_reason": answer.finish_reason,
        "usage": answer.usage._asdict(),
        "ended": _time(answer.ended_ms),
        **_error_json(answer.error),
    }


def _error_json(error: JsonObject | None) -> JsonObject:
    return {} if error is None else {"error": error}


def _file_json(file: FileRef) -> JsonObject:
    return {"id": file.id, "name": file.name, "type": file.mime_type, "size_bytes": file.size_bytes}


def _time(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _whole(query: Mapping[str, str], name: str, default: int | None, low: int, high: int) -> int:
    text = query.get(name, str(default))
    if not (text.isascii() and text.isdigit() and low <= int(text[:10]) <= high):
        raise BadRequest(f"{name} must be a whole number from {low} to {high}.", field=name)
    return int(text)
