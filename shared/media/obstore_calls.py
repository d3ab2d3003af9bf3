"""The calls to obstore that a bucket and a folder share, with its errors translated into the gateway's."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, TypeAlias

import obstore
from obstore.exceptions import BaseError, PermissionDeniedError, UnauthenticatedError
from obstore.store import GCSStore, LocalStore, S3Store

from shared.media.port import PART_BYTES, Found, Write, no_image, unavailable
from shared.media.uninterrupted import uninterrupted

if TYPE_CHECKING:
    from obstore import AsyncWritableFile

ObjectStore: TypeAlias = GCSStore | S3Store | LocalStore

OPERATION_TIMEOUT_S = 45.0
_COLLECTED_BYTES = 256 * 1024
_STATUS = re.compile(r"status code: (\d{3})")
_SYSTEM_ERROR = re.compile(r"([A-Z][\w ]+) \(os error \d+\)")
_NO_BUCKET = "NoSuchBucket"
"""The error code for a missing bucket in the XML of both stores; an image's name cannot contain it."""


async def read(store: ObjectStore, path: str, part: tuple[int, int] | None = None) -> Found:
    """Raises NotFound and StorageUnavailable."""
    async with storage_errors(missing=True):
        result = await obstore.get_async(store, path, options={"range": part} if part else {})
        return Found(result.attributes, result.meta["size"], bytes(await result.bytes_async()))


async def head(store: ObjectStore, path: str) -> Found:
    """Raises NotFound and StorageUnavailable."""
    async with storage_errors(missing=True):
        result = await obstore.get_async(store, path, options={"head": True})
        return Found(result.attributes, result.meta["size"])


async def delete(store: ObjectStore, path: str) -> None:
    """Raises NotFound and StorageUnavailable; S3 reports no missing object."""
    async with storage_errors(missing=True):
        await obstore.delete_async(store, path)


@asynccontextmanager
async def writing(store: ObjectStore, path: str, attributes: Mapping[str, str] | None = None) -> AsyncIterator[Write]:
    """Raises StorageUnavailable. Where the block fails, a folder keeps nothing; a bucket keeps the parts that it got, under no
    name, until its lifecycle rule aborts the upload."""
    opened = obstore.open_writer_async(
        store, path, attributes=dict(attributes) if attributes else None, buffer_size=PART_BYTES, max_concurrency=1
    )
    writer = _Writer(opened)
    del opened
    try:
        yield writer.write
        # A request that is cancelled could still be applied after its caller has cleaned up.
        await uninterrupted(writer.close())
    finally:
        writer.drop()


class _Writer:
    """Collects small pieces: each call to obstore takes 85 us, whatever its size."""

    def __init__(self, file: AsyncWritableFile) -> None:
        self._file: AsyncWritableFile | None = file
        self._pieces = bytearray()

    async def write(self, piece: bytes) -> None:
        self._pieces += piece
        if len(self._pieces) >= _COLLECTED_BYTES:
            await self._flush()

    async def close(self) -> None:
        await self._flush()
        async with storage_errors():
            await self._open.close()

    def drop(self) -> None:
        """A file that is deleted unclosed is discarded. An error that is still being handled would keep it alive."""
        self._file = None

    async def _flush(self) -> None:
        pieces, self._pieces = self._pieces, bytearray()
        async with storage_errors():
            await self._open.write(pieces)

    @property
    def _open(self) -> AsyncWritableFile:
        assert self._file is not None, "the block has ended"
        return self._file


async def rename(store: ObjectStore, path: str, new_path: str) -> None:
    """Raises NotFound and StorageUnavailable."""
    async with storage_errors(missing=True):
        await obstore.rename_async(store, path, new_path)


@asynccontextmanager
async def storage_errors(*, missing: bool = False) -> AsyncIterator[None]:
    """Bounds the time of a call and translates its error into one that names neither an object nor an address.

    `missing`: whether a missing object is NotFound; otherwise it means that the bucket or folder is missing."""
    try:
        async with asyncio.timeout(OPERATION_TIMEOUT_S):
            yield
    except FileNotFoundError as error:
        if missing and _NO_BUCKET not in str(error):
            raise no_image() from None
        raise unavailable("its bucket or folder does not exist") from None
    except (PermissionDeniedError, UnauthenticatedError):
        raise unavailable("it rejects the gateway's credentials") from None
    except (BaseError, OSError) as error:
        raise unavailable(reason(error)) from None


def reason(error: Exception) -> str:
    """The cause in words that may be shown; obstore's own messages contain addresses and names of objects."""
    if isinstance(error, TimeoutError):
        return f"it did not answer within {OPERATION_TIMEOUT_S:g} s"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    text = str(error)
    if status := _STATUS.search(text):
        return f"it answered with status {status[1]}"
    if system := _SYSTEM_ERROR.search(text):
        return system[1].lower()
    return "it cannot be reached"
