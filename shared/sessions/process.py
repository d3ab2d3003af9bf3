"""What the sessions need once per process. It stands above the edge, so the wiring cannot make it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, NamedTuple
from weakref import WeakKeyDictionary

from shared.clock import elapsed_s
from shared.http.call import Call
from shared.sessions.live import LiveTurns
from shared.sessions.session import Answer
from shared.sessions.store import Sessions
from shared.sessions.turn import Turn
from shared.sessions.turns import Turns, no_turn
from shared.telemetry.record import RequestRecord, log_failure

if TYPE_CHECKING:
    from shared.bootstrap import Services


class _Made(NamedTuple):
    sessions: Sessions
    live: LiveTurns


_made: WeakKeyDictionary[Services, _Made] = WeakKeyDictionary()


def sessions_of(call: Call) -> Sessions:
    """The sessions of this process's store."""
    return _of(call).sessions


def live_of(call: Call) -> LiveTurns:
    """The turns that this process answers."""
    return _of(call).live


def _of(call: Call) -> _Made:
    services = call.services
    made = _made.get(services)
    if made is None:
        ttl_ms = call.settings.session_ttl_hours * 3_600_000
        sessions = Sessions(services.store, ttl_ms=ttl_ms)
        live = LiveTurns(
            Turns(services.store, ttl_ms=ttl_ms),
            whole_answers(sessions),
            grace_s=call.settings.stream_grace_s,
            log=_log,
        )
        services.at_close.append(live.aclose)
        made = _made[services] = _Made(sessions, live)
    return made


def whole_answers(sessions: Sessions) -> Callable[[str, Turn], Awaitable[Answer]]:
    """The answers of turns that have ended."""

    async def whole_answer(name: str, turn: Turn) -> Answer:
        """Raises NotFound."""
        session = await sessions.read(turn.owner, turn.session)
        found = await sessions.history(session, before=turn.number + 1, limit=1)
        if not found or found[0].turn != name or found[0].answer is None:
            raise no_turn()
        return found[0].answer

    return whole_answer


def _log(error: Exception) -> None:
    """Logs an error of the work for a turn that no request waits for."""
    log_failure(error, RequestRecord("sessions", "GET", "", elapsed_s(), route="/stream"))
