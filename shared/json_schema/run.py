"""One validation at work: what it may still spend, what it need not do twice, and the errors it makes. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from contextvars import ContextVar
from typing import Any

from shared.json_schema.document import Document

MAX_WORK = 250_000
"""Keywords applied to values, and entries they look at: about a second. 10 KB of answer take 5,000."""
ERROR_WORK = 8


class TooCostly(Exception):
    """A validation has done MAX_WORK."""


class Run:
    def __init__(self, document: Document, assert_formats: bool = False) -> None:
        self.document = document
        self.assert_formats = assert_formats
        self.work = 0
        # (schema, value), by identity, -> errors, unknowns. Alternatives that lead to each other cost 2^depth without.
        self.known: dict[tuple[int, int], tuple[list[Any], int]] = {}
        self.enums: dict[int, frozenset[Any]] = {}
        """The keys of an enum's values, by its identity."""
        self.unknown = 0
        """How often the result was left open. A check that took place while this rose, and found no error, is undecided."""

    def search(self, pattern: str, text: str) -> bool | None:
        """None, and one more unknown, where the pattern cannot be searched for."""
        self.spend(self.document.patterns.work(pattern, text))
        result = self.document.patterns.search(pattern, text)
        self.unknown += result is None
        return result

    def spend(self, work: int) -> None:
        self.work += work
        if self.work > MAX_WORK:
            raise TooCostly


current: ContextVar[Run] = ContextVar("json_schema_run")
"""A keyword is handed jsonschema's validator, which has no room for anything of ours."""


def error(message: str, path: Iterable[str | int] = ()) -> Any:
    """A ValidationError of a keyword."""
    from jsonschema.exceptions import ValidationError  # type: ignore[import-untyped]

    current.get().spend(ERROR_WORK)
    return ValidationError(message if len(message) <= 200 else message[:199] + "…", path=path)


def key(value: Any) -> Any:
    """Equal for values that are equal in JSON: 1 and 1.0 are, 1 and true are not."""
    if isinstance(value, list):
        current.get().spend(len(value))
        return ("list", tuple(key(item) for item in value))
    if isinstance(value, dict):
        current.get().spend(len(value))
        return ("object", frozenset((name, key(item)) for name, item in value.items()))
    return ("boolean", value) if isinstance(value, bool) else value
