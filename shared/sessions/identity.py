"""Which session a request means, and the headers that tell its caller.

An id in the body, form or query (`session_id`) or in the header x-session-id must be one of the caller's sessions. A cookie comes
along by itself, so one whose session has expired is no error. A request without any of them means the caller's default session.
Anonymous callers have one default session per machine, on a loopback address only: elsewhere each request without an id
opens a session of its own, and its unguessable id is what its caller proves to be its owner with.
"""

from __future__ import annotations

from ipaddress import ip_address

from starlette.responses import Response

from shared.errors import BadRequest
from shared.http.browser_origin import is_trusted_page, may_set_cookie
from shared.http.call import Call
from shared.http.owner import owner_of
from shared.sessions.process import sessions_of
from shared.sessions.session import fingerprint_of
from shared.sessions.store import SessionRef
from shared.settings.settings import Settings

COOKIE = "session_id"
HEADER = "x-session-id"
FIELD = "session_id"
NEW = "new"
"""In place of an id: opens a session, for a page whose caller may have others."""
_ANONYMOUS, _ANONYMOUS_HERE = "anonymous", "anonymous on this machine"
"""Owners. They are not ids of callers, which begin with a kind and a colon."""


def owner_fingerprint(call: Call) -> str:
    """The owner of the caller's sessions, as the store names it."""
    if call.caller.kind != "anonymous":
        return fingerprint_of(owner_of(call))
    return fingerprint_of(_ANONYMOUS_HERE if is_on_this_machine(call) else _ANONYMOUS)


def is_on_this_machine(call: Call) -> bool:
    """Whether the request came over a loopback address. A deployed server is not on its caller's machine."""
    try:
        return not call.settings.deployed and ip_address(call.address).is_loopback
    except ValueError:
        return False


async def session_of(call: Call, given: str | None = None) -> SessionRef:
    """The session that the request means; `given` is `session_id` of its body, form or query. Raises NotFound, BadRequest."""
    sessions, owner = sessions_of(call), owner_fingerprint(call)
    named = _named(call, given)
    if named is not None:
        return sessions.open(owner) if named == NEW else await sessions.read(owner, named)
    if (kept := await session_of_cookie(call)) is not None:
        return kept
    if call.caller.kind == "anonymous" and not is_on_this_machine(call):
        return sessions.open(owner)
    return await sessions.default(owner)


async def session_of_cookie(call: Call) -> SessionRef | None:
    """The session in the request's cookie; None if there is none of the caller's."""
    sid = call.request.cookies.get(COOKIE)
    if sid is None or not is_trusted_page(call.headers, call.settings):
        return None
    return await sessions_of(call).find(owner_fingerprint(call), sid)


def with_session(call: Call, session: SessionRef, response: Response) -> Response:
    """`response` with the session's id as a header and as a cookie. A link or a foreign page that names a session of its author
    gets no cookie: the visitor's next messages would go into that session, where the author reads them."""
    response.headers[HEADER] = session.sid
    if may_set_cookie(call.headers, call.settings):
        response.headers.append("set-cookie", _cookie(session.sid, call.settings))
    return response


def _named(call: Call, given: str | None) -> str | None:
    header = call.headers.get(HEADER)
    if given is not None and header is not None and given != header:
        raise BadRequest(f"{FIELD} and the header {HEADER} name different sessions. Send one of them.", field=FIELD)
    return header if given is None else given


def _cookie(sid: str, settings: Settings) -> str:
    """Not readable by scripts. Pages of other origins get it only if CORS_ORIGIN names origins: each of their sites then has a
    cookie of its own (Partitioned), and requires https or a loopback address (Secure)."""
    kept = f"{COOKIE}={sid}; Path=/; Max-Age={settings.session_ttl_hours * 3600}; HttpOnly"
    if settings.cors_origins != ("*",):
        return f"{kept}; SameSite=None; Secure; Partitioned"
    return f"{kept}; SameSite=Lax{'; Secure' if settings.deployed else ''}"
