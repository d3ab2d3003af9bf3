"""Stored files as parts of a native request: small ones inside it, larger ones as Gemini's copies of them."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from itertools import accumulate

from shared.errors import BadRequest, GatewayError, NotFound
from shared.files.record import StoredFile
from shared.generation import FileUri, JsonObject
from shared.http.call import Call
from shared.http.owner import owner_of
from shared.media.file_types import is_text
from shared.media.inline import INLINE_BYTES
from shared.media.input_image import MAX_BYTES, checked, inline_part

MAX_INLINE_BYTES = 72 * 1024 * 1024
"""The same where no account has a Files API. Gemini takes 100 MB a request (ai.google.dev/gemini-api/docs/files), and base64
has 4/3 of the bytes."""
_MIB = 1024 * 1024
_TAKEN = ("image/", "audio/", "video/", "application/pdf")
_READS_AT_ONCE = 8


async def native_file_parts(
    call: Call, files: Sequence[StoredFile], owner: str | None = None, *, skip_lost: bool = False
) -> dict[str, JsonObject]:
    """`owner`'s files (by default the caller's) as parts of a native request, by their ids. The bytes that are sent inside the
    request are held at the expense of the call's claim. `skip_lost`: files whose bytes are no longer stored have no part. Raises
    NotFound and BadRequest that name the file, QueueFull, StorageUnavailable, NoServerKey."""
    owner = owner_of(call) if owner is None else owner
    for file in files:
        _check_taken(file)
    inline, large = _divided(call, files)
    parts: dict[str, JsonObject] = {}
    for at in range(0, len(inline), _READS_AT_ONCE):
        batch = inline[at : at + _READS_AT_ONCE]
        # Before the bytes come, so that a process without room for them does not read them.
        call.claim.grow(sum(file.size_bytes * 4 // 3 for file in batch))
        read = await asyncio.gather(*(_inline_part(call, file, skip_lost) for file in batch))
        parts.update({file.id: part for file, part in zip(batch, read, strict=True) if part is not None})
    for file in large:
        if skip_lost and not await call.services.files.has_bytes(file):
            continue
        mime_type = _mime_type(file)
        uri = FileUri(call.services.files.source(owner, file, mime_type))
        parts[file.id] = {"fileData": {"mimeType": mime_type, "fileUri": uri}}
    return parts


async def delete_file(call: Call, file_id: str, owner: str | None = None) -> None:
    """Deletes a stored file and, as far as that works now, Gemini's copies of it: Google deletes the others within 48 hours.
    Raises NotFound, StorageUnavailable, LedgerUnavailable."""
    owner, files = owner_of(call) if owner is None else owner, call.services.files
    file = await files.delete(owner, file_id)
    # The file is deleted: its caller must not see an error of what follows.
    with suppress(GatewayError):
        await call.services.gateway.delete_copies(call.caller, files.source(owner, file, file.mime_type).key)


async def count_upload(call: Call, size_bytes: int) -> None:
    """Anybody can invent a key, so what callers without an admin key store is bounded, by their network too. Raises
    RateLimited."""
    if call.caller.kind != "admin":
        await call.services.upload_rate.admit(call.holders, -(-size_bytes // _MIB))


def not_found(file_id: str) -> NotFound:
    shown = file_id if file_id.isascii() and file_id.isprintable() and len(file_id) <= 64 else "One of the file ids"
    return NotFound(f"{shown} is not a file of this key; it may have been deleted or have expired.")


def _divided(call: Call, files: Sequence[StoredFile]) -> tuple[list[StoredFile], list[StoredFile]]:
    """The files that are sent inside the request, the smallest first, and those that are not. Raises BadRequest, NoServerKey."""
    # The encoded request holds the same text once more.
    room_bytes = call.services.byte_budget.large_bytes * 3 // 8
    ordered = sorted(files, key=lambda file: (_is_large_image(file), file.size_bytes))
    sums = list(accumulate(file.size_bytes for file in ordered))
    count = sum(
        total <= min(INLINE_BYTES, room_bytes) and not _is_large_image(file)
        for total, file in zip(sums, ordered, strict=True)
    )
    if count == len(ordered) or _has_files_api(call):
        return ordered[:count], ordered[count:]
    limit_bytes = min(MAX_INLINE_BYTES, room_bytes)
    if sums[-1] > limit_bytes:
        raise BadRequest(
            f"{ordered[-1].id}: the files of one request may have {limit_bytes // _MIB} MB together with the accounts of this "
            "server, which take files only inside a request. Name fewer or smaller ones, or send a Gemini API key of your own.",
            details={"limit_bytes": limit_bytes},
        )
    return ordered, []


def _is_large_image(file: StoredFile) -> bool:
    """Whether it is an image that Gemini does not take inside a request."""
    return file.mime_type.startswith("image/") and not is_text(file.mime_type) and file.size_bytes > MAX_BYTES


def _has_files_api(call: Call) -> bool:
    return any(account.kind == "api_key" for account in call.services.pool.candidates(call.caller))


def _check_taken(file: StoredFile) -> None:
    if not is_text(file.mime_type) and not file.mime_type.startswith(_TAKEN):
        raise BadRequest(
            f"{file.id} is {file.mime_type}, which Gemini does not take; store an image, audio, video, a PDF or a text.",
            details={"file_id": file.id},
        )


async def _inline_part(call: Call, file: StoredFile, skip_lost: bool) -> JsonObject | None:
    try:
        data = await call.services.files.read(file)
    except NotFound:
        if skip_lost:
            return None
        raise not_found(file.id) from None
    return await call.work(partial(_part, file, data), file.size_bytes)


def _part(file: StoredFile, data: bytes) -> JsonObject:
    if file.mime_type.startswith("image/") and not is_text(file.mime_type):
        return inline_part(checked(data, file.id))
    return {"inlineData": {"mimeType": _mime_type(file), "data": base64.b64encode(data).decode()}}


def _mime_type(file: StoredFile) -> str:
    """Gemini documents few types of texts, and reads all of them as text."""
    return "text/plain" if is_text(file.mime_type) else file.mime_type
