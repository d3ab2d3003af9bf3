"""What images are kept in: whole objects under names, with attributes. Two adapters: a bucket and a folder."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, Protocol

from shared.errors import NotFound, StorageUnavailable

RETRY_AFTER_S = 5.0


class Found(NamedTuple):
    """An object: `attributes` are as they were put, `size_bytes` is the whole's, `data` the part that was asked for."""

    attributes: Mapping[str, str]
    size_bytes: int
    data: bytes = b""


class Objects(Protocol):
    """Every method raises StorageUnavailable; those that read or delete one image raise NotFound."""

    async def put(self, name: str, data: bytes, attributes: Mapping[str, str]) -> None:
        """Whole or not at all: an object that is seen has all its bytes and attributes. Values are ASCII."""
        ...

    async def get(self, name: str, part: tuple[int, int] | None = None) -> Found:
        """`part`: from its first byte to before its second, both within the image."""
        ...

    async def head(self, name: str) -> Found:
        """Everything but the data."""
        ...

    async def names(self, after: str | None, limit: int) -> list[str]:
        """At most `limit` images' names in alphabetical order, those that follow `after`."""
        ...

    async def delete(self, name: str) -> None:
        """One that is missing may be NotFound, or nothing: S3 does not tell."""
        ...

    async def signed_url(self, name: str, expires_s: int) -> str:
        """An address that answers GET with the image, and nothing else, until `expires_s` have passed. Not of a folder."""
        ...

    async def sweep(self, expired_after: str) -> bool:
        """Deletes images whose names sort after `expired_after`, if the store does not by itself. True: all are done."""
        ...


def no_image() -> NotFound:
    """The same whether the name is wrong, was never given, or is past its time."""
    return NotFound("No image has this name; it may have been deleted or have expired.")


def unavailable(reason: str) -> StorageUnavailable:
    return StorageUnavailable(f"The image storage failed: {reason}. Try again later.", retry_after_s=RETRY_AFTER_S)
