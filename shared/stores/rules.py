"""The checks that all stores share: keys, prefixes, and the keys and sizes of a change."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TypeVar

from shared.stores.port import MAX_VALUE_BYTES, Change

T = TypeVar("T")

MAX_ID_BYTES = 1500
MAX_KEYS = 100
MAX_COMMIT_BYTES = 8_000_000
"""Maximum size of one change. Firestore accepts requests of 10 MiB (cloud.google.com/firestore/quotas)."""
MAX_LISTED = 10_000
LATEST_MS = 253_402_300_799_000
"""The end of the year 9999, the latest time that Firestore can store."""

_RESERVED = re.compile(r"\.\.?|__.*__", re.DOTALL)


def check_keys(keys: Sequence[str]) -> tuple[str, ...]:
    """`keys` without duplicates. Raises ValueError if one is not a valid `collection/id`."""
    if not 1 <= len(keys) <= MAX_KEYS:
        raise ValueError(f"A transaction takes 1 to {MAX_KEYS} keys, not {len(keys)}.")
    for key in keys:
        split_key(key)
    return tuple(dict.fromkeys(keys))


def split_key(key: str) -> tuple[str, str]:
    """Collection and id, by Firestore's rules (firebase.google.com/docs/firestore/quotas). Raises ValueError."""
    collection, _, name = key.partition("/")
    if not is_id(collection) or not is_id(name):
        raise ValueError(
            f"{_quoted(key)} is not a valid key; use `collection/id`, each part 1 to {MAX_ID_BYTES} bytes of UTF-8 "
            "without `/`, and neither `.`, `..` nor `__...__`."
        )
    return collection, name


def is_id(text: str) -> bool:
    return _is_part(text) and text != "" and _RESERVED.fullmatch(text) is None


def split_prefix(prefix: str, limit: int) -> tuple[str, str]:
    """Collection and the start of an id, which may be empty. Raises ValueError."""
    collection, slash, start = prefix.partition("/")
    if not slash or not is_id(collection) or not _is_part(start):
        raise ValueError(f"{_quoted(prefix)} is not a valid prefix; use `collection/` or `collection/start-of-id`.")
    if not 1 <= limit <= MAX_LISTED:
        raise ValueError(f"The limit of a listing must be 1 to {MAX_LISTED}, not {limit}.")
    return collection, start


def prefix_end(prefix: str) -> str:
    """The exclusive upper bound of all texts that start with `prefix`, in the order of code points (and of UTF-8 bytes)."""
    stem = prefix.rstrip("\U0010ffff")
    if not stem:
        raise ValueError("An empty prefix has no upper bound.")
    following = ord(stem[-1]) + 1
    return stem[:-1] + chr(0xE000 if following == 0xD800 else following)


def check_change(keys: tuple[str, ...], change: Change[T]) -> None:
    """Raises ValueError for a change that no store accepts."""
    total = 0
    for key, put in change.writes.items():
        if key not in keys:
            raise ValueError(f"The step wrote {_quoted(key)}, which is not one of its keys.")
        if put is None:
            continue
        if len(put.value) > MAX_VALUE_BYTES:
            raise ValueError(
                f"The value of {_quoted(key)} has {len(put.value)} bytes; the maximum is {MAX_VALUE_BYTES}."
            )
        if put.expires_at_ms is not None and not 0 <= put.expires_at_ms <= LATEST_MS:
            raise ValueError(f"{_quoted(key)} would expire at {put.expires_at_ms} ms, outside the years 1970 to 9999.")
        total += len(put.value)
    if total > MAX_COMMIT_BYTES:
        raise ValueError(f"One change writes {total} bytes; the maximum is {MAX_COMMIT_BYTES}.")


def _is_part(text: str) -> bool:
    if "/" in text or len(text) > MAX_ID_BYTES:
        return False
    try:
        return len(text.encode()) <= MAX_ID_BYTES
    except UnicodeEncodeError:  # a lone surrogate
        return False


def _quoted(text: str) -> str:
    return repr(text[:60])
