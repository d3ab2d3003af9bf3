"""The form, the queries and the answers of /v1/files. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, NamedTuple
from urllib.parse import quote

import orjson
from pydantic import Field

from shared.errors import BadRequest
from shared.files.record import StoredFile, is_id
from shared.generation import JsonObject
from shared.http.bodies import AnswerBody, Between, Body

MIN_TTL_S, MAX_TTL_S = 3_600, 30 * 86_400
"""OpenAI's own bounds of expires_after.seconds."""
MAX_LIMIT = 10_000
MAX_PAGE = 1_000
"""Files in one response. OpenAI's SDKs go on by themselves where `has_more` is true."""
_WHOLE = re.compile(r"[0-9]{1,9}")
_NESTED = re.compile(r"expires_after\[(\w{1,40})\]")
_UNSAFE = re.compile(r'[^\x20-\x7e]|["\\%]')

Purpose = Literal["assistants", "batch", "fine-tune", "vision", "user_data", "evals"]


class ExpiresAfter(Body):
    anchor: Literal["created_at"] = Field(description="What the seconds count from.")
    seconds: Annotated[int, Between(MIN_TTL_S, MAX_TTL_S)] = Field(
        description="Lifetime, at most the server's own for stored files."
    )


class FileForm(Body):
    """A form (multipart/form-data) with one file."""

    file: str = Field(description="The file, with its name.", json_schema_extra={"format": "binary"})
    purpose: Purpose = Field(
        "user_data", description="Kept with the file; it changes nothing else.", examples=["user_data"]
    )
    expires_after: ExpiresAfter | None = Field(
        None,
        description="Sent as `expires_after[anchor]` and `expires_after[seconds]`, or as JSON. Without it the file lives as "
        "long as the server's images, at most 30 days.",
    )


class FileObject(AnswerBody):
    """A stored file."""

    id: str = Field(examples=["file-ff5eb0a1c2d3" + "0123456789abcdef" * 2])
    object: Literal["file"]
    bytes: int
    created_at: int = Field(description="Seconds since 1970.")
    expires_at: int = Field(description="When the file is deleted.")
    filename: str = Field(examples=["report.pdf"])
    purpose: str = Field(examples=["user_data"])
    status: Literal["processed"]


class FileList(AnswerBody):
    """One page of the caller's files."""

    object: Literal["list"]
    data: list[FileObject]
    first_id: str | None
    last_id: str | None = Field(description="For `after` of the next page.")
    has_more: bool


class FileDeleted(AnswerBody):
    """The file is deleted."""

    id: str
    object: Literal["file"]
    deleted: Literal[True]


class ListQuery(NamedTuple):
    after: str | None
    limit: int
    newest_first: bool
    purpose: str | None


LIST_PARAMETERS: dict[str, JsonObject] = {
    "after": {
        "description": "The id of the last file of the previous page.",
        "schema": {"type": "string", "pattern": "^file-[0-9a-f]{44}$"},
    },
    "limit": {
        "description": f"Maximum number of files; a page has at most {MAX_PAGE:,}.",
        "schema": {"type": "integer", "minimum": 1, "maximum": MAX_LIMIT, "default": MAX_LIMIT},
    },
    "order": {
        "description": "By the time of creation: `desc` is newest first.",
        "schema": {"type": "string", "enum": ["asc", "desc"], "default": "desc"},
    },
    "purpose": {"description": "Only files with this purpose.", "schema": {"type": "string"}},
}


def form_values(fields: Mapping[str, Sequence[str]], filename: str) -> JsonObject:
    """The JSON object that the form stands for. `fields`: those that are not files."""
    values: JsonObject = {"file": filename}
    inner: JsonObject = {}
    for name, texts in fields.items():
        value: Any = texts[0] if len(texts) == 1 else list(texts)
        if (nested := _NESTED.fullmatch(name)) is None:
            values[name] = _object(value) if name == "expires_after" else value
        elif isinstance(value, str) and nested[1] == "seconds" and _WHOLE.fullmatch(value):
            inner["seconds"] = int(value)
        else:
            inner[nested[1]] = value
    return {**values, "expires_after": inner} if inner else values


def _object(value: Any) -> Any:
    """An object that a form has as JSON, as the specification of forms in OpenAPI says; any other text stays, for the error."""
    try:
        return orjson.loads(value) if isinstance(value, str) and value.startswith("{") else value
    except orjson.JSONDecodeError:
        return value


def list_query(query: Mapping[str, str]) -> ListQuery:
    """Raises BadRequest that names the parameter."""
    after, limit, order = query.get("after"), query.get("limit", str(MAX_LIMIT)), query.get("order", "desc")
    if after is not None and not is_id(after):
        raise BadRequest("after must be the id of a file, like last_id of the previous page.", field="after")
    if not (_WHOLE.fullmatch(limit) and 1 <= int(limit) <= MAX_LIMIT):
        raise BadRequest(f"limit must be a whole number from 1 to {MAX_LIMIT}.", field="limit")
    if order not in ("asc", "desc"):
        raise BadRequest("order must be asc or desc.", field="order")
    return ListQuery(after, min(int(limit), MAX_PAGE), order == "desc", query.get("purpose"))


def file_json(file: StoredFile) -> JsonObject:
    return {
        "id": file.id,
        "object": "file",
        "bytes": file.size_bytes,
        "created_at": file.created_s,
        "expires_at": file.expires_s,
        "filename": file.filename,
        "purpose": file.purpose,
        "status": "processed",
    }


def list_json(files: Sequence[StoredFile], *, has_more: bool) -> JsonObject:
    return {
        "object": "list",
        "data": [file_json(file) for file in files],
        "first_id": files[0].id if files else None,
        "last_id": files[-1].id if files else None,
        "has_more": has_more,
    }


def attachment(filename: str) -> str:
    """A Content-Disposition with which a browser saves the file (RFC 6266): an ASCII name, and the whole one if it differs."""
    plain = _UNSAFE.sub("_", filename)
    extended = "" if plain == filename else f"; filename*=UTF-8''{quote(filename, safe='')}"
    return f'attachment; filename="{plain}"{extended}'
