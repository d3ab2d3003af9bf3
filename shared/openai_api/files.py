"""/v1/files: files that a caller stores, and their use in a chat."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

from starlette.responses import Response

from shared.errors import BadRequest
from shared.files.record import StoredFile
from shared.generation import JsonObject
from shared.http.bodies import read
from shared.http.call import Call
from shared.http.conditional import not_modified, requested_range
from shared.http.forms import received_form
from shared.http.owner import owner_of
from shared.http.response import JsonResponse
from shared.http.stored_files import count_upload, native_file_parts, not_found
from shared.http.stored_files import delete_file as remove_file
from shared.media.file_types import type_of
from shared.openai_format.file_bodies import (
    FileForm,
    attachment,
    file_json,
    form_values,
    list_json,
    list_query,
)
from shared.settings.settings import Settings

_DAY_S = 86_400


async def create_file(call: Call) -> Response:
    """Stores the file of a form."""
    # Without a storage, the request fails before its body is read.
    files = call.services.files
    async with received_form(call, {"file": 1}, max_bytes=call.settings.max_form_bytes) as form:
        file = form.file("file")
        body = read(FileForm, form_values(form.fields, file.filename))
        if not file.data:
            raise BadRequest("file is empty; send a file with content.", field="file")
        ttl_s = _ttl_s(body, call.settings)
        await count_upload(call, file.size_bytes)
        mime_type = await call.work(partial(type_of, file.data, file.content_type), file.size_bytes)
        stored = await files.put(
            owner_of(call),
            file.data,
            filename=file.filename,
            purpose=body.purpose,
            mime_type=mime_type,
            ttl_s=ttl_s,
        )
    return JsonResponse(file_json(stored))


async def list_files(call: Call) -> Response:
    query = list_query(call.request.query_params)
    if call.caller.kind == "caller_key" and call.is_stranger:
        # A page reads an entry for each file, and anybody can invent a key. The edge counts anonymous callers.
        await call.services.caller_rate.admit(call.holders)
    page = await call.services.files.page(
        owner_of(call),
        after=query.after,
        limit=query.limit,
        newest_first=query.newest_first,
        purpose=query.purpose,
    )
    return JsonResponse(list_json(page.files, has_more=page.has_more))


async def describe_file(call: Call) -> Response:
    return JsonResponse(file_json(await _described(call)))


async def delete_file(call: Call) -> Response:
    file_id = call.path_parameters["id"]
    await remove_file(call, file_id)
    return JsonResponse({"id": file_id, "object": "file", "deleted": True})


async def file_content(call: Call) -> Response:
    """The bytes, or the range of them that is requested."""
    file = await _described(call)
    etag = f'"{file.id}"'
    headers = _headers(file, etag)
    if not_modified(call.headers, etag):
        return Response(status_code=304, headers=headers)
    if call.method == "HEAD":
        return Response(headers={**headers, "content-length": str(file.size_bytes)})
    part = requested_range(call.headers, etag, file.size_bytes)
    call.claim.grow(file.size_bytes if part is None else part[1] - part[0])
    data = await call.services.files.read(file, part)
    if part is None:
        return Response(data, headers=headers)
    return Response(data, 206, headers={**headers, "content-range": f"bytes {part[0]}-{part[1] - 1}/{file.size_bytes}"})


async def file_parts(call: Call, file_ids: Sequence[str]) -> Mapping[str, JsonObject]:
    """The caller's files as parts of a native request, by their ids. Raises what `native_file_parts` does, and
    LedgerUnavailable."""
    ids = list(dict.fromkeys(file_ids))
    found = await call.services.files.describe_all(owner_of(call), ids)
    missing = next((file_id for file_id in ids if file_id not in found), None)
    if missing is not None:
        raise not_found(missing)
    return await native_file_parts(call, list(found.values()))


async def _described(call: Call) -> StoredFile:
    return await call.services.files.describe(owner_of(call), call.path_parameters["id"])


def _ttl_s(body: FileForm, settings: Settings) -> int:
    longest_s = settings.images.file_ttl_s
    asked_s = longest_s if body.expires_after is None else body.expires_after.seconds
    if asked_s > longest_s:
        raise BadRequest(
            f"expires_after.seconds must be at most {longest_s}: this server deletes files after "
            f"{longest_s // _DAY_S} days.",
            field="expires_after.seconds",
        )
    return asked_s


def _headers(file: StoredFile, etag: str) -> dict[str, str]:
    """A stored file must never act as a page of this server: no sniffing, no scripts, no origin."""
    return {
        "content-type": file.mime_type,
        "content-disposition": attachment(file.filename),
        "etag": etag,
        "cache-control": "private, no-cache",
        "accept-ranges": "bytes",
        "x-content-type-options": "nosniff",
        "content-security-policy": "sandbox; default-src 'none'",
    }
