"""What the store keeps about a file, and its id. Pure.

The digits of an id begin with the creation time, counted down, so that ids are sorted from the newest file to the oldest; the
rest are 128 random bits.
"""

from __future__ import annotations

import re
from typing import NamedTuple

import orjson

from shared.media.names import new_name, newest_first

_PREFIX = "file-"
_ID = re.compile(rf"{_PREFIX}[0-9a-f]{{44}}")


class StoredFile(NamedTuple):
    id: str
    object_name: str
    """The name of its bytes in the object store, which begins with the time of its expiry."""
    filename: str
    purpose: str
    mime_type: str
    size_bytes: int
    created_s: int
    """Since 1970, like `expires_s`."""
    expires_s: int

    def pack(self) -> bytes:
        return orjson.dumps(self._asdict())

    @classmethod
    def unpack(cls, value: bytes) -> StoredFile:
        return cls(**orjson.loads(value))


class Naming(NamedTuple):
    """What is known about a file before its bytes are."""

    file_id: str
    object_name: str
    created_s: int
    expires_s: int

    @classmethod
    def of(cls, now_s: float, random_hex: str, ttl_s: int) -> Naming:
        """`random_hex`: 32 unguessable hexadecimal digits."""
        expires_s = int(now_s) + ttl_s
        return cls(new_id(now_s, random_hex), new_name(expires_s * 1000, random_hex, ""), int(now_s), expires_s)


def new_id(now_s: float, random_hex: str) -> str:
    """`random_hex`: 32 unguessable hexadecimal digits."""
    return _PREFIX + newest_first(int(now_s * 1000), random_hex)


def is_id(text: str) -> bool:
    """Whether `new_id` can return this text."""
    return _ID.fullmatch(text) is not None


def digits_of(file_id: str) -> str:
    """The id without its prefix; of two files, the newer one has the lower digits."""
    return file_id.removeprefix(_PREFIX)
