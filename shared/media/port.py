"""The port of an object store for images and files: whole objects with attributes, under names. Adapters: a bucket and a
folder."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import NamedTuple, Protocol

from shared.errors import NotFound, StorageUnavailable

RETRY_AFTER_S = 5.0
IMAGES, FILES = "images", "files"
"""The folders within a bucket or a local folder. Each is opened by itself."""

PART_BYTES = 5 * 1024 * 1024
"""A bucket gets a long object in parts of this size, the least that S3 takes."""
HELD_BYTES = 2 * PART_BYTES
"""Memory that the writing of one object takes at most: one part is filled while another one is sent."""

Write = Callable[[bytes], Awaitable[None]]
"""Takes the next piece of an object, and returns when there is room for another one."""


class Found(NamedTuple):
    """An object with its stored `attributes` and total `size_bytes`; `data` is the requested part."""

    attributes: Mapping[str, str]
    size_bytes: int
    data: bytes = b""


class Objects(Protocol):
    """Every method raises StorageUnavailable. Methods that read or delete one image also raise NotFound."""

    async def put(self, name: str, data: bytes, attributes: Mapping[str, str]) -> None:
        """Stores an object atomically: a visible object has all its bytes and attributes. Values are ASCII."""
        ...

    def writing(self, name: str, attributes: Mapping[str, str]) -> AbstractAsyncContextManager[Write]:
        """Stores an object from the pieces that are written within the block. It is visible once the block has ended, whole;
        where the block fails, it never is. Nobody else may write the same name meanwhile."""
        ...

    async def get(self, name: str, part: tuple[int, int] | None = None) -> Found:
        """`part`: (start, end) in bytes, end exclusive, both within the image."""
        ...

    async def head(self, name: str) -> Found:
        """The object without its data."""
        ...

    async def names(self, after: str | None, limit: int) -> list[str]:
        """At most `limit` names of images after `after`, in alphabetical order."""
        ...

    async def delete(self, name: str) -> None:
        """Deletes an object. A missing one may raise NotFound or nothing, because S3 does not report it."""
        ...

    async def rename(self, name: str, new_name: str) -> None:
        """Gives an object another name, with its attributes. A bucket copies it and deletes the first one."""
        ...

    async def upload_url(self, name: str, size_bytes: int, expires_s: int, origin: str) -> str | None:
        """A URL at the store itself that takes an object of `size_bytes`; it needs no credential, and is for the pages of
        `origin`, if that is not empty. A folder has none. The object may have another size, and be overwritten until
        `expires_s` have passed: it is checked under its next name."""
        ...

    async def signed_url(self, name: str, expires_s: int) -> str:
        """A URL that returns the image to GET requests for `expires_s`. A folder has none (RuntimeError)."""
        ...

    async def sweep(self, expired_after: str) -> bool:
        """Deletes images whose names sort after `expired_after`, unless the store does by itself. True if none are left."""
        ...


def no_image() -> NotFound:
    """The same error for an invalid name, an unknown name and an expired image."""
    return NotFound("No image has this name; it may have been deleted or have expired.")


def unavailable(reason: str) -> StorageUnavailable:
    return StorageUnavailable(
        f"The storage of images and files failed: {reason}. Try again later.", retry_after_s=RETRY_AFTER_S
    )
