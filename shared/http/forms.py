"""Reads a form with files (multipart/form-data) while it arrives, within bounds of size, time and memory.

The credential of a form is in the request's headers: the caller is known before the first byte of its files is read.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import NamedTuple

from shared.errors import BadRequest, PayloadTooLarge, UnsupportedMediaType
from shared.http.call import Call
from shared.http.disconnect import DisconnectWatch
from shared.http.multipart import FORM, Multipart, Part, boundary_of, shown
from shared.http.request_body import declared_bytes, require_uncompressed

MAX_FIELD_BYTES = 256 * 1024
"""Maximum for one text field: a prompt of 32,000 characters fits in every alphabet."""
MAX_OTHER_BYTES = 1024 * 1024
"""Maximum for all of a form but its files."""
_MIB = 1024 * 1024

# The parser logs bytes of the body before it raises its error.
logging.getLogger("python_multipart.multipart").disabled = True

Take = Callable[[Part, bytes], Awaitable[None]]
"""Is awaited with each piece of each file, in order."""


class FormFile(NamedTuple):
    field: str
    filename: str
    content_type: str
    """As the client declares it; "" if it does not."""
    data: bytes
    """b"" if the pieces were handed to a `Take`."""
    size_bytes: int


@dataclass(frozen=True)
class Form:
    """The fields and files by their names, each in the order of the form."""

    fields: Mapping[str, list[str]] = field(default_factory=dict)
    files: Mapping[str, list[FormFile]] = field(default_factory=dict)

    def text(self, name: str) -> str | None:
        """The value of a field; None if the form does not have it. Raises BadRequest if it has several."""
        values = self.fields.get(name, [])
        if len(values) > 1:
            raise BadRequest(f"{name} is in the form {len(values)} times; send it once.", field=name)
        return values[0] if values else None

    def file(self, name: str) -> FormFile:
        """The file of a field that takes exactly one. Raises BadRequest."""
        if name not in self.files:
            raise BadRequest(f"{name} is missing; send a file in it (curl: -F '{name}=@path').", field=name)
        return self.files[name][0]


@asynccontextmanager
async def received_form(
    call: Call, files: Mapping[str, int], *, max_bytes: int, take: Take | None = None
) -> AsyncIterator[Form]:
    """The form in the body of `call`. A caller that disconnects within the block ends it with CallerGone.

    `files`: the fields that take files, with the maximum number of files in each. `max_bytes`: maximum of all files together.
    Without `take` the files are held in memory, at the expense of the call's claim. Raises UnsupportedMediaType,
    PayloadTooLarge, QueueFull, CallerGone, and BadRequest that names the field.
    """
    if take is None:
        # What never fits into memory is not told to retry later.
        max_bytes = min(max_bytes, call.services.byte_budget.large_bytes)
    require_uncompressed(call.headers)
    reader = _FormReader(call, files, max_bytes, take)
    if call.body_consumed:
        # It was searched for a credential, because one of its types is JSON.
        raise UnsupportedMediaType(f"Content-Type has several types; send one: {FORM}.")
    body_bytes = max_bytes + MAX_OTHER_BYTES
    try:
        declared = declared_bytes(call.headers, body_bytes)
        if take is None:
            call.claim.expect(declared)
        await call.receive(body_bytes, reader.read)
    except PayloadTooLarge as error:
        # The limit of the body is not the one that the caller must keep to.
        raise (error if "field" in (error.details or {}) else _all_too_large(max_bytes)) from None
    form = reader.close()
    with DisconnectWatch(call.request.receive):
        yield form


class _FormReader:
    def __init__(self, call: Call, allowed: Mapping[str, int], max_bytes: int, take: Take | None) -> None:
        self._claim = call.claim
        self._allowed, self._max_bytes, self._take = allowed, max_bytes, take
        self._multipart = Multipart(boundary_of(call.headers.get("content-type", "")))
        self._fields: dict[str, list[str]] = {}
        self._files: dict[str, list[FormFile]] = {}
        self._part: Part | None = None
        self._content = bytearray()
        self._size_bytes = 0
        """Of the current part."""
        self._files_bytes = self._other_bytes = 0

    async def read(self, chunk: bytes) -> None:
        for found in self._multipart.feed(chunk):
            if isinstance(found, Part):
                self._end_part()
                self._begin_part(found)
            else:
                await self._add(found)

    def close(self) -> Form:
        self._multipart.close()
        self._end_part()
        return Form(self._fields, self._files)

    def _begin_part(self, part: Part) -> None:
        name = shown(part.name)
        most = self._allowed.get(part.name)
        if part.filename is None:
            if most is not None:
                raise BadRequest(f"{name} must be a file, with a file name (curl: -F '{name}=@path').", field=name)
        elif most is None:
            raise BadRequest(f"{name} must not be a file. Send files in {' or '.join(self._allowed)}.", field=name)
        elif len(self._files.get(part.name, ())) >= most:
            files = "one file" if most == 1 else f"at most {most} files"
            raise BadRequest(f"{name} takes {files}; the form has more.", field=name)
        elif not part.filename:
            raise BadRequest(f"{name} has no file name; choose a file, and send its name with it.", field=name)
        self._part = part

    async def _add(self, content: bytes) -> None:
        part = self._part
        if part is None:
            return
        self._size_bytes += len(content)
        if part.filename is None:
            self._other_bytes += len(content)
            if self._size_bytes > MAX_FIELD_BYTES or self._other_bytes > MAX_OTHER_BYTES:
                limit_kb = MAX_FIELD_BYTES // 1024
                raise BadRequest(
                    f"{shown(part.name)} is too long: a text field may have {limit_kb} KB, all together "
                    f"{MAX_OTHER_BYTES // 1024} KB.",
                    field=shown(part.name),
                )
        else:
            self._files_bytes += len(content)
            if self._files_bytes > self._max_bytes:
                raise _too_large(shown(part.name), self._max_bytes)
            if self._take is not None:
                await self._take(part, content)
                return
        self._claim.grow(len(content))
        self._content += content

    def _end_part(self) -> None:
        part, content, size_bytes = self._part, self._content, self._size_bytes
        self._part, self._content, self._size_bytes = None, bytearray(), 0
        if part is None:
            return
        if part.filename is not None:
            file = FormFile(part.name, part.filename, part.content_type, bytes(content), size_bytes)
            self._files.setdefault(part.name, []).append(file)
            return
        try:
            self._fields.setdefault(part.name, []).append(content.decode())
        except UnicodeDecodeError:
            raise BadRequest(f"{shown(part.name)} must be UTF-8 text.", field=shown(part.name)) from None


def _too_large(name: str, max_bytes: int) -> PayloadTooLarge:
    return PayloadTooLarge(
        f"{name} is larger than {_limit(max_bytes)}, the maximum of an upload; send a smaller file.",
        details={"field": name, "limit_bytes": max_bytes},
    )


def _all_too_large(max_bytes: int) -> PayloadTooLarge:
    return PayloadTooLarge(
        f"The form is too large: its files may have {_limit(max_bytes)} together. Send less.",
        details={"limit_bytes": max_bytes},
    )


def _limit(size_bytes: int) -> str:
    return f"{size_bytes // _MIB} MB" if size_bytes >= _MIB else f"{size_bytes} bytes"
