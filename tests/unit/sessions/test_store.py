"""Long sessions, and how their pages outlive the time to live."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from shared.errors import LedgerUnavailable, NotFound
from shared.sessions.session import FULL_PAGE_BYTES, MAX_PAGE_BYTES, FileRef
from shared.sessions.store import SessionRef, Sessions
from shared.stores.memory import MemoryStore, Shelf
from shared.stores.port import Outcome, Step, StoreUnavailable
from tests.support.faulty_store import FaultyStore
from tests.support.stored_sessions import HOUR_MS, end, opened, sessions_on, texts


@pytest.fixture
def shelf() -> Shelf:
    return Shelf()


@pytest.fixture
def sessions(shelf: Shelf) -> Sessions:
    return sessions_on(MemoryStore(shelf), ttl_ms=4 * HOUR_MS)


def later(shelf: Shelf, hours: float) -> None:
    shelf._offset_ms += hours * HOUR_MS


async def with_pages(sessions: Sessions, count: int) -> SessionRef:
    """A session whose every message fills a page."""
    session = await opened(sessions, text="0" * (FULL_PAGE_BYTES - 2))
    for number in range(1, count):
        await sessions.append_message(session, str(number) * (FULL_PAGE_BYTES - 2))
    assert session.head is not None
    await end(sessions, session.head.pending, "é" * MAX_PAGE_BYTES)
    return session


async def test_5000_turns_are_kept_in_pages_below_the_limit(sessions: Sessions, shelf: Shelf) -> None:
    session = await opened(sessions, text="message 0 " + "x" * 200)
    for number in range(1, 5000):
        await sessions.append_message(session, f"message {number} " + "x" * 200)
    session = await sessions.read("anna", session.sid)
    assert session.head is not None
    assert session.head.turns == 5000
    found, before = [], 5000
    while before:
        part = await sessions.history(session, before=before, limit=1000)
        found = [*part, *found]
        before = part[0].number
    assert [one.text.split()[1] for one in found] == [str(number) for number in range(5000)]
    sizes = {key: len(entry.put.value) for key, entry in shelf.entries.items()}
    assert max(sizes.values()) <= MAX_PAGE_BYTES
    assert max(size for key, size in sizes.items() if key.startswith("sessions/")) < 1000


async def test_a_page_with_long_answers_takes_no_more_messages(sessions: Sessions) -> None:
    """The answers are added after the head was written with the page's size."""
    session = await opened(sessions)
    assert session.head is not None
    await end(sessions, session.head.pending, "x" * (MAX_PAGE_BYTES - 1000))
    await sessions.append_message(session, "y" * (FULL_PAGE_BYTES - 2))
    session = await sessions.read("anna", session.sid)
    assert session.head is not None
    assert session.head.firsts == (0, 1)


async def test_closed_pages_live_as_long_as_their_session(sessions: Sessions, shelf: Shelf) -> None:
    """Nobody reads the first pages for days, while messages come just before the session would expire."""
    session = await with_pages(sessions, 3)
    for _ in range(5):
        later(shelf, 3.9)
        await sessions.append_message(session, "again")
    found = await texts(sessions, session)
    assert len(found) == 8
    assert found[0][1] == "é" * MAX_PAGE_BYTES


async def test_uploads_keep_closed_pages_too(sessions: Sessions, shelf: Shelf) -> None:
    session = await with_pages(sessions, 2)
    for number in range(6):
        later(shelf, 3.9)
        await sessions.add_upload(session, FileRef(f"file-{number}", "cat.png", "image/png", 1))
    assert len(await texts(sessions, session)) == 2


async def test_pages_are_written_again_once_per_half_a_ttl(sessions: Sessions, shelf: Shelf) -> None:
    session = await with_pages(sessions, 3)
    later(shelf, 3)
    for expected in (3 + 2 + 1, 1, 1):
        commits = shelf._commits
        await sessions.append_message(session, "again")
        assert shelf._commits - commits == expected


async def test_a_session_expires_after_its_last_use(sessions: Sessions, shelf: Shelf) -> None:
    session = await opened(sessions)
    later(shelf, 3)
    await sessions.append_message(session, "again")
    later(shelf, 3)
    assert len(await texts(sessions, session)) == 2
    later(shelf, 1.1)
    with pytest.raises(NotFound):
        await sessions.read("anna", session.sid)
    assert await sessions.newest("anna") == []


async def test_a_lost_reply_appends_one_turn() -> None:
    store = FaultyStore()
    sessions = sessions_on(store)
    session = sessions.open("anna")
    store.lost_replies = 2
    turn = await sessions.append_message(session, "Hello")
    session = await sessions.read("anna", session.sid)
    assert [one.turn for one in await sessions.history(session)] == [turn]
    store.lost_replies = 2
    await sessions.add_upload(session, FileRef("file-1", "cat.png", "image/png", 1))
    session = await sessions.read("anna", session.sid)
    assert session.head is not None
    assert len(session.head.uploads) == 1


async def test_a_store_that_fails_is_an_error_to_retry() -> None:
    store = FaultyStore()
    sessions = sessions_on(store)
    session = await opened(sessions)
    store.failure = StoreUnavailable
    for work in (
        sessions.read("anna", session.sid),
        sessions.append_message(session, "again"),
        sessions.history(session),
        sessions.newest("anna"),
        sessions.delete(session),
    ):
        with pytest.raises(LedgerUnavailable):
            await work


async def test_a_foreign_session_costs_what_an_unknown_one_does(sessions: Sessions) -> None:
    """The same reads, so that the time tells nobody whether an id exists."""
    session = await opened(sessions)
    reads: list[int] = []
    transact = sessions.store.transact

    async def counting(keys: Sequence[str], step: Step[Any], **more: Any) -> Outcome[Any]:
        reads[-1] += len(keys)
        return await transact(keys, step, **more)

    sessions.store.transact = counting  # type: ignore[method-assign]
    for owner, sid in (("ben", session.sid), ("ben", "0" * 44)):
        reads.append(0)
        with pytest.raises(NotFound):
            await sessions.read(owner, sid)
    assert reads == [1, 1]


async def test_a_turn_takes_one_commit_for_its_message(sessions: Sessions, shelf: Shelf) -> None:
    session = await opened(sessions)
    assert shelf._commits == 1
    assert session.head is not None
    await end(sessions, session.head.pending, "Hi")
    assert shelf._commits == 2


async def test_history_is_bounded_in_bytes(sessions: Sessions) -> None:
    """Every part has at least one turn, so that a reader always gets further."""
    session = await opened(sessions, text="x" * 200_000)
    for _ in range(19):
        await sessions.append_message(session, "x" * 200_000)
    session = await sessions.read("anna", session.sid)
    before, parts = 20, []
    while before:
        part = await sessions.history(session, before=before, limit=200)
        parts.append(len(part))
        before = part[0].number
    assert parts == [11, 9]
