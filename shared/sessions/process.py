"""What the sessions need once per process. It stands above the edge, so the wiring cannot make it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from shared.auth.caller_rate import CallerRate
from shared.clock import elapsed_s
from shared.http.call import Call
from shared.http.shutdown import listen
from shared.sessions.live import LiveTurns
from shared.sessions.session import Answer
from shared.sessions.store import Sessions
from shared.sessions.turn import Turn
from shared.sessions.turns import Turns, no_turn
from shared.settings.shares import MESSAGES_WINDOW_S, message_limit
from shared.stores.port import Store
from shared.telemetry.record import RequestRecord, log_failure

if TYPE_CHECKING:
    from shared.bootstrap import Services

_sessions: WeakKeyDictionary[Store, Sessions] = WeakKeyDictionary()
_live: WeakKeyDictionary[Services, LiveTurns] = WeakKeyDictionary()


def sessions_of(call: Call) -> Sessions:
    """The sessions in the store of this process."""
    store = call.services.store
    made = _sessions.get(store)
    if made is None:
        made = _sessions[store] = Sessions(store, ttl_ms=call.settings.session_ttl_hours * 3_600_000)
    return made


def live_of(call: Call) -> LiveTurns:
    """The turns that this process answers. They end before its services are closed."""
    services = call.services
    made = _live.get(services)
    if made is None:
        sessions = sessions_of(call)
        turns = Turns(services.store, ttl_ms=sessions.ttl_ms)
        made = LiveTurns(turns, whole_answers(sessions), grace_s=call.settings.stream_grace_s, log=_log)
        services.at_close.append(made.aclose)
        listen(made)
        _live[services] = made
    return made


def message_rate(call: Call) -> CallerRate:
    """How much text a caller whom nobody knows may store."""
    return CallerRate(call.services.store, message_limit(call.settings), MESSAGES_WINDOW_S, counted="stored messages")


def whole_answers(sessions: Sessions) -> Callable[[str, Turn], Awaitable[Answer]]:
    """Reads the answers of turns that have ended."""

    async def whole_answer(name: str, turn: Turn) -> Answer:
        """Raises NotFound."""
        session = await sessions.read(turn.owner, turn.session)
        found = await sessions.history(session, before=turn.number + 1, limit=1)
        if not found or found[0].turn != name or found[0].answer is None:
            raise no_turn()
        return found[0].answer

    return whole_answer


def _log(error: Exception) -> None:
    """Logs an error of work that no request waits for."""
    log_failure(error, RequestRecord("sessions", "GET", "", elapsed_s(), route="/stream"))
