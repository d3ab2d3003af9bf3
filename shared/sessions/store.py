"""Sessions in the store: read, append, list, delete. One transaction writes the head, the page and the turn.

Nothing is locked: a message is appended if neither the head nor the page has changed since they were read, else again to what
is there now. So two messages sent at once are both kept, in one order.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

from shared.clock import unix_s
from shared.errors import LedgerUnavailable, NotFound, NothingPending
from shared.sessions.session import (
    FileRef,
    Head,
    Page,
    TurnEntry,
    answer_key,
    appended,
    check_message,
    default_sid,
    head_key,
    heads_prefix,
    is_sid,
    new_sid,
    page_expiry_ms,
    page_key,
    with_upload,
)
from shared.sessions.turn import Turn, Unanswered, turn_key, unanswered
from shared.stores.port import KEYS_PER_READ, Change, Put, Step, Store, StoreError, read_all, transact_repeated

T = TypeVar("T")

MAX_LISTED = 100
MAX_HISTORY_BYTES = 2 * 1024 * 1024
"""Of the texts in one answer, but for its last turn."""
MAX_DELETED = 50
"""Entries in one commit."""
_AT_ONCE = 16
_PAGES_AT_ONCE = 4
_MAX_MOVES = 20
"""How often an append follows a session that others extend by whole pages meanwhile."""
_TRIES = 3
_RETRY_AFTER_S = 5.0


@dataclass(frozen=True, slots=True)
class SessionRef:
    """The session that a request means. `head` is None for a session that the request opens: its first write stores it."""

    owner: str
    """As a fingerprint (`session.fingerprint_of`)."""
    sid: str
    head: Head | None = None


class Listed(NamedTuple):
    sid: str
    head: Head


class _Moved(NamedTuple):
    """The session is no longer as it was expected; nothing was written."""

    head: Head | None


class _Stale(NamedTuple):
    """The pages of the session must be written again first, or they could expire before it; nothing was written."""

    head: Head


class Sessions:
    """Every method raises LedgerUnavailable. A session's id that is invalid, unknown or expired, or another owner's, gives the
    same NotFound."""

    def __init__(self, store: Store, *, ttl_ms: int) -> None:
        self.store = store
        self.ttl_ms = ttl_ms

    def open(self, owner: str) -> SessionRef:
        """A new session, which is stored with its first message or file, or by `begin`."""
        return SessionRef(owner, new_sid(int(unix_s() * 1000), secrets.token_hex(16)))

    async def default(self, owner: str) -> SessionRef:
        """The session of requests of `owner` that name none; it may not be stored yet."""
        sid = default_sid(owner)
        return SessionRef(owner, sid, await self._head(owner, sid))

    async def find(self, owner: str, sid: str) -> SessionRef | None:
        head = await self._head(owner, sid) if is_sid(sid) else None
        return None if head is None else SessionRef(owner, sid, head)

    async def read(self, owner: str, sid: str) -> SessionRef:
        found = await self.find(owner, sid)
        if found is None:
            raise no_session()
        return found

    async def append_message(self, session: SessionRef, text: str) -> str:
        """Stores a turn with this text and the files that no turn has yet; returns its id. Raises BadRequest beyond the bounds,
        and NotFound if the session was deleted meanwhile."""
        check_message(text)
        return await self._append(session, text, lambda head: None)

    async def pending_turn(self, session: SessionRef) -> str:
        """The id of the turn that is to be answered: the newest one, if it has no answer yet, or a new one of the files that no
        turn has yet. Raises NothingPending."""
        head = session.head
        if head is not None and head.pending and not head.uploads:
            return head.pending

        def standing(head: Head | None) -> str | None:
            if head is not None and head.uploads:
                return None
            if head is None or not head.pending:
                raise NothingPending(
                    "Nothing waits for an answer in this session. Send a message to POST /chat, or a file to POST /upload, first."
                )
            return head.pending

        standing(head)
        return await self._append(session, "", standing)

    async def add_upload(self, session: SessionRef, file: FileRef) -> None:
        """Keeps the file for the next message. Raises BadRequest beyond the bounds, and NotFound if the session was deleted
        meanwhile."""
        refreshed_ms = 0
        for _ in range(_MAX_MOVES):
            keys = [head_key(session.owner, session.sid)]
            stale = await self._transact(keys, self._upload_step(session, file, refreshed_ms))
            if stale is None:
                return
            refreshed_ms = await self._refresh(session, stale.head)
        raise unavailable()

    async def begin(self, session: SessionRef) -> None:
        """Stores a session without messages and files, for a file that comes later."""
        key = head_key(session.owner, session.sid)

        def step(values: Mapping[str, bytes | None], now_ms: int) -> Change[None]:
            head = Head(now_ms, now_ms, refreshed_ms=now_ms)
            return Change(None, {} if values[key] else {key: Put(head.pack(), now_ms + self.ttl_ms)})

        await self._transact([key], step)

    async def history(self, session: SessionRef, *, before: int | None = None, limit: int = 100) -> list[TurnEntry]:
        """At most `limit` turns in their order, with their answers' whole texts: the newest ones, or those before the number
        `before`. Fewer, but at least one, where they are long."""
        found: list[TurnEntry] = []
        size_bytes = 0
        async with aclosing(self.backwards(session, before)) as turns:
            async for turn in turns:
                found.append(turn)
                size_bytes += turn.size_bytes
                if len(found) >= limit or size_bytes > MAX_HISTORY_BYTES:
                    break
        return found[::-1]

    async def backwards(self, session: SessionRef, before: int | None = None) -> AsyncGenerator[TurnEntry]:
        """The turns before the number `before` from the newest to the oldest, with their answers' whole texts. Pages are read as
        they are needed."""
        head = session.head
        if head is None:
            return
        end = head.turns if before is None else min(before, head.turns)
        keys = [page_key(session.owner, session.sid, number) for number in head.pages_of(0, end)]
        while keys:
            keys, part = keys[:-_PAGES_AT_ONCE], keys[-_PAGES_AT_ONCE:]
            for value in reversed(await self._values(part)):
                for entry in reversed(Page.unpack(value).entries):
                    if entry.number < end:
                        yield await self._whole(entry)

    async def unanswered(self, entries: Iterable[TurnEntry]) -> dict[str, Unanswered]:
        """The turns without an answer, by their ids."""
        turns = {turn_key(one.turn): one.turn for one in entries if one.answer is None}

        def step(values: Mapping[str, bytes | None], now_ms: int) -> Change[dict[str, Unanswered]]:
            return Change({turns[key]: unanswered(value, now_ms) for key, value in values.items()})

        found: dict[str, Unanswered] = {}
        keys = list(turns)
        for at in range(0, len(keys), KEYS_PER_READ):
            part: dict[str, Unanswered] = await self._transact(keys[at : at + KEYS_PER_READ], step)
            found |= part
        return found

    async def newest(self, owner: str, *, limit: int = MAX_LISTED) -> list[Listed]:
        """The newest sessions of `owner`, newest first."""
        try:
            # The default session's id sorts before all others.
            keys = await self.store.list(heads_prefix(owner), limit=limit + 1)
        except StoreError:
            raise unavailable() from None
        values = await self._values(keys)
        found = [
            Listed(key.rpartition(".")[2], Head.unpack(value))
            for key, value in zip(keys, values, strict=True)
            if value is not None
        ]
        return sorted(found, key=lambda one: one.head.created_ms, reverse=True)[:limit]

    async def entries(self, session: SessionRef) -> AsyncGenerator[tuple[TurnEntry, ...]]:
        """All turns in their order, page by page."""
        keys = self._page_keys(session, session.head)
        for at in range(0, len(keys), _PAGES_AT_ONCE):
            for value in await self._values(keys[at : at + _PAGES_AT_ONCE]):
                yield Page.unpack(value).entries

    async def delete(self, session: SessionRef) -> None:
        """Deletes it with its turns, but not its files. The head goes last: if this fails before, a second call completes it."""
        head = session.head
        for _ in range(_MAX_MOVES):
            if head is None:
                return
            keys = self._page_keys(session, head)
            for at in reversed(range(0, len(keys), _PAGES_AT_ONCE)):
                await asyncio.gather(*map(self._delete_page, keys[at : at + _PAGES_AT_ONCE]))
            head = await self._delete_head(session, head.turns)
        raise unavailable()

    def _page_keys(self, session: SessionRef, head: Head | None) -> list[str]:
        return [page_key(session.owner, session.sid, number) for number in range(len(head.firsts) if head else 0)]

    async def _delete_page(self, key: str) -> None:
        (value,) = await self._values([key])
        entries = Page.unpack(value).entries
        gone = [turn_key(one.turn) for one in entries if one.answer is None]
        gone += [answer_key(one.turn, n) for one in entries if one.answer for n in range(one.answer.pieces)]
        gone.append(key)
        for at in range(0, len(gone), MAX_DELETED):
            keys = gone[at : at + MAX_DELETED]
            await self._transact(keys, lambda values, _: Change(None, dict.fromkeys(values)))

    async def _delete_head(self, session: SessionRef, turns: int) -> Head | None:
        """None if it is deleted; the head, if a turn came meanwhile."""
        key = head_key(session.owner, session.sid)

        def step(values: Mapping[str, bytes | None], now_ms: int) -> Change[Head | None]:
            value = values[key]
            head = None if value is None else Head.unpack(value)
            if head is not None and head.turns != turns:
                return Change(head)
            return Change(None, {key: None})

        return await self._transact([key], step)

    async def _append(self, session: SessionRef, text: str, standing: Callable[[Head | None], str | None]) -> str:
        """Appends a turn, unless `standing` names one of the current head that is to be returned instead."""
        turn, head, refreshed_ms = secrets.token_urlsafe(16), session.head, 0
        for _ in range(_MAX_MOVES):
            number = 0 if head is None else head.page_for_next
            step = self._append_step(session, turn, text, number, standing, refreshed_ms)
            keys = [head_key(session.owner, session.sid), page_key(session.owner, session.sid, number), turn_key(turn)]
            result = await self._transact(keys, step)
            if isinstance(result, str):
                return result
            head = result.head
            if isinstance(result, _Stale):
                refreshed_ms = await self._refresh(session, result.head)
        raise unavailable()

    def _upload_step(self, session: SessionRef, file: FileRef, refreshed_ms: int) -> Step[_Stale | None]:
        key = head_key(session.owner, session.sid)

        def step(values: Mapping[str, bytes | None], now_ms: int) -> Change[_Stale | None]:
            head = self._current(values[key], session)
            if head is not None and self._is_stale(head, now_ms, refreshed_ms):
                return Change(_Stale(head))
            if head is not None and any(one.id == file.id for one in head.uploads):
                return Change(None)  # A commit with an unknown outcome was applied.
            changed = with_upload(head, file, now_ms)
            changed = changed._replace(refreshed_ms=max(changed.refreshed_ms, refreshed_ms))
            return Change(None, {key: Put(changed.pack(), now_ms + self.ttl_ms)})

        return step

    def _append_step(
        self,
        session: SessionRef,
        turn: str,
        text: str,
        number: int,
        standing: Callable[[Head | None], str | None],
        refreshed_ms: int,
    ) -> Step[str | _Moved | _Stale]:
        at_head, at_page = head_key(session.owner, session.sid), page_key(session.owner, session.sid, number)

        def step(values: Mapping[str, bytes | None], now_ms: int) -> Change[str | _Moved | _Stale]:
            if values[turn_key(turn)] is not None:
                return Change(turn)  # A commit with an unknown outcome was applied.
            head = self._current(values[at_head], session)
            if (found := standing(head)) is not None:
                return Change(found)
            if number != (0 if head is None else head.page_for_next):
                return Change(_Moved(head))
            if head is not None and self._is_stale(head, now_ms, refreshed_ms):
                return Change(_Stale(head))
            is_new_page = head is None or number == len(head.firsts)
            page = Page() if is_new_page else Page.unpack(values[at_page])
            changed, page = appended(head, page, turn, text, now_ms)
            changed = changed._replace(refreshed_ms=max(changed.refreshed_ms, refreshed_ms))
            made = Turn(session.owner, session.sid, number, changed.turns - 1)
            return Change(
                turn,
                {
                    at_head: Put(changed.pack(), now_ms + self.ttl_ms),
                    at_page: Put(page.pack(), page_expiry_ms(now_ms, self.ttl_ms)),
                    turn_key(turn): Put(made.pack(), page_expiry_ms(now_ms, self.ttl_ms)),
                },
            )

        return step

    def _current(self, value: bytes | None, session: SessionRef) -> Head | None:
        """The head as it is now. Raises NotFound if the session, which was there, is deleted: it does not begin again."""
        if value is not None:
            return Head.unpack(value)
        if session.head is not None:
            raise no_session()
        return None

    def _is_stale(self, head: Head, now_ms: int, refreshed_ms: int) -> bool:
        """Whether pages could expire before the head that is written now."""
        return bool(head.firsts) and now_ms - max(head.refreshed_ms, refreshed_ms) > self.ttl_ms // 2

    async def _refresh(self, session: SessionRef, head: Head) -> int:
        """Extends the expiry of all pages, and of the answers beside them; returns the store's time at the first."""
        keys = self._page_keys(session, head)
        times_ms: list[int] = []
        for at in range(0, len(keys), _AT_ONCE):
            times_ms += await asyncio.gather(*map(self._extend_page, keys[at : at + _AT_ONCE]))
        return min(times_ms)

    async def _extend_page(self, key: str) -> int:
        extended_ms = await self._extend(key)
        (value,) = await self._values([key])
        for entry in Page.unpack(value).entries:
            for piece in range(entry.answer.pieces if entry.answer else 0):
                await self._extend(answer_key(entry.turn, piece))
        return extended_ms

    async def _extend(self, key: str) -> int:
        def step(values: Mapping[str, bytes | None], now_ms: int) -> Change[int]:
            value = values[key]
            writes = {} if value is None else {key: Put(value, page_expiry_ms(now_ms, self.ttl_ms))}
            return Change(now_ms, writes)

        return await self._transact([key], step)

    async def _whole(self, entry: TurnEntry) -> TurnEntry:
        answer = entry.answer
        if answer is None or not answer.pieces:
            return entry
        pieces = await self._values([answer_key(entry.turn, n) for n in range(answer.pieces)])
        text = b"".join(piece or b"" for piece in pieces).decode()
        return entry._replace(answer=answer._replace(text=text, pieces=0))

    async def _head(self, owner: str, sid: str) -> Head | None:
        (value,) = await self._values([head_key(owner, sid)])
        return None if value is None else Head.unpack(value)

    async def _values(self, keys: Sequence[str]) -> list[bytes | None]:
        try:
            values = await read_all(self.store, keys)
        except StoreError:
            raise unavailable() from None
        return [values[key] for key in keys]

    async def _transact(self, keys: Sequence[str], step: Step[T]) -> T:
        try:
            return (await transact_repeated(self.store, keys, step, tries=_TRIES)).result
        except StoreError:
            raise unavailable() from None


def no_session() -> NotFound:
    return NotFound(
        "No session has this id; it may have been deleted or have expired, or it belongs to another caller. Leave session_id out "
        "to use your own."
    )


def unavailable() -> LedgerUnavailable:
    return LedgerUnavailable("The stored sessions cannot be reached. Retry later.", retry_after_s=_RETRY_AFTER_S)
