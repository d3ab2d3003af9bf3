"""The image store: an image has an unguessable name, is read in whole or in part, listed, deleted, and expires."""

from __future__ import annotations

import asyncio
import hashlib
import re
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple
from urllib.parse import quote, unquote

from shared.clock import elapsed_s
from shared.errors import NotFound
from shared.media.image_file import identify
from shared.media.names import EXTENSIONS, created_ms, is_name, made_until, new_name
from shared.media.port import Found, Objects, no_image

YEAR_S = 31_536_000
"""The maximum lifetime in a cache header; RFC 9111 has no value for "forever"."""
SWEEP_EVERY_S = 3600.0
_AT_ONCE = 16
_MIME_TYPE = re.compile(r"[a-z0-9][a-z0-9.+-]{0,63}/[a-z0-9][a-z0-9.+-]{0,63}")
_UNKNOWN = "application/octet-stream"
_KEY = re.compile(r"[a-z][a-z0-9-]{0,39}")
_HEADERS = frozenset({"Content-Type", "Cache-Control", "Content-Disposition"})
_PLAIN = "!#$&'()*+,-./:;<=>?@[]^_`{|}~"
_PROMPT_CHARS = 1400
"""Maximum characters of an encoded prompt. S3 accepts 2 KB of metadata per object (AWS: "Working with object metadata"),
Google 8 KiB."""


@dataclass(frozen=True, slots=True)
class StoredImage:
    name: str
    mime_type: str
    size_bytes: int
    sha256: str
    """64 hexadecimal digits."""
    created_ms: int
    """Since 1970, by the clock of the instance that stored it."""
    left_s: int | None
    """Seconds until it expires; None if it does not."""
    metadata: Mapping[str, str] = field(default_factory=dict)
    """`width` and `height` (pixels) if they could be read, and the metadata that it was stored with."""


class Content(NamedTuple):
    image: StoredImage
    data: bytes


class Page(NamedTuple):
    images: list[StoredImage]
    cursor: str | None
    """The cursor of the next page; None if this is the last one."""


class MediaStore:
    """Every method raises StorageUnavailable. Methods that take a name raise NotFound, with the same error for invalid names
    and missing images."""

    def __init__(
        self,
        objects: Objects,
        *,
        ttl_s: float | None = None,
        keep_prompts: bool = False,
        now_s: Callable[[], float] = time.time,
    ) -> None:
        self._objects = objects
        self._ttl_s = ttl_s
        self._keep_prompts = keep_prompts
        self._now_s = now_s
        self._swept_s: float | None = None

    async def put_image(self, data: bytes, mime_type: str, *, metadata: Mapping[str, str]) -> StoredImage:
        """Stores an image atomically under a new name, with its size in pixels.

        `metadata`: short texts under names like `model`; `prompt` may be long, and is stored only if the settings say so."""
        if not data:
            raise ValueError("an image has at least one byte")
        mime_type = mime_type.partition(";")[0].strip().lower()
        mime_type = mime_type if _MIME_TYPE.fullmatch(mime_type) else _UNKNOWN
        name = new_name(int(self._now_s() * 1000), secrets.token_hex(16), mime_type)
        attributes = {
            "Content-Type": mime_type,
            "Cache-Control": cache_control(None if self._ttl_s is None else int(self._ttl_s)),
            "Content-Disposition": disposition(name, mime_type),
            # In a thread, because 20 MB take 15 ms or more.
            "sha256": await asyncio.to_thread(lambda: hashlib.sha256(data).hexdigest()),
            **self._kept({**metadata, **await asyncio.to_thread(_pixels, data)}),
        }
        await self._objects.put(name, data, attributes)
        await self._sweep_if_due()
        return self._image(name, Found(attributes, len(data)))

    async def read(self, name: str, part: tuple[int, int] | None = None) -> Content:
        """The image, or its bytes from `part[0]` to `part[1]` (exclusive), which must be within it."""
        self._check(name)
        found = await self._objects.get(name, part)
        return Content(self._image(name, found), found.data)

    async def describe(self, name: str) -> StoredImage:
        """The image without its bytes."""
        self._check(name)
        return self._image(name, await self._objects.head(name))

    async def recent(self, limit: int, cursor: str | None = None) -> Page:
        """At most `limit` images, the newest first. `cursor` is that of the previous page; ValueError if it is invalid."""
        if cursor is not None and not is_name(cursor):
            raise ValueError("not a cursor")
        names = [name for name in await self._objects.names(cursor, limit + 1) if not self._expired(name)]
        images = await self._described(names[:limit])
        return Page(images, names[limit - 1] if len(names) > limit else None)

    async def delete(self, name: str) -> None:
        await self.describe(name)
        await self._objects.delete(name)

    async def signed_url(self, name: str, expires_s: int) -> str:
        """A URL at the store itself, which returns the image to anybody for `expires_s`. The image is not looked up, so it may
        not exist. A folder has no such URLs (RuntimeError)."""
        self._check(name)
        return await self._objects.signed_url(name, expires_s)

    def _check(self, name: str) -> None:
        if not is_name(name) or self._expired(name):
            raise no_image()

    def _expired_after(self) -> str | None:
        return None if self._ttl_s is None else made_until(int((self._now_s() - self._ttl_s) * 1000))

    def _expired(self, name: str) -> bool:
        """Whether the image is expired. It may still be in the store: a lifecycle rule takes up to a day."""
        expired_after = self._expired_after()
        return expired_after is not None and name > expired_after

    def _image(self, name: str, found: Found) -> StoredImage:
        attributes = found.attributes
        if "sha256" not in attributes:
            # Written by another program, or without its attributes: nothing is known about it.
            raise no_image()
        made_ms = created_ms(name)
        left_s = None if self._ttl_s is None else max(0, int(made_ms / 1000 + self._ttl_s - self._now_s()))
        kept = {key: unquote(value) for key, value in attributes.items() if key not in _HEADERS and key != "sha256"}
        mime_type = attributes.get("Content-Type", _UNKNOWN)
        return StoredImage(name, mime_type, found.size_bytes, attributes["sha256"], made_ms, left_s, kept)

    def _kept(self, metadata: Mapping[str, str]) -> dict[str, str]:
        """Metadata that fits into headers: ASCII, and of limited length."""
        kept = {}
        for key, value in metadata.items():
            if not _KEY.fullmatch(key) or key == "sha256":
                raise ValueError(f"{key!r} is not a name for metadata")
            if key != "prompt":
                kept[key] = _encoded(value, 200)
            elif self._keep_prompts:
                kept[key] = _encoded(value, _PROMPT_CHARS)
        return kept

    async def _described(self, names: list[str]) -> list[StoredImage]:
        """The images in the order of `names`, without those that were deleted meanwhile."""
        turn = asyncio.Semaphore(_AT_ONCE)

        async def one(name: str) -> StoredImage | None:
            async with turn:
                try:
                    return await self.describe(name)
                except NotFound:
                    return None

        found = await asyncio.gather(*map(one, names), return_exceptions=True)
        for result in found:
            if isinstance(result, BaseException):
                raise result
        return [image for image in found if isinstance(image, StoredImage)]

    async def _sweep_if_due(self) -> None:
        expired_after, now_s = self._expired_after(), elapsed_s()
        if expired_after is None or (self._swept_s is not None and now_s - self._swept_s < SWEEP_EVERY_S):
            return
        self._swept_s = now_s
        if not await self._objects.sweep(expired_after):
            self._swept_s = None


def _pixels(data: bytes) -> dict[str, str]:
    """`width` and `height` as metadata; empty if they cannot be read."""
    found = identify(data)
    return {} if found.width is None else {"width": str(found.width), "height": str(found.height)}


def cache_control(left_s: int | None) -> str:
    """The bytes of a name never change. Shared caches may not store them, because a deleted image must disappear."""
    return f"private, max-age={YEAR_S if left_s is None else min(YEAR_S, left_s)}, immutable"


def disposition(name: str, mime_type: str) -> str:
    """`inline` for known image types, which a browser shows; `attachment` for everything else, which it saves."""
    return f'{"inline" if mime_type in EXTENSIONS else "attachment"}; filename="{name}"'


def _encoded(text: str, max_chars: int) -> str:
    text = text[:max_chars]
    while len(encoded := quote(text, safe=_PLAIN, errors="replace")) > max_chars:
        text = text[: min(len(text) - 1, len(text) * max_chars // len(encoded) + 1)]
    return encoded
