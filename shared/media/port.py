"""The port of an object store for images and files: whole objects with attributes, under names. Adapters: a bucket and a
folder."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, Protocol

from shared.errors import NotFound, StorageUnavailable

RETRY_AFTER_S = 5.0
IMAGES, FILES = "images", "files"
"""The folders within a bucket or a local folder. Each is opened by itself."""


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
