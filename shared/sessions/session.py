"""A session as the store keeps it: a head, pages of turns, and the keys of both. Pure.

    sessions/<owner>.<sid>          Head: what every request reads; it stays small
    session_pages/<owner>.<sid>.<n> Page: turns in their order; page 0 holds the first ones
    session_answers/<turn>.<n>      an answer that did not fit into its page, in pieces of UTF-8

`owner` is a fingerprint, so that a session of another caller is looked up under a key that does not exist: the same 404, after
the same read, as for an unknown id. The digits of an id begin with the creation time, counted down, so that a listing has the
newest session first without an index.
"""

from __future__ import annotations

import re
from typing import Any, Literal, NamedTuple

import orjson

from shared.generation import UNKNOWN_USAGE, Usage
from shared.media.names import newest_first
from shared.secret import Secret

State = Literal["pending", "streaming", "done", "stopped", "interrupted"]
"""Of a turn. turn.py has the arrows between them."""
VERSION = 1
"""Of the format of heads and pages."""
_SID = re.compile(r"[0-9a-f]{44}")
_TURN = re.compile(r"[A-Za-z0-9_-]{22}")


class FileRef(NamedTuple):
    """A file of the session, by its id in the file store. Its owner there is `files_owner`."""

    id: str
    name: str
    mime_type: str
    size_bytes: int


class Answer(NamedTuple):
    """How a turn ended. `text` is what was generated until then."""

    state: State
    text: str
    model: str | None = None
    finish_reason: str | None = None
    usage: Usage = UNKNOWN_USAGE
    ended_ms: int = 0
    pieces: int = 0
    """The text is stored in so many `session_answers` instead of here; 0: it is in `text`."""


class TurnEntry(NamedTuple):
    """A message and its answer, as a page keeps them. `answer` is None until the turn has ended."""

    turn: str
    number: int
    """From 0 in the session; it decides the order."""
    text: str
    """The message; "" if the turn has only files."""
    files: tuple[FileRef, ...]
    created_ms: int
    answer: Answer | None = None


class Page(NamedTuple):
    entries: tuple[TurnEntry, ...] = ()

    def pack(self) -> bytes:
        return orjson.dumps({"v": VERSION, "entries": self.entries}, default=tuple)

    @classmethod
    def unpack(cls, value: bytes | None) -> Page:
        return cls() if value is None else cls(tuple(_entry(one) for one in orjson.loads(value)["entries"]))


class Head(NamedTuple):
    """What is known about a session without its turns."""

    created_ms: int
    updated_ms: int
    title: str = ""
    """The start of the first message."""
    turns: int = 0
    pages: int = 0
    page_bytes: int = 0
    """Of the last page."""
    pending: str = ""
    """The newest turn that has not ended: pending or streaming. "" if there is none."""
    pending_page: int = 0
    uploads: tuple[FileRef, ...] = ()
    """Files that no message has taken yet."""
    refreshed_ms: int = 0
    """When the expiry of the closed pages was last extended."""

    def pack(self) -> bytes:
        return orjson.dumps({"v": VERSION, **self._asdict()}, default=tuple)

    @classmethod
    def unpack(cls, value: bytes) -> Head:
        fields = orjson.loads(value)
        del fields["v"]
        return cls(**{**fields, "uploads": tuple(FileRef(*one) for one in fields["uploads"])})


def new_sid(now_ms: int, random_hex: str) -> str:
    """`random_hex`: 32 unguessable hexadecimal digits."""
    return newest_first(now_ms, random_hex)


def default_sid(owner: str) -> str:
    """The session of a caller that names none. Its id is derived, so that finding it takes no read; only its owner can use it."""
    return "0" * 12 + Secret(owner).fingerprint("default session")


def is_sid(text: str) -> bool:
    return _SID.fullmatch(text) is not None


def is_turn(text: str) -> bool:
    return _TURN.fullmatch(text) is not None


def fingerprint_of(owner: str) -> str:
    return Secret(owner).fingerprint("sessions")


def files_owner(sid: str) -> str:
    """The owner, in the file store, of the files of a session."""
    return f"session:{sid}"


def head_key(owner: str, sid: str) -> str:
    """`owner`: the fingerprint, as in all keys."""
    return f"sessions/{owner}.{sid}"


def heads_prefix(owner: str) -> str:
    return f"sessions/{owner}."


def page_key(owner: str, sid: str, page: int) -> str:
    return f"session_pages/{owner}.{sid}.{page}"


def answer_key(turn: str, piece: int) -> str:
    return f"session_answers/{turn}.{piece}"


def _entry(values: list[Any]) -> TurnEntry:
    turn, number, text, files, created_ms, answer = values
    kept = None
    if answer is not None:
        state, said, model, finish_reason, usage, ended_ms, pieces = answer
        kept = Answer(state, said, model, finish_reason, Usage(*usage), ended_ms, pieces)
    return TurnEntry(turn, number, text, tuple(FileRef(*one) for one in files), created_ms, kept)
