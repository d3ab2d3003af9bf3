"""One validation at work: what it may still spend, what it need not do twice, and the errors it makes. Pure."""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from contextvars import ContextVar
from hashlib import blake2b
from typing import Any

from shared.structured.json_schema import numbers
from shared.structured.json_schema.document import Document

MAX_WORK = 250_000
"""Units of 3 us: keywords applied to values, entries they look at, characters and digits they read. So at most a second;
10 KB of answer take 5,000."""
ERROR_WORK = 8
# Hashing and comparing 1,024 characters.
_TEXT_WORK_SHIFT = 10
_SECRET = secrets.token_bytes(16)


class TooCostly(Exception):
    """A validation would exceed its `max_work`."""


class Run:
    def __init__(self, document: Document, assert_formats: bool = False, max_work: int = MAX_WORK) -> None:
        self.document = document
        self.assert_formats = assert_formats
        self.max_work = max_work
        self.work = 0
        # (schema, value), by identity, -> errors, unknowns. Alternatives that lead to each other cost 2^depth without.
        self.known: dict[tuple[int, int], tuple[list[Any], int]] = {}
        self.enums: dict[int, frozenset[Any]] = {}
        """The keys of an enum's values, by its identity."""
        self.formats: dict[tuple[str, int], bool] = {}
        """Whether a text is in a format, by the text's identity."""
        self.unknown = 0
        """How often the result was left open. A check that took place while this rose, and found no error, is undecided."""

    def search(self, pattern: str, text: str) -> bool | None:
        """None, and one more unknown, where the pattern cannot be searched for."""
        self.spend(self.document.patterns.work(pattern, text))
        result = self.document.patterns.search(pattern, text)
        self.unknown += result is None
        return result

    def spend(self, work: int) -> None:
        """Call it before the work is done. Raises TooCostly."""
        self.work += work
        if self.work > self.max_work:
            raise TooCostly


current: ContextVar[Run] = ContextVar("json_schema_run")
"""A keyword is handed jsonschema's validator, which has no room for anything of ours."""


def error(message: str, path: Iterable[str | int] = ()) -> Any:
    """A ValidationError of a keyword."""
    from jsonschema.exceptions import ValidationError  # type: ignore[import-untyped]

    current.get().spend(ERROR_WORK)
    return ValidationError(message if len(message) <= 200 else message[:199] + "…", path=path)


def key(value: Any) -> str | bytes:
    """Equal for values that are equal in JSON, and only for them: 1 and 1.0 are, 1 and true are not.

    No caller can choose values whose keys collide in a dict: texts and bytes are hashed with a secret of the process, and
    so are objects and lists here. Numbers and tuples are not: 2**61 - 1 times anything has the hash 0."""
    if isinstance(value, str):
        current.get().spend(len(value) >> _TEXT_WORK_SHIFT)
        return value
    if value is None or isinstance(value, bool):
        return f"{value}".encode()
    if not isinstance(value, list | dict):
        current.get().spend(numbers.work(value))
        return numbers.canonical(value)
    current.get().spend(1 + len(value))
    if isinstance(value, list):
        kind, entries = b"[", [_framed(key(item)) for item in value]
    else:
        kind, entries = b"{", sorted(_framed(key(name)) + _framed(key(item)) for name, item in value.items())
    return blake2b(kind + b"".join(entries), key=_SECRET, digest_size=16).digest()


def _framed(key: str | bytes) -> bytes:
    """A key as it stands beside others: with its kind and its length, so that they cannot be read otherwise."""
    if isinstance(key, str):
        text = key.encode("utf-8", "surrogatepass")
        return b"s%d:%b" % (len(text), text)
    return b"b%d:%b" % (len(key), key)
