"""The media of items as native parts: small ones inside the request, larger ones as files that the gateway uploads to Gemini once
for each project and uses again.

    bytes, a path, a fetched URL    up to INLINE_BYTES of one item together: inside the request; above: Gemini's Files API
    a YouTube URL of a video        its URL: Gemini fetches it
    gs://, a file at Gemini         its URI
    any other https URL             fetched here by the rules of `media/fetch.py`, up to MAX_FETCHED_BYTES
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from shared.batch.body import LoadPart
from shared.batch.item import Item, Medium
from shared.bounds.byte_room import ByteRoom
from shared.errors import BadRequest
from shared.generation import FileSource, FileUri, JsonObject
from shared.media.file_types import type_of
from shared.media.inline import INLINE_BYTES
from shared.media.input_image import MAX_BYTES as MAX_IMAGE_BYTES
from shared.media.input_image import checked

MAX_FETCHED_BYTES = 20 * 1024 * 1024
MAX_FILE_BYTES = 2 * 1024**3
"""Gemini's limit for one file (ai.google.dev/gemini-api/docs/files)."""
ROOM_BYTES = 64 * 1024 * 1024
COPIES = 3
"""A medium inside a request is held as bytes, as base64, and as the encoded body."""
_YOUTUBE = re.compile(
    r"https?://(?:(?:www|m|music)\.)?(?:youtube\.com|youtube-nocookie\.com|youtu\.be)/", re.IGNORECASE
)
_GEMINI_FILE = re.compile(r"https://generativelanguage\.googleapis\.com/v[0-9a-z]+/files/", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Content:
    """Bytes, wherever they are."""

    size_bytes: int
    read: Callable[[int, int], Awaitable[bytes]]
    """From start to end (exclusive). Raises BadRequest if they have changed."""
    digest: Callable[[], Awaitable[str]]
    """Of all bytes, in hexadecimal: it names Gemini's copy of the file."""


Open = Callable[[Medium], Awaitable[Content]]
"""Opens a path. Raises BadRequest that names the field."""
Fetch = Callable[[str, str, int], Awaitable[bytes]]
"""The bytes at a URL, which the field has that the second argument names, at most so many. Raises BadRequest."""


class MediaParts:
    """Bound to one event loop. `room` bounds the memory that all items together take; an item waits for it."""

    def __init__(self, fetch: Fetch, open_path: Open | None = None, room: ByteRoom | None = None) -> None:
        self._fetch, self._open_path = fetch, open_path
        self._room = room or ByteRoom(ROOM_BYTES)

    @asynccontextmanager
    async def loading(self, item: Item) -> AsyncIterator[LoadPart]:
        """Raises BadRequest that names the field of the medium."""
        media = item.media
        if not media:
            yield _no_media
            return
        opened = {id(medium): await self._opened(medium) for medium in media if medium.origin != "url"}
        sizes = sum(min(content.size_bytes, INLINE_BYTES) for content in opened.values())
        fetched = [medium for medium in media if medium.origin == "url" and uri_of(medium) is None]
        async with self._room.hold(COPIES * min(sizes, INLINE_BYTES) + MAX_FETCHED_BYTES * len(fetched)) as held:
            for medium in fetched:
                data = await self._fetch(str(medium.source), medium.where, MAX_FETCHED_BYTES)
                if not data:
                    raise BadRequest(f"{medium.where} is empty: its server sent no bytes.", field=medium.where)
                opened[id(medium)] = content_of(data)
            inline = _inline(media, opened)
            uploaded = sum(opened[id(medium)].size_bytes for medium in fetched if id(medium) not in inline)
            held.shrink(COPIES * sum(opened[one].size_bytes for one in inline) + uploaded)

            async def load(medium: Medium) -> JsonObject:
                uri = uri_of(medium)
                if uri is not None:
                    part: JsonObject = {"fileData": {"mimeType": medium.mime_type or "image/jpeg", "fileUri": uri}}
                elif id(medium) in inline:
                    part = await _inline_part(medium, opened[id(medium)])
                else:
                    part = await _file_part(medium, opened[id(medium)])
                return part if medium.video_metadata is None else {**part, "videoMetadata": medium.video_metadata}

            yield load

    async def _opened(self, medium: Medium) -> Content:
        if isinstance(medium.source, bytes):
            return content_of(medium.source)
        assert self._open_path is not None, "items with paths are read only where paths are allowed"
        return await self._open_path(medium)


def uri_of(medium: Medium) -> str | None:
    """The URI that Gemini itself reads; None if the bytes have to be sent."""
    if medium.origin != "url":
        return None
    url = str(medium.source)
    by_gemini = url.startswith("gs://") or _GEMINI_FILE.match(url)
    return url if by_gemini or (medium.kind == "video" and _YOUTUBE.match(url)) else None


def content_of(data: bytes) -> Content:
    async def read(start: int, end: int) -> bytes:
        return data[start:end]

    async def digest() -> str:
        return await asyncio.to_thread(lambda: hashlib.sha256(data).hexdigest())

    return Content(len(data), read, digest)


async def _no_media(medium: Medium) -> JsonObject:
    raise AssertionError("the item has no media")


def _inline(media: tuple[Medium, ...], opened: dict[int, Content]) -> set[int]:
    """The media that are sent inside the request: the smallest ones that fit together."""
    ordered = sorted(
        (medium for medium in media if id(medium) in opened), key=lambda medium: opened[id(medium)].size_bytes
    )
    chosen: set[int] = set()
    total = 0
    for medium in ordered:
        size_bytes = opened[id(medium)].size_bytes
        if size_bytes > MAX_FILE_BYTES:
            raise BadRequest(f"{medium.where} is larger than 2 GB, Gemini's limit for a file.", field=medium.where)
        if medium.kind == "image" and size_bytes > MAX_IMAGE_BYTES:
            continue
        total += size_bytes
        if total > INLINE_BYTES:
            break
        chosen.add(id(medium))
    return chosen


async def _inline_part(medium: Medium, content: Content) -> JsonObject:
    data = await content.read(0, content.size_bytes)
    if len(data) > 256 * 1024:
        return await asyncio.to_thread(_encoded, medium, data)
    return _encoded(medium, data)


def _encoded(medium: Medium, data: bytes) -> JsonObject:
    if medium.kind == "image":
        mime_type = medium.mime_type or checked(data, medium.where).mime_type
    else:
        _check_kind(medium, data)
        mime_type = medium.mime_type
    return {"inlineData": {"mimeType": mime_type, "data": base64.b64encode(data).decode()}}


def _check_kind(medium: Medium, head: bytes) -> None:
    """A PDF is recognised by its first bytes; audio and video have too many formats to reject what is not known."""
    if medium.kind == "pdf" and type_of(head) != "application/pdf":
        raise BadRequest(f"{medium.where} is not a PDF; send a PDF, or another field.", field=medium.where)


async def _file_part(medium: Medium, content: Content) -> JsonObject:
    head = await content.read(0, min(content.size_bytes, 4096))
    _check_kind(medium, head)
    mime_type = medium.mime_type or type_of(head)
    key = f"{await content.digest()} {mime_type}"
    source = FileSource(key, medium.where, mime_type, content.size_bytes, content.read)
    return {"fileData": {"mimeType": mime_type, "fileUri": FileUri(source)}}
