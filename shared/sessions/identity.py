"""Which session a request means, and the headers that tell its caller."""

from __future__ import annotations

from starlette.responses import Response

from shared.http.call import Call
from shared.http.owner import owner_of
from shared.sessions.session import fingerprint_of
from shared.sessions.store import SessionRef

COOKIE = "session_id"
HEADER = "x-session-id"
FIELD = "session_id"
NEW = "new"
"""As an id in the header or field: a session of its own, for a page that shares its address with others."""


def owner_fingerprint(call: Call) -> str:
    return fingerprint_of(owner_of(call))


async def session_of(call: Call, given: str | None = None) -> SessionRef:
    """The session named by `given` (the field session_id of the body, form or query), the header or the cookie; else the
    caller's default one. Raises NotFound, BadRequest and RateLimited."""
    raise NotImplementedError


def with_session(call: Call, session: SessionRef, response: Response) -> Response:
    """`response` with the session's id as a header and as a cookie."""
    raise NotImplementedError
