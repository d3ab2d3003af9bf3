"""What a turn's answer is generated from: the session's history up to the turn, trimmed to what the model takes."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import aclosing

from shared.generation import JsonObject
from shared.http.call import Call
from shared.http.stored_files import native_file_parts
from shared.sessions.process import sessions_of
from shared.sessions.session import TurnEntry, files_owner
from shared.sessions.store import SessionRef
from shared.sessions.trimming import HIGH_BY, contents, file_cost, first_fitting, text_cost, without_rejected
from shared.sessions.turn import Turn, was_rejected

_WITHOUT_FILES: dict[str, JsonObject] = {}


async def contents_of(call: Call, session: SessionRef, turn: Turn) -> list[JsonObject]:
    """The native contents. Raises GatewayError."""
    model = call.model_for(None, "stream")
    limit = call.services.gateway.input_limit(call.caller, model)
    turns = await _newest(call, session, turn.number, limit)
    turns = without_rejected(turns, await _rejected(call, turns[:-1]))
    files = [file_cost(one) for one in turns]

    async def count(first: int) -> int | None:
        """Files are counted by their estimate: their bytes are not read for turns that may be dropped."""
        counted = await call.generator.count(model, {"contents": contents(turns[first:], _WITHOUT_FILES)})
        return None if counted is None else counted + sum(files[first:])

    costs = [text_cost(one) + cost for one, cost in zip(turns, files, strict=True)]
    kept = turns[await first_fitting(costs, limit, count) :]
    return contents(kept, await _file_parts(call, session, kept))


async def _newest(call: Call, session: SessionRef, number: int, limit: int) -> list[TurnEntry]:
    """The turns up to `number`, back to where the model's limit is certainly exceeded. Their texts are held at the expense of the
    call's claim."""
    turns: list[TurnEntry] = []
    cost = 0.0
    async with aclosing(sessions_of(call).backwards(session, number + 1)) as found:
        async for turn in found:
            call.claim.grow(turn.size_bytes)
            turns.append(turn)
            cost += text_cost(turn) + file_cost(turn)
            if cost > HIGH_BY * limit:
                break
    return turns[::-1]


async def _rejected(call: Call, turns: Sequence[TurnEntry]) -> set[str]:
    """The ids of those whose content Gemini rejected."""
    found = await sessions_of(call).unanswered(turns)
    errors = {name: turn.error for name, turn in found.items()}
    errors.update((one.turn, one.answer.error) for one in turns if one.answer is not None and not one.answer.text)
    return {name for name, error in errors.items() if was_rejected(error)}


async def _file_parts(call: Call, session: SessionRef, turns: Sequence[TurnEntry]) -> dict[str, JsonObject]:
    """The files of the turns, without those that are no longer stored."""
    ids = {file.id for turn in turns for file in turn.files}
    if not ids:
        return {}
    owner = files_owner(session.sid)
    found = await call.services.files.describe_all(owner, sorted(ids))
    return await native_file_parts(call, list(found.values()), owner, skip_lost=True)
