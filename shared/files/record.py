"""What the store keeps about a file, and its id. Pure.

A file's key is `files/<owner>.<digits of its id>`, so that a look-up by another caller finds what a look-up of an unknown id
finds: nothing. The digits begin with the creation time, counted down, so that a caller's keys are sorted from the newest file
to the oldest; the rest are 128 random bits.
"""

from __future__ import annotations

import re
from typing import NamedTuple

import orjson

from shared.media.names import newest_first
from shared.secret import Secret

COLLECTION = "files"
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


def new_id(now_s: float, random_hex: str) -> str:
    """`random_hex`: 32 unguessable hexadecimal digits."""
    return _PREFIX + newest_first(int(now_s * 1000), random_hex)


def is_id(text: str) -> bool:
    """Whether `new_id` can return this text."""
    return _ID.fullmatch(text) is not None


def prefix_of(owner: str) -> str:
    """The start of the keys of all files of `owner`, who is named by its fingerprint only."""
    return f"{COLLECTION}/{Secret(owner).fingerprint('files')}."


def key_of(owner: str, file_id: str) -> str:
    return prefix_of(owner) + file_id.removeprefix(_PREFIX)


def id_in(key: str) -> str:
    """The id of the file that has this key."""
    return _PREFIX + key.rpartition(".")[2]
