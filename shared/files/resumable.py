"""Uploads whose bytes do not pass through a request of this API: announced, sent to an upload URL, completed.

    resumable_uploads/<digits of the file's id>   what was announced; it expires after a day, like the bytes of an upload that
                                                  nobody completed

The bytes arrive under a name of their own. Whoever has the upload URL may write that name again and again, so completing renames
the object first, and what is then checked can no longer change. Completing twice gives the same file: a client repeats the
request when it did not get the answer.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from typing import NamedTuple

import orjson

from shared.errors import BadRequest, GatewayError, NotFound, UnsupportedMediaType
from shared.files.files import ATTRIBUTES, Files, Unlisted
from shared.files.record import Naming, digits_of, is_id
from shared.media.names import new_name
from shared.media.port import Write
from shared.media.uninterrupted import uninterrupted
from shared.stores.port import Put

OPEN_S = 86_400
"""An announced upload must be completed within this time."""
PURPOSE = "user_data"
"""Of the files of sessions, as OpenAI names it."""


class Upload(NamedTuple):
    """An announced upload."""

    id: str
    """That of the file which it becomes."""
    owner: str
    """Who announced it, as a fingerprint."""
    session: str
    """The id of the session that gets the file."""
    filename: str
    content_type: str
    """As declared."""
    size_bytes: int
    """As declared; the bytes must have this size."""
    arrives_as: str
    """The name of the object until the upload is completed."""
    becomes: Naming
    expires_s: int
    here: bool = False
    """Whether this server takes the bytes, because the storage has no upload URLs."""
    mime_type: str = ""
    """By its content, once it is completed."""
    joined: bool = False
    """Whether the session has the file."""

    def pack(self) -> bytes:
        return orjson.dumps({**self._asdict(), "becomes": self.becomes._asdict()})

    @classmethod
    def unpack(cls, value: bytes) -> Upload:
        fields = orjson.loads(value)
        return cls(**{**fields, "becomes": Naming(**fields["becomes"])})

    def put(self) -> Mapping[str, Put]:
        return {_key_of(self.id): Put(self.pack(), self.expires_s * 1000)}


class ResumableUploads:
    """Every method raises StorageUnavailable and LedgerUnavailable. Methods that take an id raise NotFound, with the same error
    for invalid, unknown and expired ids, and for uploads of another owner."""

    def __init__(self, files: Files, *, now_s: Callable[[], float] = time.time) -> None:
        self._objects, self._files, self._now_s = files.objects, files, now_s

    async def announce(
        self,
        owner: str,
        *,
        session: str,
        filename: str,
        content_type: str,
        size_bytes: int,
        ttl_s: int,
        origin: str = "",
    ) -> tuple[Upload, str | None]:
        """The upload, and the URL that takes its bytes: at the storage, or None where this server does (`receive`). Pages of
        `origin` may use it."""
        now_s, random_hex = self._now_s(), secrets.token_hex(16)
        becomes, expires_s = Naming.of(now_s, random_hex, ttl_s), int(now_s) + OPEN_S
        arrives_as = new_name(expires_s * 1000, secrets.token_hex(16), "")
        url = await self._objects.upload_url(arrives_as, size_bytes, OPEN_S, origin)
        upload = Upload(
            becomes.file_id,
            owner,
            session,
            filename,
            content_type,
            size_bytes,
            arrives_as,
            becomes,
            expires_s,
            here=url is None,
        )
        await self._files.write(upload.put())
        return upload, url

    async def find(self, upload_id: str, owner: str | None) -> Upload:
        """`owner`: None for a request that is authorised by the id itself."""
        key = _key_of(upload_id)
        value = (await self._files.values([key]))[key] if is_id(upload_id) else None
        upload = None if value is None else Upload.unpack(value)
        if upload is None or (owner is not None and upload.owner != owner):
            raise no_upload()
        return upload

    async def receive(self, upload: Upload, receive: Callable[[Write], Awaitable[None]]) -> None:
        """Stores what `receive` writes as the bytes of the upload. Where `receive` fails, earlier bytes stay."""
        async with self._objects.writing(upload.arrives_as, ATTRIBUTES) as write:
            await receive(write)

    @asynccontextmanager
    async def arrived(self, upload: Upload) -> AsyncIterator[Unlisted]:
        """The bytes, which can no longer change. Raises BadRequest if nothing has arrived, or another size than announced. A
        block that refuses them (BadRequest, UnsupportedMediaType) deletes them with the upload; after any other error the
        request may be repeated."""
        with suppress(NotFound):
            # An earlier request that failed afterwards has renamed it.
            await uninterrupted(self._objects.rename(upload.arrives_as, upload.becomes.object_name))
        try:
            found = await self._objects.head(upload.becomes.object_name)
        except NotFound:
            raise BadRequest(
                "Nothing has arrived for this upload; send the whole file to its upload_url first."
            ) from None
        try:
            if found.size_bytes != upload.size_bytes:
                raise BadRequest(
                    f"{found.size_bytes} bytes have arrived, and size_bytes said {upload.size_bytes}. Announce the upload again, "
                    "with the size of the file.",
                    field="size_bytes",
                )
            yield Unlisted(self._files, upload.becomes)
        except (BadRequest, UnsupportedMediaType):
            with suppress(GatewayError):
                await self._files.write({_key_of(upload.id): None})
                await self._objects.delete(upload.becomes.object_name)
            raise

    async def completed(self, upload: Upload, file: Unlisted, owner: str, mime_type: str) -> Upload:
        """Lists the bytes as a file of `owner`, and notes that with the upload, in one commit."""
        upload = upload._replace(mime_type=mime_type)
        await file.list_as(
            owner,
            filename=upload.filename,
            purpose=PURPOSE,
            mime_type=mime_type,
            size_bytes=upload.size_bytes,
            more=upload.put(),
        )
        return upload

    async def joined(self, upload: Upload) -> None:
        """Notes that the session has the file, so that a repeated request adds it no second time."""
        await self._files.write(upload._replace(joined=True).put())


def _key_of(upload_id: str) -> str:
    return f"resumable_uploads/{digits_of(upload_id)}"


def no_upload() -> NotFound:
    return NotFound("No upload has this id; it may have expired or been refused, or it belongs to another caller.")
