"""Reads a JSON object field by field. Whatever is wrong becomes a BadRequest with the field's path and what is allowed.

Not pydantic: its import and first model cost 75 ms of every cold start (a quarter of what functions-framework takes), and
its messages would have to be rewritten for callers anyway.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from shared.errors import BadRequest
from shared.generation import JsonObject

_MOST_NAME_CHARS = 100
"""Of a name that an error repeats: what a caller made up may be as long as the body."""


class Fields:
    """Readers return None (or the default given) for a field that is absent or null; `finish` refuses what nobody read."""

    def __init__(self, values: JsonObject, path: str = "") -> None:
        self._values = values
        self._prefix = f"{path}." if path else ""
        self._known: set[str] = set()

    def given(self, name: str) -> bool:
        self._known.add(name)
        return self._values.get(name) is not None

    def path(self, name: str) -> str:
        return self._prefix + name

    def refuse(self, name: str, rule: str) -> BadRequest:
        """The error to raise: "`name` `rule`", e.g. "prompt must be a string."."""
        path = self.path(name)
        return BadRequest(f"{path} {rule}.", field=path)

    def text(self, name: str) -> str | None:
        value = self._read(name)
        if value is not None and not isinstance(value, str):
            raise self.refuse(name, f"must be a string, not {kind(value)}")
        return value

    def required_text(self, name: str) -> str:
        """Text with something other than white space in it, as it was sent."""
        value = self.text(name)
        if value is None:
            raise self.refuse(name, "is required: send a text that is not empty")
        if not value.strip():
            raise self.refuse(name, "is empty; send a text")
        return value

    def flag(self, name: str) -> bool:
        value = self._read(name)
        if value is not None and not isinstance(value, bool):
            raise self.refuse(name, f"must be true or false, not {kind(value)}")
        return bool(value)

    def integer(self, name: str, minimum: int, maximum: int) -> int | None:
        """5.0 is a whole number too, as JSON Schema counts."""
        value = self._read(name)
        if value is None:
            return None
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int) or not minimum <= value <= maximum:
            raise self.refuse(name, f"must be a whole number from {minimum} to {maximum}")
        return value

    def number(self, name: str, minimum: float, maximum: float) -> float | None:
        value = self._read(name)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float) or not minimum <= value <= maximum:
            raise self.refuse(name, f"must be a number from {minimum:g} to {maximum:g}")
        return value

    def mapping(self, name: str) -> JsonObject | None:
        value = self._read(name)
        if value is not None and not isinstance(value, dict):
            raise self.refuse(name, f"must be an object, not {kind(value)}")
        return value

    def array(self, name: str) -> list[Any] | None:
        value = self._read(name)
        if value is not None and not isinstance(value, list):
            raise self.refuse(name, f"must be a list, not {kind(value)}")
        return value

    def mappings(self, name: str, most: int | None = None) -> list[JsonObject] | None:
        """A list of objects, of at most `most`."""
        values = self.array(name)
        if most is not None and values is not None and len(values) > most:
            raise self.refuse(name, f"must have at most {most} entries, not {len(values)}")
        for index, value in enumerate(values or ()):
            if not isinstance(value, dict):
                raise self.refuse(f"{name}[{index}]", f"must be an object, not {kind(value)}")
        return values

    def finish(self, *known: str) -> None:
        """Call it last: a field that was neither read nor is `known` is a mistake the caller wants to hear of."""
        for name in self._values:
            if name not in self._known and name not in known:
                raise self.refuse(told(name), not_known(name, self._known.union(known)))

    def _read(self, name: str) -> Any:
        self._known.add(name)
        return self._values.get(name)


def told(name: str) -> str:
    """A caller's own name as an error repeats it: bounded, and to be seen even if it is empty."""
    return f"{name[:_MOST_NAME_CHARS]}…" if len(name) > _MOST_NAME_CHARS else name or '""'


def not_known(name: str, known: Collection[str]) -> str:
    """What a sentence says of a name that is not known: with the nearest one that is, or all of them."""
    # Only a mistake pays for the import.
    from difflib import get_close_matches

    if len(name) <= _MOST_NAME_CHARS and (near := get_close_matches(name, known, n=1, cutoff=0.6)):
        return f"is not known here; did you mean {near[0]}"
    return f"is not known here; it may be {', '.join(sorted(known))}"


def kind(value: object) -> str:
    """What a JSON value is, for people."""
    names = {dict: "an object", list: "a list", str: "a string", bool: "a boolean", type(None): "null"}
    return names.get(type(value), "a number")
