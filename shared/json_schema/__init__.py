"""A caller's JSON Schema: checked before it is sent, and what an answer has against it. Pure.

Nothing is ever fetched, and hostile schemas and answers end: the document is bounded in size, depth and patterns
(document.py), validation in the keywords it applies (run.py). The libraries cost 60 ms, so the first schema loads them.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

from shared.errors import BadRequest
from shared.generation import JsonObject

if TYPE_CHECKING:
    from shared.json_schema.validation import Validation

MAX_BYTES = 128 * 1024
"""The size of a schema as compact JSON."""
MAX_DEPTH = 50
"""Objects and lists inside each other, in the schema."""
MOST_PROBLEMS = 20
_CACHED = 64
# 64 of these, parsed, are 25 MB.
_LARGEST_CACHED_BYTES = 32 * 1024


class Problem(NamedTuple):
    """Where a value is wrong (a JSON pointer, "" is the whole) and how: at most 200 characters, quoting little of it."""

    path: str
    message: str


class Schema:
    """A checked schema, ready to validate. `document` is what was given, the order of its properties too."""

    def __init__(self, document: JsonObject, validation: Validation) -> None:
        self.document = document
        self._validation = validation

    def problems(self, value: Any) -> list[Problem]:
        """[] when the value, as parsed from JSON, conforms; else at most 20, nearest to the root first.

        A value that costs too much to check is a Problem of the whole: what was not checked does not conform."""
        return [Problem(path, message) for path, message in self._validation.problems(value, MOST_PROBLEMS)]


def check_schema(document: JsonObject, field: str = "json_schema") -> Schema:
    """Draft 2020-12, or draft-07 where `$schema` says so. Raises BadRequest whose details are
    `{"field", "pointer"}`; the pointer (JSON pointer) leads into the schema."""
    from shared.json_schema.document import Refused

    try:
        serialised = _serialised(document)
        # Equal schemas are asked for again and again; the order of their properties is no difference here.
        compiled = _compiled if len(serialised) <= _LARGEST_CACHED_BYTES else _compiled.__wrapped__
        return Schema(document, compiled(serialised))
    except Refused as refused:
        where = f" at {_shortened(refused.pointer)}" if refused.pointer else ""
        raise BadRequest(f"{field}{where} {refused.rule}.", field=field, details={"pointer": refused.pointer}) from None


def _serialised(document: Any) -> bytes:
    from shared.json_schema.document import Refused

    if not isinstance(document, dict):
        raise Refused("", "must be a JSON Schema, which is an object")
    try:
        serialised = orjson.dumps(document, option=orjson.OPT_SORT_KEYS)
    except orjson.JSONEncodeError:
        # Its own bound is 254 levels; nothing else in parsed JSON makes it fail.
        raise _too_deep() from None
    if len(serialised) > MAX_BYTES:
        raise Refused("", f"has {len(serialised)} bytes; at most {MAX_BYTES} are checked: send a smaller schema")
    return serialised


@lru_cache(maxsize=_CACHED)
def _compiled(serialised: bytes) -> Validation:
    from shared.json_schema.document import Document
    from shared.json_schema.validation import Validation

    # A copy of its own: what is checked and cached stays as it is, whatever the caller does to the document.
    root = orjson.loads(serialised)
    _bound_depth(root)
    return Validation(Document(root))


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
    from shared.json_schema.document import Refused

    return Refused("", f"is nested more than {MAX_DEPTH} levels deep; put inner schemas under $defs and use $ref")


def _shortened(pointer: str) -> str:
    return pointer if len(pointer) <= 200 else pointer[:199] + "…"
