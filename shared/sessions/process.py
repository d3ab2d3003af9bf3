"""What the sessions need once per process. It stands above the edge, so the wiring cannot make it."""

from __future__ import annotations

from weakref import WeakKeyDictionary

from shared.auth.caller_rate import CallerRate
from shared.http.call import Call
from shared.sessions.store import Sessions
from shared.settings.shares import MESSAGES_WINDOW_S, message_limit
from shared.stores.port import Store

_sessions: WeakKeyDictionary[Store, Sessions] = WeakKeyDictionary()


def sessions_of(call: Call) -> Sessions:
    """The sessions in the store of this process."""
    store = call.services.store
    made = _sessions.get(store)
    if made is None:
        made = _sessions[store] = Sessions(store, ttl_ms=call.settings.session_ttl_hours * 3_600_000)
    return made


def message_rate(call: Call) -> CallerRate:
    """How much text a caller whom nobody knows may store."""
    return CallerRate(call.services.store, message_limit(call.settings), MESSAGES_WINDOW_S, counted="stored messages")
