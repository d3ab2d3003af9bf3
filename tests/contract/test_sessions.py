"""What stored sessions promise (shared/sessions/store.py), on every store."""

from __future__ import annotations

import asyncio

import pytest

from shared.errors import BadRequest, NotFound, NothingPending
from shared.sessions.session import MAX_MESSAGE_BYTES, MAX_WAITING_FILES, FileRef
from shared.sessions.store import Sessions
from shared.sessions.turn import turn_key
from shared.stores.port import Store
from tests.contract.conftest import Backing
from tests.support.stored_sessions import end, opened, sessions_on, texts

CAT = FileRef("file-1", "cat.png", "image/png", 10)


@pytest.fixture
def sessions(store: Store) -> Sessions:
    return sessions_on(store)


async def test_a_turn_is_kept_with_its_answer(sessions: Sessions) -> None:
    session = await opened(sessions, text="Hello\nthere")
    assert session.head is not None
    assert (session.head.title, session.head.turns, session.head.pending != "") == ("Hello", 1, True)
    assert await end(sessions, session.head.pending, "Bonjour")
    assert await texts(sessions, session) == [("Hello\nthere", "Bonjour")]
    ended = await sessions.read("anna", session.sid)
    assert ended.head is not None
    assert ended.head.pending == ""


async def test_a_turn_ends_once(sessions: Sessions) -> None:
    session = await opened(sessions)
    assert session.head is not None
    assert await end(sessions, session.head.pending, "first")
    assert not await end(sessions, session.head.pending, "second")
    assert await texts(sessions, session) == [("Hello", "first")]


async def test_messages_at_once_are_all_kept_in_one_order(backing: Backing) -> None:
    """The first messages of a session that is not stored yet, from two clients."""
    first, second = sessions_on(backing.client()), sessions_on(backing.client())
    session = await first.default("anna")
    sent = [f"message {number}" for number in range(6)]
    turns = await asyncio.gather(
        *((first, second)[number % 2].append_message(session, text) for number, text in enumerate(sent))
    )
    found = await first.history(await first.read("anna", session.sid))
    assert [one.number for one in found] == list(range(6))
    assert {one.turn: one.text for one in found} == dict(zip(turns, sent, strict=True))
    assert [one.turn for one in found] == [one.turn for one in await second.history(await second.default("anna"))]


async def test_other_owners_session_is_not_found(sessions: Sessions) -> None:
    session = await opened(sessions)
    errors = []
    for owner, sid in (("ben", session.sid), ("anna", "0" * 44), ("anna", "x")):
        with pytest.raises(NotFound) as error:
            await sessions.read(owner, sid)
        errors.append(str(error.value))
    assert len(set(errors)) == 1


async def test_a_session_opened_with_a_foreign_id_stays_apart(sessions: Sessions) -> None:
    """Pages are kept under their owner too."""
    session = await opened(sessions)
    await sessions.append_message(sessions_on(sessions.store).open("ben"), "mine")
    assert await texts(sessions, session) == [("Hello", None)]


async def test_the_list_has_the_owners_newest_sessions_first(sessions: Sessions) -> None:
    made = []
    for number in range(3):
        made.append((await opened(sessions, text=f"session {number}")).sid)
        await asyncio.sleep(0.002)  # Ids of one millisecond have no order.
    await opened(sessions, owner="ben")
    await sessions.append_message(await sessions.default("anna"), "by default")
    listed = await sessions.newest("anna")
    assert [one.head.title for one in listed] == ["by default", "session 2", "session 1", "session 0"]
    assert [one.sid for one in listed][1:] == made[::-1]
    assert len(await sessions.newest("anna", limit=2)) == 2


async def test_history_is_paged(sessions: Sessions) -> None:
    session = await opened(sessions, text="0")
    for number in range(1, 8):
        await sessions.append_message(session, str(number))
    session = await sessions.read("anna", session.sid)
    assert [one.text for one in await sessions.history(session, limit=3)] == ["5", "6", "7"]
    assert [one.text for one in await sessions.history(session, before=5, limit=3)] == ["2", "3", "4"]
    assert [one.text for one in await sessions.history(session, before=2, limit=3)] == ["0", "1"]
    assert await sessions.history(session, before=0) == []


async def test_long_messages_and_answers_are_kept_whole(sessions: Sessions) -> None:
    """A page is closed before it is too large, and an answer that does not fit is kept beside it."""
    long, answer = "x" * (MAX_MESSAGE_BYTES - 2), "é" * 700_000
    session = await opened(sessions, text=long)
    for _ in range(2):
        await sessions.append_message(session, long)
    session = await sessions.read("anna", session.sid)
    assert session.head is not None
    assert len(session.head.firsts) == 3
    for entry in await sessions.history(session):
        assert await end(sessions, entry.turn, answer)
    for number in range(3):
        session = await sessions.read("anna", session.sid)
        (entry,) = await sessions.history(session, before=number + 1, limit=1)
        assert entry.answer is not None
        assert (entry.text, entry.answer.text) == (long, answer)
    assert len(await sessions.history(session)) == 2, "an answer is bounded"


async def test_message_beyond_the_bound_is_rejected(sessions: Sessions) -> None:
    session = await opened(sessions)
    with pytest.raises(BadRequest, match="message is longer than 256 KB"):
        await sessions.append_message(session, "\x00" * (MAX_MESSAGE_BYTES // 6 + 1))


async def test_uploads_wait_for_the_next_message(sessions: Sessions) -> None:
    session = sessions.open("anna")
    await sessions.add_upload(session, CAT)
    await sessions.add_upload(session, CAT)
    session = await sessions.read("anna", session.sid)
    await sessions.append_message(session, "What is this?")
    await sessions.append_message(session, "And now?")
    assert [one.files for one in await sessions.history(await sessions.read("anna", session.sid))] == [(CAT,), ()]


async def test_waiting_files_are_bounded(sessions: Sessions) -> None:
    session = sessions.open("anna")
    for number in range(MAX_WAITING_FILES):
        await sessions.add_upload(session, CAT._replace(id=f"file-{number}"))
    with pytest.raises(BadRequest, match="wait for the session's next message"):
        await sessions.add_upload(session, CAT._replace(id="one more"))


async def test_what_is_pending(sessions: Sessions) -> None:
    """The newest message without an answer; or the files that came after it, as a turn of their own."""
    session = await sessions.default("anna")
    with pytest.raises(NothingPending):
        await sessions.pending_turn(session)
    turn = await sessions.append_message(session, "Hello")
    session = await sessions.default("anna")
    assert await sessions.pending_turn(session) == turn
    await end(sessions, turn, "Hi")
    with pytest.raises(NothingPending):
        await sessions.pending_turn(await sessions.default("anna"))
    await sessions.add_upload(session, CAT)
    session = await sessions.default("anna")
    found = await asyncio.gather(sessions.pending_turn(session), sessions.pending_turn(session))
    assert found[0] == found[1] != turn
    assert [one.files for one in await sessions.history(await sessions.default("anna"))] == [(), (CAT,)]


async def test_deletion_takes_everything_along(sessions: Sessions) -> None:
    session = await opened(sessions, text="x" * (MAX_MESSAGE_BYTES - 2))
    await sessions.add_upload(session, CAT)
    turn = await sessions.append_message(session, "What is this?")
    await end(sessions, turn, "é" * 700_000)
    await sessions.add_upload(session, CAT._replace(id="file-2"))
    last = await sessions.append_message(session, "And this?")
    session = await sessions.read("anna", session.sid)
    kept = [one async for page in sessions.entries(session) for one in page]
    assert [[file.id for file in one.files] for one in kept] == [[], ["file-1"], ["file-2"]]
    await sessions.delete(session)
    for prefix in ("sessions/", "session_pages/", "session_answers/", "turns/"):
        assert [key for key in await sessions.store.list(prefix) if key != turn_key(turn)] == [], prefix
    assert (await sessions.store.read(turn_key(last))).value is None
    for request in (sessions.append_message(session, "late"), sessions.add_upload(session, CAT)):
        with pytest.raises(NotFound):
            await request
