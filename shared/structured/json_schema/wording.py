"""The parts of messages: short quotes of values as JSON, and JSON pointers. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Any

from shared.errors import json_type

_MAX_QUOTED = 60
_MAX_POINTER_CHARS = 1000
_TYPES = {
    "array": "a list",
    "boolean": "true or false",
    "integer": "a whole number",
    "null": "null",
    "number": "a number",
    "object": "an object",
    "string": "a string",
}


def short(value: object) -> str:
    """A scalar as JSON, shortened if it is long; for an object or a list only its type."""
    if isinstance(value, dict | list) and value:
        return json_type(value)
    if isinstance(value, str):
        value = value if len(value) <= _MAX_QUOTED else value[: _MAX_QUOTED - 1] + "…"
    told = str(value) if isinstance(value, Decimal) else json.dumps(value, ensure_ascii=False)
    # A number may have thousands of digits. A text is already short; cutting it again could split an escape.
    return told if isinstance(value, str) or len(told) <= _MAX_QUOTED else told[: _MAX_QUOTED - 1] + "…"


def but_not(value: object) -> str:
    return f", not {short(value)}"


def count(bound: Any, thing: str) -> str:
    """A bound with its unit: "3 items", "0.5"."""
    if not thing:
        return short(bound)
    plural = thing.removesuffix("y") + "ies" if thing.endswith("y") else thing + "s"
    return f"{short(int(bound))} {thing if bound == 1 else plural}"


def enum_text(options: Sequence[Any]) -> str:
    """The values of an enum, as many as fit into a short sentence."""
    if not options:
        return "absent: the enum allows no value"
    told = short(options[0])
    for index, option in enumerate(options[1:], 1):
        following = f"{told}, {short(option)}"
        if len(following) > 100:
            return f"one of {told} or {len(options) - index} more"
        told = following
    return f"one of {told}" if len(options) > 1 else told


def types_text(names: Iterable[str]) -> str:
    return " or ".join(_TYPES[name] for name in names)


def pointer(path: Iterable[str | int]) -> str:
    """A JSON pointer (RFC 6901); if it would be too long, the pointer of a parent."""
    told = ""
    for step in path:
        following = f"{told}/{escaped(str(step))}"
        if len(following) > _MAX_POINTER_CHARS:
            break
        told = following
    return told


def escaped(step: str) -> str:
    """Escapes one step of a JSON pointer."""
    return step.replace("~", "~0").replace("/", "~1")
