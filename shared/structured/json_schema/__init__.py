"""Checks a caller's JSON Schema before it is sent, and finds the problems of an answer. Pure.

Nothing is fetched, and the time is bounded for hostile schemas and answers too. The size, depth, schemas, pointers and patterns
of a document are limited (document.py, patterns.py), so that checking one takes at most 150 ms. During validation each keyword
charges its work in advance (run.py). Importing the libraries takes 60 ms, so the first schema does it.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

from shared.errors import BadRequest
from shared.generation import JsonObject

if TYPE_CHECKING:
    from shared.structured.json_schema.validation import Validation

MAX_BYTES = 128 * 1024
"""Maximum size of a schema as compact JSON."""
MAX_DEPTH = 50
"""Maximum nesting of objects and lists in a schema."""
MAX_PROBLEMS = 20
QUICK_WORK = 20_000
"""Maximum work of a check on the event loop, in the units of run.MAX_WORK: four times as much as 10 KB of answer take."""
# orjson reads a number that it cannot represent exactly as a float, and writes it as one.
_HAS_FRACTION = re.compile(rb"[0-9][.eE][0-9]")
_MAX_CACHED = 64
# 64 parsed schemas of this size take 25 MB.
_MAX_CACHED_BYTES = 32 * 1024


class Problem(NamedTuple):
    """The place of an error (a JSON pointer; "" is the root) and a message of at most 200 characters."""

    path: str
    message: str


class Schema:
    """A valid schema, ready for validation in any thread."""

    def __init__(self, document: JsonObject, validation: Validation, assert_formats: bool = False) -> None:
        self.document = document
        """The schema as it is sent to Gemini: in the caller's order, with the keywords of other dialects rewritten."""
        self._validation = validation
        self._assert_formats = assert_formats

    @property
    def unchecked(self) -> list[str]:
        """JSON pointers of the keywords that `problems` skips because it cannot search for their pattern."""
        return self._validation.unchecked

    def problems(self, value: Any) -> list[Problem]:
        """At most 20 problems of a value that `numbers.loads` returned, nearest to the root first; [] if it conforms.

        A value that is too costly to check has one Problem at the root, because an unchecked value does not conform. This
        takes at most a second; on an event loop call `quick_problems` first."""
        from shared.structured.json_schema.run import MAX_WORK, TooCostly

        try:
            return self._problems(value, MAX_WORK)
        except TooCostly:
            return [Problem("", "is too costly to check against this schema: ask for less, or simplify the schema")]

    def quick_problems(self, value: Any) -> list[Problem] | None:
        """The same as `problems`, but None if the check takes longer than about 60 ms."""
        from shared.structured.json_schema.run import TooCostly

        try:
            return self._problems(value, QUICK_WORK)
        except TooCostly:
            return None

    def _problems(self, value: Any, max_work: int) -> list[Problem]:
        found = self._validation.problems(value, MAX_PROBLEMS, self._assert_formats, max_work)
        return [Problem(path, message) for path, message in found]


def check_schema(
    document: JsonObject,
    field: str = "json_schema",
    *,
    assert_formats: bool = False,
    source: bytes | None = None,
) -> Schema:
    """Checks a schema of draft 2020-12, or draft-07 if `$schema` names it. Raises BadRequest with the details
    `{"field", "pointer"}`, where the JSON pointer names the place in the schema.

    `source`: the JSON object (UTF-8) whose entry `field` orjson parsed into `document`; numbers that lost digits are read from
    it. `assert_formats`: whether `problems` checks formats; otherwise they are annotations."""
    from shared.structured.json_schema.document import InvalidSchema

    try:
        document, serialised = _serialised(document)
        if source is not None and _HAS_FRACTION.search(serialised):
            document, serialised = _serialised(_exact(source, field))
        # Most requests repeat a schema. The order of properties does not matter for the check.
        compiled = _compiled if len(serialised) <= _MAX_CACHED_BYTES else _compiled.__wrapped__
        validation = compiled(serialised)
        return Schema(_in_one_dialect(document, validation), validation, assert_formats)
    except InvalidSchema as invalid:
        where = f" at {_shortened(invalid.pointer)}" if invalid.pointer else ""
        raise BadRequest(f"{field}{where} {invalid.rule}.", field=field, details={"pointer": invalid.pointer}) from None


def _exact(source: bytes, field: str) -> Any:
    from shared.structured.json_schema.document import InvalidSchema
    from shared.structured.json_schema.numbers import loads_exact

    try:
        return loads_exact(source.decode("utf-8-sig"))[field]
    except ValueError as error:
        raise InvalidSchema("", f"has a number that cannot be read: {error}") from None


def _serialised(document: Any) -> tuple[JsonObject, bytes]:
    """The document, with numbers that orjson can write, and its compact form in bytes."""
    from shared.structured.json_schema.document import InvalidSchema

    if not isinstance(document, dict):
        raise InvalidSchema("", "must be a JSON Schema, which is an object")
    try:
        serialised = orjson.dumps(document, option=orjson.OPT_SORT_KEYS)
    except orjson.JSONEncodeError:
        # For parsed JSON orjson fails only because of nesting (its limit is 254 levels) or numbers.
        from shared.structured.json_schema.numbers import writable

        _bound_depth(document)
        document = writable(document)
        serialised = orjson.dumps(document, option=orjson.OPT_SORT_KEYS)
    if len(serialised) > MAX_BYTES:
        raise InvalidSchema("", f"has {len(serialised)} bytes; the maximum is {MAX_BYTES}: send a smaller schema")
    return document, serialised


@lru_cache(maxsize=_MAX_CACHED)
def _compiled(serialised: bytes) -> Validation:
    from shared.structured.json_schema.document import Document
    from shared.structured.json_schema.numbers import loads
    from shared.structured.json_schema.validation import Validation

    # Parse a private copy: the cached validation must not change with the caller's document.
    root = loads(serialised.decode())
    _bound_depth(root)
    return Validation(Document(root))


def _in_one_dialect(document: JsonObject, validation: Validation) -> JsonObject:
    """The document as it is sent; the same object if nothing needs to be rewritten."""
    read = validation.document
    if not read.foreign:
        return document
    from shared.structured.json_schema.dialect import rewritten

    return rewritten(document, read.foreign, read.local_references)


def _bound_depth(root: Any) -> None:
    level = [root]
    for _ in range(MAX_DEPTH):
        level = [
            item
            for node in level
            for item in (node.values() if isinstance(node, dict) else node)
            if isinstance(item, dict | list)
        ]
        if not level:
            return
    raise _too_deep()


def _too_deep() -> Exception:
    from shared.structured.json_schema.document import InvalidSchema

    return InvalidSchema("", f"is nested more than {MAX_DEPTH} levels deep; put inner schemas under $defs and use $ref")


def _shortened(pointer: str) -> str:
    return pointer if len(pointer) <= 200 else pointer[:199] + "…"
