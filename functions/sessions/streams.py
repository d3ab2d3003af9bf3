"""What a caller sends to and gets from a stream."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from functions.sessions.answers import TurnUsage
from shared.generation import JsonObject
from shared.openapi.operation import Operation
from shared.sessions.turn import TICKET_MS

_EVENT_ID = r"[A-Za-z0-9_-]{22}\.[0-9]{1,10}"
_ID, _ID_OR_NONE = {"type": "string", "pattern": f"^{_EVENT_ID}$"}, f"^({_EVENT_ID})?$"


class StreamUsage(TurnUsage):
    """The event `usage`, after the text."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"prompt_tokens": 9, "output_tokens": 2, "thinking_tokens": 0, "total_tokens": 11}]
        }
    )


class StreamDone(BaseModel):
    """The event `done`: the last one of an answer that is complete, or was stopped."""

    done: Literal[True] = Field(examples=[True])
    state: Literal["done", "stopped"] = Field(examples=["done"])
    model: str | None = Field(examples=["gemini-3.8-flash"])
    finish_reason: str | None = Field(examples=["STOP"])


class StreamInterrupted(BaseModel):
    """The event `interrupted`, in place of `done`: the session keeps the text so far."""

    state: Literal["interrupted"] = Field(examples=["interrupted"])
    message: str = Field(examples=["The answer was interrupted."])


class StreamStopped(BaseModel):
    success: bool = Field(description="Whether the turn has ended.")
    turn: str
    state: Literal["streaming", "done", "stopped", "interrupted"] = Field(
        description="`streaming`: the instance that generates the answer does not respond. The turn ends at its deadline."
    )


class StreamTicket(BaseModel):
    success: Literal[True]
    ticket: str = Field(description="For GET /stream?ticket=...")
    turn: str = Field(description="The turn that it opens.")
    expires_in: int = Field(description="Seconds until its first connection.", examples=[TICKET_MS // 1000])


_QUERY: dict[str, JsonObject] = {
    "ticket": {
        "description": "In place of a credential and a session: what POST /sessions/{id}/ticket returned.",
        "schema": {"type": "string"},
    },
    "session_id": {
        "description": "The session, if neither the header x-session-id nor a cookie names it.",
        "schema": {"type": "string"},
    },
}
_HEADERS: dict[str, JsonObject] = {
    "last-event-id": {
        "description": "The id of the last event that the client has: the stream continues after it. A browser sends it.",
        "schema": {"type": "string", "pattern": _ID_OR_NONE},
    }
}
_MEDIA: dict[str, JsonObject] = {
    "text/event-stream": {
        "schema": {
            "type": "object",
            "description": "One event of the stream. The data of a `message` is the next part of the text; of other events it is "
            "JSON. An event `error` without an id ends this response only: a reconnect gets the rest.",
            "required": ["event", "data"],
            "properties": {
                "id": _ID,
                "event": {"enum": ["message", "usage", "done", "interrupted", "error"]},
                "data": {"type": "string"},
            },
        },
        "example": "id: 0123456789abcdefghijkl.6\nevent: message\ndata: Hello!\n\n",
    }
}
_RESPONSES: dict[str, JsonObject] = {
    "204": {
        "description": "Last-Event-ID is that of a turn's last event: there is nothing more, and EventSource stops."
    }
}
STREAM_OPERATIONS: dict[str, Operation] = {
    "GET /stream": Operation(
        events=(StreamUsage, StreamDone, StreamInterrupted),
        media=_MEDIA,
        responses=_RESPONSES,
        query=_QUERY,
        headers=_HEADERS,
        in_session=True,
        pending=True,
        summary="The answer to what is pending in the session, as server-sent events.",
    ),
    "DELETE /stream/{turn}": Operation(StreamStopped, summary="Stops an answer; its text so far is kept."),
    "POST /sessions/{id}/ticket": Operation(
        StreamTicket, pending=True, summary="A ticket that opens the stream of one turn without headers."
    ),
}
