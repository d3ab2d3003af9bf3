"""The bodies of the sessions function."""

from __future__ import annotations

from functions.sessions.answers import HISTORY_QUERY, LIST_QUERY, SessionHistory, SessionList
from functions.sessions.streams import (
    STREAM_HEADERS,
    STREAM_MEDIA,
    STREAM_QUERY,
    STREAM_RESPONSES,
    StreamDone,
    StreamInterrupted,
    StreamStopped,
    StreamTicket,
    StreamUsage,
)
from shared.openapi.operation import Operation

OPERATIONS: dict[str, Operation] = {
    "POST /upload": Operation(summary="Stores a file for the session's next message."),
    "POST /upload/{id}/complete": Operation(summary="Checks a resumable upload, and adds it to the session."),
    "PUT /upload/{id}/content": Operation(summary="The bytes of a resumable upload to this server itself."),
    "GET /stream": Operation(
        events=(StreamUsage, StreamDone, StreamInterrupted),
        media=STREAM_MEDIA,
        responses=STREAM_RESPONSES,
        query=STREAM_QUERY,
        headers=STREAM_HEADERS,
        summary="The answer to what is pending in the session, as server-sent events.",
    ),
    "DELETE /stream/{turn}": Operation(StreamStopped, summary="Stops an answer; its text so far is kept."),
    "GET /sessions": Operation(SessionList, summary="The caller's sessions, newest first.", query=LIST_QUERY),
    "GET /sessions/{id}": Operation(SessionHistory, summary="A session's history.", query=HISTORY_QUERY),
    "DELETE /sessions/{id}": Operation(summary="Deletes a session with its turns and files.", status=204),
    "POST /sessions/{id}/ticket": Operation(
        StreamTicket, summary="A ticket that opens the stream of one turn without headers."
    ),
    "GET /try": Operation(
        summary="A page that uses all of it.",
        media={"text/html": {"schema": {"type": "string"}}},
        responses={"304": {"description": "Not modified: If-None-Match names the current version."}},
    ),
}
