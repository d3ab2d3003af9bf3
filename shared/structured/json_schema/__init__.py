"""A caller's JSON Schema: checked before it is sent, and the problems of an answer. Pure.

Nothing is ever fetched, and hostile schemas and answers end: a document is bounded in size, depth, schemas, pointers and
patterns (document.py, patterns.py), so that checking one takes at most 150 ms; validation is bounded in the work that its
keywords charge before they do it (run.py). The libraries cost 60 ms, so the first schema loads them.
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
"""The size of a schema as compact JSON."""
MAX_DEPTH = 50
"""Objects and lists inside each other, in the schema."""
MAX_PROBLEMS = 20
QUICK_WORK = 20_000
"""Units (run.MAX_WORK) of a check on the event loop: four times what 10 KB of answer take."""
# What orjson cannot hold exactly it reads as a fraction, and writes as one.
_HAS_FRACTION = re.compile(rb"[0-9][.eE][0-9]")
_MAX_CACHED = 64
# 64 of these, parsed, are 25 MB.
_MAX_CACHED_BYTES = 32 * 1024


class Problem(NamedTuple):
    """Where a value is wrong (a JSON pointer, "" is the whole) and how: at most 200 characters, quoting little of it."""

    path: str
    message: str


class Schema:
    """A checked schema, ready to validate. Its check may run in any thread."""

    def __init__(self, document: JsonObject, validation: Validation, assert_formats: bool = False) -> None:
        self.document = document
        """What is sent to Gemini: the caller's own, in its order, with the keywords of other dialects rewritten."""
        self._validation = validation
        self._assert_formats = assert_formats

    @property
    def unchecked(self) -> list[str]:
        """JSON pointers of the keywords that `problems` leaves out, because it cannot search for their pattern."""
        return self._validation.unchecked

    def problems(self, value: Any) -> list[Problem]:
        """[] when the value, as `numbers.loads` reads it, conforms; else at most 20, nearest to the root first.

        A value that costs too much to check is a Problem of the whole: what was not checked does not conform. That takes a
        second at most: on an event loop ask `quick_problems` first."""
        from shared.structured.json_schema.run import MAX_WORK, TooCostly

        try:
            return self._problems(value, MAX_WORK)
        except TooCostly:
            return [Problem("", "is too costly to check against this schema: ask for less, or simplify the schema")]

    def quick_problems(self, value: Any) -> list[Problem] | None:
        """The same within about 60 ms; None if the check would take longer."""
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
    """Draft 2020-12, or draft-07 where `$schema` says so. Raises BadRequest whose details are
    `{"field", "pointer"}`; the pointer (JSON pointer) leads into the schema.

    `source`: the JSON object (UTF-8) that orjson read `document` from, as its entry `field`: numbers that are not exact in
    the document are read from there. `assert_formats`: whether `problems` checks formats; else they are annotations."""
    from shared.structured.json_schema.document import InvalidSchema

    try:
        document, serialised = _serialised(document)
        if source is not None and _HAS_FRACTION.search(serialised):
            document, serialised = _serialised(_exact(source, field))
        # Equal schemas are asked for again and again; the order of their properties is no difference here.
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
    """The document, with numbers that orjson can write, and its compact form."""
    from shared.structured.json_schema.document import InvalidSchema

    if not isinstance(document, dict):
        raise InvalidSchema("", "must be a JSON Schema, which is an object")
    try:
        serialised = orjson.dumps(document, option=orjson.OPT_SORT_KEYS)
    except orjson.JSONEncodeError:
        # Nesting (its own bound is 254 levels) and numbers are all that can make it fail for parsed JSON.
        from shared.structured.json_schema.numbers import writable

        _bound_depth(document)
        document = writable(document)
        serialised = orjson.dumps(document, option=orjson.OPT_SORT_KEYS)
    if len(serialised) > MAX_BYTES:
        raise InvalidSchema("", f"has {len(serialised)} bytes; at most {MAX_BYTES} are checked: send a smaller schema")
    return document, serialised


@lru_cache(maxsize=_MAX_CACHED)
def _compiled(serialised: bytes) -> Validation:
    from shared.structured.json_schema.document import Document
    from shared.structured.json_schema.numbers import loads
    from shared.structured.json_schema.validation import Validation

    # A copy of its own: what is checked and cached stays as it is, whatever the caller does to the document.
    root = loads(serialised.decode())
    _bound_depth(root)
    return Validation(Document(root))


def _in_one_dialect(document: JsonObject, validation: Validation) -> JsonObject:
    """The document as it is sent; the same object where nothing has to be rewritten."""
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
