"""The bytes of one upload while they arrive: handed to the storage piece by piece, measured, and recognised by their start."""

from __future__ import annotations

from typing import NamedTuple

from shared.errors import BadRequest, PayloadTooLarge
from shared.http.bodies import read
from shared.http.call import Call
from shared.http.forms import received_form
from shared.http.multipart import Part
from shared.http.request_body import declared_bytes
from shared.media.port import HELD_BYTES, Write
from shared.sessions.upload_bodies import UploadForm, form_values
from shared.sessions.upload_types import HEAD_BYTES, check_size, upload_type

_MIB = 1024 * 1024


class Content:
    """What has arrived of a file. The type is known, or refused, before the rest is received."""

    def __init__(self, call: Call, write: Write) -> None:
        self._claim, self._write = call.claim, write
        self._head = bytearray()
        self._mime_type = ""
        self.size_bytes = 0

    async def take(self, piece: bytes, declared: str) -> None:
        """Raises UnsupportedMediaType, QueueFull and StorageUnavailable."""
        self.size_bytes += len(piece)
        # The writer holds no more, however large the file is.
        self._claim.cover(min(self.size_bytes, HELD_BYTES))
        if not self._mime_type:
            self._head += piece[: HEAD_BYTES - len(self._head)]
            if len(self._head) == HEAD_BYTES:
                self._mime_type = upload_type(bytes(self._head), declared)
        check_size(self._mime_type, self.size_bytes)
        await self._write(piece)

    def mime_type(self, declared: str) -> str:
        """Of the whole file. Raises UnsupportedMediaType."""
        return self._mime_type or upload_type(bytes(self._head), declared)


class Incoming(NamedTuple):
    """An upload that has arrived in a form."""

    body: UploadForm
    filename: str
    mime_type: str
    size_bytes: int


async def receive_form(call: Call, write: Write) -> Incoming:
    """Raises BadRequest, PayloadTooLarge, UnsupportedMediaType, QueueFull, CallerGone and StorageUnavailable."""
    content = Content(call, write)

    async def take(part: Part, piece: bytes) -> None:
        await content.take(piece, part.content_type)

    limit_bytes = call.settings.max_form_bytes
    try:
        async with received_form(call, {"file": 1}, max_bytes=limit_bytes, take=take) as form:
            pass
    except PayloadTooLarge as error:
        is_forms_limit = (error.details or {}).get("limit_bytes") == limit_bytes
        if not is_forms_limit or limit_bytes == call.settings.max_upload_bytes:
            raise
        raise PayloadTooLarge(
            f"{error.message} A file of up to {call.settings.max_upload_bytes // _MIB} MB goes to the storage directly: "
            "POST /upload?resumable=1.",
            details=error.details,
        ) from None
    file = form.file("file")
    body = read(UploadForm, form_values(form.fields, file.filename))
    if not file.size_bytes:
        raise BadRequest("file is empty; send a file with content.", field="file")
    return Incoming(body, file.filename, content.mime_type(file.content_type), file.size_bytes)


async def receive_content(call: Call, size_bytes: int, write: Write) -> None:
    """The body of a PUT, which must have `size_bytes`. Raises BadRequest, QueueFull, CallerGone and StorageUnavailable."""
    received_bytes = 0

    async def take(piece: bytes) -> None:
        nonlocal received_bytes
        received_bytes += len(piece)
        call.claim.cover(min(received_bytes, HELD_BYTES))
        await write(piece)

    try:
        declared_bytes(call.headers, size_bytes)
        await call.receive(size_bytes, take)
    except PayloadTooLarge:
        raise _wrong_size(f"more than {size_bytes}", size_bytes) from None
    if received_bytes != size_bytes:
        raise _wrong_size(str(received_bytes), size_bytes)


def _wrong_size(received: str, announced: int) -> BadRequest:
    return BadRequest(
        f"The body has {received} bytes, and this upload was announced with {announced}; send the whole file, and nothing else.",
        field="size_bytes",
    )
