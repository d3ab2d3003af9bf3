"""The state of one validation: its work budget, its caches, and the creation of errors. Pure."""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from contextvars import ContextVar
from hashlib import blake2b
from typing import Any

from shared.structured.json_schema import numbers
from shared.structured.json_schema.document import Document

MAX_WORK = 250_000
"""Maximum work of a validation, in units of about 3 us: keywords applied to values, entries visited, characters and digits
read. That is at most a second; 10 KB of answer take 5,000 units."""
ERROR_WORK = 8
# One unit is hashing and comparing 1,024 characters.
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
        # (schema, value), by id(), -> errors, unknowns. Without this cache, mutually recursive alternatives take 2^depth.
        self.known: dict[tuple[int, int], tuple[list[Any], int]] = {}
        self.enums: dict[int, frozenset[Any]] = {}
        """The keys of an enum's values, by its id()."""
        self.formats: dict[tuple[str, int], bool] = {}
        """Whether a text has a format, by the text's id()."""
        self.unknown = 0
        """The number of undecided searches. A check that found no error, but during which this number rose, is undecided."""

    def search(self, pattern: str, text: str) -> bool | None:
        """Whether the pattern matches. If it cannot be searched for, counts an unknown and returns None."""
        self.spend(self.document.patterns.work(pattern, text))
        result = self.document.patterns.search(pattern, text)
        self.unknown += result is None
        return result

    def spend(self, work: int) -> None:
        """Charges work before it is done. Raises TooCostly."""
        self.work += work
        if self.work > self.max_work:
            raise TooCostly


current: ContextVar[Run] = ContextVar("json_schema_run")
"""The run that keywords belong to: they receive only jsonschema's validator, which cannot carry it."""


def error(message: str, path: Iterable[str | int] = ()) -> Any:
    """A ValidationError of a keyword."""
    from jsonschema.exceptions import ValidationError  # type: ignore[import-untyped]

    current.get().spend(ERROR_WORK)
    return ValidationError(message if len(message) <= 200 else message[:199] + "…", path=path)


def key(value: Any) -> str | bytes:
    """A key that is equal exactly for values that are equal in JSON: 1 and 1.0 are, 1 and true are not.

    Callers cannot choose values whose keys collide in a dict: Python hashes texts and bytes with a secret of the process, and
    objects and lists are hashed with a secret here. Numbers and tuples would be predictable: 2**61 - 1 times any integer has
    the hash 0."""
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
    """A key with its kind and length, so that a sequence of keys is unambiguous."""
    if isinstance(key, str):
        text = key.encode("utf-8", "surrogatepass")
        return b"s%d:%b" % (len(text), text)
    return b"b%d:%b" % (len(key), key)
