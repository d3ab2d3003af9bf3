"""Stored sessions for tests: appends turns, and ends them as the live stream does."""

from __future__ import annotations

from collections.abc import Mapping

from shared.sessions.session import Answer, end_keys, end_writes
from shared.sessions.store import SessionRef, Sessions
from shared.sessions.turn import Turn, turn_key
from shared.stores.port import Change, Store

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS


def sessions_on(store: Store, ttl_ms: int = DAY_MS) -> Sessions:
    return Sessions(store, ttl_ms=ttl_ms)


async def opened(sessions: Sessions, owner: str = "anna", text: str = "Hello") -> SessionRef:
    """A new session with one message."""
    made = sessions.open(owner)
    await sessions.append_message(made, text)
    return await sessions.read(owner, made.sid)


async def end(sessions: Sessions, turn: str, text: str) -> bool:
    """Ends a turn with an answer; whether it was stored."""
    value = (await sessions.store.read(turn_key(turn))).value
    assert value is not None
    kept = Turn.unpack(value)
    keys = end_keys(kept.owner, kept.session, kept.page, turn, text)

    def step(values: Mapping[str, bytes | None], now_ms: int) -> Change[bool]:
        writes = end_writes(values, keys, turn, Answer("done", text, ended_ms=now_ms), now_ms, sessions.ttl_ms)
        return Change(bool(writes), writes)

    return (await sessions.store.transact(keys, step)).result


async def texts(sessions: Sessions, session: SessionRef) -> list[tuple[str, str | None]]:
    """The messages and answers of the session as it is now."""
    current = await sessions.read(session.owner, session.sid)
    found = await sessions.history(current, limit=1000)
    return [(one.text, one.answer.text if one.answer else None) for one in found]
