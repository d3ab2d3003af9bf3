"""A turn: one message of a session, and the answer that is generated for it once. Pure.

    pending ──start──> streaming ──end──> done | stopped | interrupted
       │  <──release──     │
       └──stop──> stopped  └──its deadline passes──> reads as interrupted

`start` is a compare-and-swap: of several instances that open a pending turn at once, one generates, and the others follow it.
`release` returns a turn to pending if its generation failed before any text, so that the caller can open it again. An answer
that Gemini ended without text (blocked, or all its tokens used for thinking) is an end: it was paid for.
The instance that streams holds the turn's `fence`. What it writes is rejected when the fence or the state has changed, or when
the turn's deadline has passed by the store's time: an instance that was suspended meanwhile changes nothing.

The id of an event is `<turn>.<position>`. The position of a `message` event is the number of characters of the answer up to
the end of its text, and the events after the text have positions beyond every text: USAGE_AT and END_AT. So any instance that
has the text can continue after any event, however the text was divided into events before.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple

import orjson

from shared.errors import BadRequest, ResponseBlocked
from shared.generation import JsonObject
from shared.sessions.session import Answer, State

USAGE_AT = 1_000_000_000
END_AT = USAGE_AT + 1
MAX_ANSWER_BYTES = 512 * 1024
"""Of an answer's text as JSON: a turn with its published text must stay below the limit of a document."""
TICKET_MS = 60_000
"""How long a ticket waits for its first connection, and how long it is valid after the end of its turn."""
MAX_TICKETS = 16
"""Tickets of one turn; a further one replaces the oldest."""


def turn_key(turn: str) -> str:
    return f"turns/{turn}"


class EventId(NamedTuple):
    turn: str
    position: int

    @classmethod
    def parse(cls, text: str) -> EventId | None:
        """None if no event of any turn has this id."""
        turn, _, position = text.rpartition(".")
        if not turn or not position.isascii() or not position.isdigit() or len(position) > len(str(END_AT)):
            return None
        return cls(turn, int(position))

    def __str__(self) -> str:
        return f"{self.turn}.{self.position}"


class Ticket(NamedTuple):
    """Opens the stream of one turn for a client that can send neither a header nor a cookie."""

    fingerprint: str
    caller: str
    """Id and kind of the caller that it was made for, as whom the answer is generated."""
    kind: Literal["admin", "anonymous"]
    expires_ms: int = 0
    used: bool = False

    def valid(self, turn: Turn, now_ms: int) -> bool:
        if not self.used or turn.state == "pending":
            return now_ms < self.expires_ms
        ended_ms = read_at(turn, now_ms).ended_ms
        return ended_ms is None or now_ms < ended_ms + TICKET_MS


@dataclass(frozen=True, slots=True)
class Turn:
    """What `turns/<id>` holds. `text` is what was published; the answer of a turn that has ended is in the session's page."""

    owner: str
    """The session's owner, as a fingerprint."""
    session: str
    page: int
    """The page of the session that has its message, and gets its answer."""
    number: int
    """Its place in the session."""
    state: State = "pending"
    instance: str = ""
    """Which instance generates the answer."""
    fence: str = ""
    deadline_ms: int = 0
    text: str = ""
    ended_ms: int | None = None
    error: JsonObject | None = None
    """Why the latest generation failed. What ended an answer is in the session's page, like the answer."""
    tickets: tuple[Ticket, ...] = field(default=())

    def pack(self) -> bytes:
        fields = {name: getattr(self, name) for name in self.__slots__}
        return orjson.dumps({**fields, "tickets": [list(ticket) for ticket in self.tickets]})

    @classmethod
    def unpack(cls, value: bytes) -> Turn:
        fields: dict[str, Any] = orjson.loads(value)
        return cls(**{**fields, "tickets": tuple(Ticket(*ticket) for ticket in fields.get("tickets", ()))})

    @property
    def over(self) -> bool:
        return self.state in ("done", "stopped", "interrupted")


class Unanswered(NamedTuple):
    """A turn without an answer."""

    state: State
    error: JsonObject | None = None
    """Why the last attempt to answer it failed: `code`, `message` and `status`."""


def was_rejected(error: JsonObject | None) -> bool:
    """Whether an attempt to answer a turn failed because of its content, so that a repetition would fail too."""
    return error is not None and (error["status"] == BadRequest.status or error["code"] == ResponseBlocked.code)


def unanswered(value: bytes | None, now_ms: int) -> Unanswered:
    """`value`: what the store has of the turn. A turn that it has no longer cannot be answered."""
    if value is None:
        return Unanswered("interrupted")
    turn = read_at(Turn.unpack(value), now_ms)
    return Unanswered(turn.state, turn.error)


def read_at(turn: Turn, now_ms: int) -> Turn:
    """The turn as it reads at the store's time `now_ms`."""
    if turn.state == "streaming" and now_ms >= turn.deadline_ms:
        return replace(turn, state="interrupted", ended_ms=turn.deadline_ms)
    return turn


def holds(turn: Turn, fence: str, now_ms: int) -> bool:
    """Whether the instance with this fence may still write the turn."""
    return read_at(turn, now_ms).state == "streaming" and turn.fence == fence


def started(turn: Turn, instance: str, fence: str, deadline_ms: int) -> Turn:
    """A pending turn whose answer `instance` generates."""
    return replace(turn, state="streaming", instance=instance, fence=fence, deadline_ms=deadline_ms, error=None)


def published(turn: Turn, text: str) -> Turn:
    """The turn with what its answer has so far. A text only grows."""
    return turn if len(text) <= len(turn.text) else replace(turn, text=text)


def released(turn: Turn, error: JsonObject | None) -> Turn:
    """Pending again: nothing was generated. The fence stays until the next start, for a commit with an unknown outcome."""
    return replace(turn, state="pending", instance="", deadline_ms=0, error=error)


def ended(turn: Turn, answer: Answer, fence: str = "") -> Turn:
    """A turn whose answer is in the session's page. `fence`: of the instance that ended its own turn, so that it can repeat a
    commit with an unknown outcome."""
    return replace(turn, state=answer.state, fence=fence, text="", ended_ms=answer.ended_ms)


def lost(turn: Turn, now_ms: int) -> Answer | None:
    """The answer of a turn that reads as interrupted, because its instance did not end it in time; None for other turns."""
    if turn.state != "streaming" or read_at(turn, now_ms).state == "streaming":
        return None
    return Answer("interrupted", turn.text, ended_ms=turn.deadline_ms)


def with_ticket(turn: Turn, ticket: Ticket, now_ms: int) -> Turn:
    """The turn with a new ticket, which is valid from now on."""
    kept = [one for one in turn.tickets if one.valid(turn, now_ms) and one.fingerprint != ticket.fingerprint]
    return replace(turn, tickets=(*kept[1 - MAX_TICKETS :], ticket._replace(expires_ms=now_ms + TICKET_MS)))


def with_used_ticket(turn: Turn, fingerprint: str, now_ms: int) -> Turn | None:
    """The turn with the ticket marked as used; the same object if it was, and None if the ticket is not valid."""
    for index, ticket in enumerate(turn.tickets):
        if hmac.compare_digest(ticket.fingerprint, fingerprint) and ticket.valid(turn, now_ms):
            if ticket.used:
                return turn
            used = ticket._replace(used=True)
            return replace(turn, tickets=(*turn.tickets[:index], used, *turn.tickets[index + 1 :]))
    return None
