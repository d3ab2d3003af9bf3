"""The bodies of the sessions function."""

from __future__ import annotations

from functions.sessions.answers import HISTORY_QUERY, LIST_QUERY, SessionHistory, SessionList
from functions.sessions.streams import STREAM_OPERATIONS
from shared.generation import JsonObject
from shared.openapi.operation import Operation
from shared.sessions.upload_bodies import ContentAnswer, UploadAnswer, UploadForm

_RESUMABLE: JsonObject = {
    "description": "`1`: the body is JSON, with the `name` and `size_bytes` of the file, and optionally its `type` and the "
    "`session_id`. The answer has an `upload_url`, which takes the bytes by PUT; complete the upload afterwards.",
    "schema": {"type": "string", "enum": ["0", "1"], "default": "0"},
}


def _error(code: str, meaning: str) -> JsonObject:
    narrowed = {"properties": {"error": {"properties": {"code": {"enum": [code]}}}}}
    schema = {"allOf": [{"$ref": "#/components/schemas/Error"}, narrowed]}
    return {"description": f"- `{code}`: {meaning}", "content": {"application/json": {"schema": schema}}}


OPERATIONS: dict[str, Operation] = {
    "POST /upload": Operation(
        UploadAnswer,
        UploadForm,
        form=True,
        summary="Stores a file for the session's next message.",
        query={"resumable": _RESUMABLE},
        in_session=True,
    ),
    "POST /upload/{id}/complete": Operation(
        UploadAnswer,
        summary="Checks what has arrived at the upload_url, and adds the file to the session.",
        responses={
            "400": _error(
                "invalid_request", "nothing has arrived, or another size than announced, or a damaged image."
            ),
            "413": _error("payload_too_large", "it is an image that is too large."),
            "415": _error("unsupported_media_type", "Gemini does not take content of this type."),
        },
    ),
    "PUT /upload/{id}/content": Operation(
        ContentAnswer,
        summary="The bytes of a resumable upload, where the storage is a folder of this server.",
        responses={
            "400": _error("invalid_request", "the body has another size than announced, or arrives too slowly.")
        },
    ),
    **STREAM_OPERATIONS,
    "GET /sessions": Operation(SessionList, summary="The caller's sessions, newest first.", query=LIST_QUERY),
    "GET /sessions/{id}": Operation(SessionHistory, summary="A session's history.", query=HISTORY_QUERY),
    "DELETE /sessions/{id}": Operation(summary="Deletes a session with its turns and files.", status=204),
    "GET /try": Operation(
        summary="A page that uses all of it.",
        media={"text/html": {"schema": {"type": "string"}}},
        responses={"304": {"description": "Not modified: If-None-Match names the current version."}},
    ),
}
