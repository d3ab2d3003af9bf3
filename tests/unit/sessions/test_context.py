"""A turn's contents are read back from its page, no further than the model's limit needs."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request

from shared.clock import elapsed_s
from shared.generation import Caller
from shared.http.call import Call
from shared.sessions.context import contents_of
from shared.sessions.process import sessions_of
from shared.sessions.store import SessionRef, Sessions
from shared.sessions.turn import Turn, turn_key
from tests.support.edge import FakeServices
from tests.support.stored_sessions import end, opened


def call_on(services: FakeServices) -> Call:
    scope = {"type": "http", "method": "GET", "path": "/stream", "headers": [], "query_string": b"", "state": {}}
    call = Call(Request(scope), services, elapsed_s())  # type: ignore[arg-type]
    call.known_as(Caller("admin:1", "admin"))
    return call


async def newest(sessions: Sessions, session: SessionRef) -> tuple[SessionRef, Turn]:
    current = await sessions.read(session.owner, session.sid)
    assert current.head is not None
    value = (await sessions.store.read(turn_key(current.head.pending))).value
    assert value is not None
    return current, Turn.unpack(value)


def texts_of(contents: list[dict[str, Any]]) -> list[str]:
    return [part["text"] for content in contents for part in content["parts"]]


async def test_contents_are_the_history_up_to_the_turn() -> None:
    """A message that came after the turn is not part of it."""
    call = call_on(FakeServices())
    sessions = sessions_of(call)
    session = await opened(sessions, text="first")
    assert session.head is not None
    await end(sessions, session.head.pending, "answer")
    await sessions.append_message(session, "second")
    current, turn = await newest(sessions, session)
    await sessions.append_message(current, "third")
    later = await sessions.read(session.owner, session.sid)
    assert texts_of(await contents_of(call, later, turn)) == ["first", "answer", "second"]


async def test_a_long_history_is_trimmed_by_geminis_count() -> None:
    services = FakeServices()
    services.gateway.max_input_tokens = 20_000
    services.gateway.tokens = lambda body: sum(len(text) for text in texts_of(body["contents"])) // 4
    call = call_on(services)
    sessions = sessions_of(call)
    session = await opened(sessions, text="0 " + "word " * 2000)
    for number in range(1, 40):
        await sessions.append_message(session, f"{number} " + "word " * 2000)
    current, turn = await newest(sessions, session)
    reads = 0
    read = services.store.read

    async def counting(key: str, **rest: Any) -> Any:
        nonlocal reads
        reads += key.startswith("session_pages/")
        return await read(key, **rest)

    services.store.read = counting  # type: ignore[method-assign]
    found = texts_of(await contents_of(call, current, turn))
    assert [text.split()[0] for text in found] == [str(number) for number in range(33, 40)]
    assert current.head is not None
    assert reads < len(current.head.firsts)
    assert 1 <= len(services.gateway.counted) <= 3
