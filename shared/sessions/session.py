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
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import orjson

from shared.errors import BadRequest
from shared.generation import UNKNOWN_USAGE, JsonObject, Usage
from shared.media.names import newest_first
from shared.secret import Secret
from shared.stores.port import Put

State = Literal["pending", "streaming", "done", "stopped", "interrupted"]
"""Of a turn. turn.py has the arrows between them."""
VERSION = 1
"""Of the format of heads and pages."""
MAX_TURNS = 10_000
MAX_PAGES = 512
MAX_MESSAGE_BYTES = 256 * 1024
"""Of a message as JSON: about 60,000 tokens of English."""
MAX_WAITING_FILES = 16
MAX_TITLE_CHARS = 80
FULL_PAGE_BYTES = 64 * 1024
"""A page of this size takes no more messages: each message reads and writes its page. With the last message and its answer a
page is a few times as large."""
MAX_PAGE_BYTES = 900_000
"""An answer that would make its page larger is kept beside it."""
PIECE_BYTES = 900_000
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
    error: JsonObject | None = None
    """What ended an interrupted answer, if that was an error: `code`, `message` and `status`."""


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

    @property
    def size_bytes(self) -> int:
        """Of its texts."""
        return len(self.text.encode()) + (0 if self.answer is None else len(self.answer.text.encode()))


class Page(NamedTuple):
    entries: tuple[TurnEntry, ...] = ()

    def answered(self, place: int, answer: Answer) -> Page:
        entries = list(self.entries)
        entries[place] = entries[place]._replace(answer=answer)
        return Page(tuple(entries))

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
    firsts: tuple[int, ...] = ()
    """The number of the first turn of each page."""
    page_bytes: int = 0
    """Of the last page."""
    pending: str = ""
    """The newest turn, until it has ended: it is pending or streaming."""
    uploads: tuple[FileRef, ...] = ()
    """Files that no message has taken yet."""
    refreshed_ms: int = 0
    """When the expiry of all pages was last extended."""

    @property
    def page_for_next(self) -> int:
        """The page that the next message goes into: the last one, or a new one when that is full."""
        last = len(self.firsts) - 1
        return last if last >= 0 and self.page_bytes < FULL_PAGE_BYTES else last + 1

    def pages_of(self, first: int, end: int) -> range:
        """The pages that hold the turns from the number `first` to `end` (exclusive)."""
        if first >= min(end, self.turns):
            return range(0)
        return range(bisect_right(self.firsts, first) - 1, bisect_right(self.firsts, min(end, self.turns) - 1))

    def pack(self) -> bytes:
        return orjson.dumps({"v": VERSION, **self._asdict()}, default=tuple)

    @classmethod
    def unpack(cls, value: bytes) -> Head:
        fields = orjson.loads(value)
        del fields["v"]
        fields["firsts"] = tuple(fields["firsts"])
        fields["uploads"] = tuple(FileRef(*one) for one in fields["uploads"])
        return cls(**fields)


def appended(head: Head | None, page: Page, turn: str, text: str, now_ms: int) -> tuple[Head, Page]:
    """The session with one turn more, of `text` and the files that no turn has yet. `page` is the one of `page_for_next`; without
    a head the session begins. Raises BadRequest beyond the bounds."""
    head = head or Head(now_ms, now_ms, refreshed_ms=now_ms)
    if head.turns >= MAX_TURNS or head.page_for_next >= MAX_PAGES:
        raise BadRequest(
            f"The session has {head.turns} messages, which is all that one can hold. Start a new session.",
            field="session_id",
        )
    entry = TurnEntry(turn, head.turns, text, head.uploads, now_ms)
    page = Page((*page.entries, entry))
    firsts = head.firsts if head.page_for_next < len(head.firsts) else (*head.firsts, head.turns)
    title = head.title or title_of(text) or (head.uploads[0].name[:MAX_TITLE_CHARS] if head.uploads else "")
    changed = head._replace(
        updated_ms=now_ms,
        title=title,
        turns=head.turns + 1,
        firsts=firsts,
        page_bytes=len(page.pack()),
        pending=turn,
        uploads=(),
    )
    return changed, page


def with_upload(head: Head | None, file: FileRef, now_ms: int) -> Head:
    """The session with one file more for its next message. Raises BadRequest beyond the bound."""
    head = head or Head(now_ms, now_ms, refreshed_ms=now_ms)
    if len(head.uploads) >= MAX_WAITING_FILES:
        raise BadRequest(
            f"{MAX_WAITING_FILES} files wait for the session's next message, which is all that one takes. Send a message first.",
            field="file",
        )
    return head._replace(updated_ms=now_ms, uploads=(*head.uploads, file))


def end_keys(owner: str, sid: str, page: int, turn: str, text: str) -> list[str]:
    """The entries that `end_writes` may change, besides the turn's own."""
    pieces = -(-len(text.encode()) // PIECE_BYTES)
    return [head_key(owner, sid), page_key(owner, sid, page), *(answer_key(turn, n) for n in range(pieces))]


def end_writes(
    values: Mapping[str, bytes | None], keys: Sequence[str], turn: str, answer: Answer, now_ms: int, ttl_ms: int
) -> dict[str, Put | None]:
    """How a turn's end is stored: the answer in its page, or beside it where the page is too full for it. `keys` are those of
    `end_keys`. Nothing if the session is deleted, or the turn has an answer already."""
    head_at, page_at, *piece_keys = keys
    value, page = values[head_at], Page.unpack(values[page_at])
    place = next((at for at, one in enumerate(page.entries) if one.turn == turn), None)
    if value is None or place is None or page.entries[place].answer is not None:
        return {}
    head = Head.unpack(value)
    packed = page.answered(place, answer).pack()
    writes: dict[str, Put | None] = {}
    if len(packed) > MAX_PAGE_BYTES:
        data = answer.text.encode()
        packed = page.answered(place, answer._replace(text="", pieces=len(piece_keys))).pack()
        for n, key in enumerate(piece_keys):
            writes[key] = Put(data[n * PIECE_BYTES : (n + 1) * PIECE_BYTES], page_expiry_ms(now_ms, ttl_ms))
    writes[page_at] = Put(packed, page_expiry_ms(now_ms, ttl_ms))
    is_last = page.entries[0].number == head.firsts[-1]
    head = head._replace(
        updated_ms=now_ms,
        pending="" if head.pending == turn else head.pending,
        page_bytes=len(packed) if is_last else head.page_bytes,
    )
    writes[head_at] = Put(head.pack(), now_ms + ttl_ms)
    return writes


def page_expiry_ms(now_ms: int, ttl_ms: int) -> int:
    """A page outlives its head, whose expiry each write extends: the pages' is extended only once per half a TTL."""
    return now_ms + 3 * ttl_ms


def title_of(text: str) -> str:
    """The first line of a message, at most MAX_TITLE_CHARS long."""
    line = next((line for line in text.splitlines() if line.strip()), "")
    line = " ".join(line.split())
    return line if len(line) <= MAX_TITLE_CHARS else line[: MAX_TITLE_CHARS - 1].rstrip() + "…"


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


def check_message(text: str) -> None:
    """Raises BadRequest for a message that is too long for a page."""
    if len(text) > MAX_MESSAGE_BYTES or len(orjson.dumps(text)) > MAX_MESSAGE_BYTES:
        raise BadRequest(
            f"message is longer than {MAX_MESSAGE_BYTES // 1024} KB. Send a shorter one, or its text as a file to POST /upload.",
            field="message",
        )


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
        state, said, model, finish_reason, usage, ended_ms, pieces, error = answer
        kept = Answer(state, said, model, finish_reason, Usage(*usage), ended_ms, pieces, error)
    return TurnEntry(turn, number, text, tuple(FileRef(*one) for one in files), created_ms, kept)
