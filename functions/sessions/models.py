"""The bodies of the sessions function."""

from __future__ import annotations

from shared.openapi.operation import Operation

OPERATIONS: dict[str, Operation] = {
    "POST /upload": Operation(summary="Stores a file for the session's next message."),
    "POST /upload/{id}/complete": Operation(summary="Checks a resumable upload, and adds it to the session."),
    "PUT /upload/{id}/content": Operation(summary="The bytes of a resumable upload to this server itself."),
    "GET /stream": Operation(summary="The answer to what is pending in the session, as server-sent events."),
    "DELETE /stream/{turn}": Operation(summary="Stops an answer; its text so far is kept."),
    "GET /sessions": Operation(summary="The caller's sessions, newest first."),
    "GET /sessions/{id}": Operation(summary="A session's history."),
    "DELETE /sessions/{id}": Operation(summary="Deletes a session with its turns and files."),
    "POST /sessions/{id}/ticket": Operation(summary="A ticket that opens the stream of one turn without headers."),
    "GET /try": Operation(summary="A page that uses all of it.", media={"text/html": {}}),
}
