"""What the sessions need once per process. It stands above the edge, so the wiring cannot make it."""

from __future__ import annotations

from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from shared.http.call import Call
from shared.sessions.store import Sessions

if TYPE_CHECKING:
    from shared.bootstrap import Services

_made: WeakKeyDictionary[Services, Sessions] = WeakKeyDictionary()


def sessions_of(call: Call) -> Sessions:
    """The sessions of this process's store."""
    services = call.services
    made = _made.get(services)
    if made is None:
        made = _made[services] = Sessions(services.store, ttl_ms=call.settings.session_ttl_hours * 3_600_000)
    return made
