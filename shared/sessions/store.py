"""Sessions in the store: read, append, list, delete. One transaction writes the head, the page and the turn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from shared.sessions.session import FileRef, Head, TurnEntry
from shared.stores.port import Store


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


class Sessions:
    """Every method raises LedgerUnavailable. A method that takes a session's id raises the same NotFound for invalid, unknown and
    expired ids, and for sessions of another owner."""

    def __init__(self, store: Store, *, ttl_ms: int) -> None:
        self.store = store
        self.ttl_ms = ttl_ms

    def open(self, owner: str) -> SessionRef:
        """A new session, which is stored with its first message or file."""
        raise NotImplementedError

    async def default(self, owner: str) -> SessionRef:
        """The session of requests of `owner` that name none; it may not be stored yet."""
        raise NotImplementedError

    async def read(self, owner: str, sid: str) -> SessionRef:
        raise NotImplementedError

    async def append_message(self, session: SessionRef, text: str) -> str:
        """Stores a turn with this text and the files that no turn has yet; its id. Raises BadRequest beyond the bounds."""
        raise NotImplementedError

    async def pending_turn(self, session: SessionRef) -> str:
        """The id of the turn that is to be answered: the newest one without an answer, or a new one of the files that no turn
        has yet. Raises NothingPending."""
        raise NotImplementedError

    async def add_upload(self, session: SessionRef, file: FileRef) -> None:
        """Keeps the file for the next message. Raises BadRequest beyond the bounds."""
        raise NotImplementedError

    async def history(self, session: SessionRef, *, before: int | None = None, limit: int = 100) -> list[TurnEntry]:
        """At most `limit` turns in their order, with their answers' whole texts: the newest ones, or those before the number
        `before`."""
        raise NotImplementedError

    async def newest(self, owner: str, *, limit: int) -> list[Listed]:
        """The newest sessions of `owner`, newest first."""
        raise NotImplementedError

    async def delete(self, session: SessionRef) -> list[FileRef]:
        """Deletes it with its turns; returns its files, which the caller deletes."""
        raise NotImplementedError
