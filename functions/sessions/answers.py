"""What a caller sees of its sessions."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field

from shared.generation import JsonObject
from shared.sessions.answers import MAX_TURNS_SHOWN, PAGE_SIZE
from shared.sessions.session import MAX_TURNS
from shared.sessions.store import MAX_LISTED

_TIME = "2026-01-31T12:00:00.000Z"


class Session(BaseModel):
    session_id: str
    title: str = Field(description="The start of the first message.", examples=["Which planet is the largest?"])
    created: str = Field(description="In UTC.", examples=[_TIME])
    updated: str = Field(description="The time of the last message, file or answer.", examples=[_TIME])
    messages: int = Field(description=f"At most {MAX_TURNS:,}.", examples=[2])
    pending: str | None = Field(description="The newest turn, until its answer has ended; null if nothing is pending.")


class SessionList(BaseModel):
    sessions: list[Session] = Field(
        description="Newest first. An anonymous caller sees only the session that it names."
    )


class SessionFile(BaseModel):
    id: str
    name: str = Field(examples=["cat.png"])
    type: str = Field(examples=["image/png"])
    size_bytes: int


class TurnUsage(BaseModel):
    """Tokens as Gemini counted them; null is unknown."""

    prompt_tokens: int | None
    output_tokens: int | None
    thinking_tokens: int | None
    total_tokens: int | None


class TurnError(BaseModel):
    code: str = Field(examples=["queue_timeout"])
    message: str
    status: int = Field(examples=[429])


class SessionTurn(BaseModel):
    """A message and its answer. The fields after `error` are there when the answer has ended, `error` if an error ended it."""

    turn: str = Field(description="Its id.")
    number: int = Field(description="Its place in the session, from 0.")
    message: str = Field(description="Empty if the turn has only files.")
    files: list[SessionFile]
    created: str = Field(examples=[_TIME])
    state: Literal["pending", "streaming", "done", "stopped", "interrupted"]
    answer: str | None = Field(description="The text, as far as it was generated; null until it has ended.")
    error: TurnError | None = Field(
        None,
        description="Why the last attempt to answer it failed. Of a pending turn, the next stream is another attempt.",
    )
    model: str | None = None
    finish_reason: str | None = Field(None, examples=["STOP"])
    usage: TurnUsage | None = None
    ended: str | None = Field(None, examples=[_TIME])


class SessionHistory(Session):
    turns: list[SessionTurn] = Field(description="In their order.")
    has_more: bool = Field(description="Whether there are earlier turns: read them with `before`.")
    uploads: list[SessionFile] = Field(description="Files that go with the next message.")


def _whole(description: str, high: int) -> JsonObject:
    schema = {"type": "integer", "minimum": 1, "maximum": high, "default": PAGE_SIZE}
    return {"description": description, "schema": schema}


LIST_QUERY: dict[str, JsonObject] = {"limit": _whole("Maximum number of sessions.", MAX_LISTED)}
HISTORY_QUERY: dict[str, JsonObject] = {
    "limit": _whole("Maximum number of turns.", MAX_TURNS_SHOWN),
    "before": {
        "description": "The number of a turn: only earlier ones are returned. The newest turns if absent.",
        "schema": {"type": "integer", "minimum": 0, "maximum": MAX_TURNS},
    },
}
