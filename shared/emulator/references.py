"""Makes the ids in a generated answer distinct, and its references point to them. Pure.

A schema cannot declare that a text is the id of another object, so references are recognised by their names: `scenes`, an
array of objects with a required text `id`, is referred to by a text `scene_id` or an array of texts `scene_ids` (also
`sceneId`), and by any text whose description has `scenes` between backticks.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import count, cycle
from typing import Any, NamedTuple

_BACKTICKED = re.compile(r"`(\w+)`")
_FREE = frozenset({"type", "title", "description"})
_MAX_HOPS = 8


class _Reference(NamedTuple):
    """The array whose ids are referred to, and how many of them a list needs (minItems)."""

    array: str
    least: int


def with_references(schema: Any, value: Any) -> Any:
    """`value` (which is changed) by `schema`, with ids `scene-1`, `scene-2` ... and each reference an id that exists, taken
    in turn. Where an id or a reference is more than free text (an enum, a format, a length), it stays as it is."""
    properties = list(_properties(schema))
    arrays = {name for name, items in properties if _has_ids(schema, items)}
    arrays -= {name for name, items in properties if not _has_ids(schema, items)}
    references = _references(schema, properties, arrays)
    ids = {array: _name_ids(value, array) for array in arrays}
    turns = {name: cycle(ids[reference.array]) for name, reference in references.items() if ids[reference.array]}
    for parent in _objects(value):
        for name in parent.keys() & turns.keys():
            parent[name] = _referring(parent[name], turns[name], references[name].least)
    return value


def _properties(schema: Any) -> Iterator[tuple[str, Any]]:
    """Every property declared anywhere in the schema."""
    for part in _objects(schema):
        if isinstance(declared := part.get("properties"), dict):
            yield from declared.items()


def _objects(value: Any) -> Iterator[dict[str, Any]]:
    """Every object in a JSON value, in order."""
    if isinstance(value, dict):
        yield value
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from _objects(item)


def _has_ids(root: Any, schema: Any) -> bool:
    schema = _resolved(root, schema)
    items = _resolved(root, schema.get("items"))
    declared = items.get("properties")
    return (
        isinstance(declared, dict)
        and "id" in items.get("required", ())
        and _is_free(_resolved(root, declared.get("id")))
    )


def _references(root: Any, properties: list[tuple[str, Any]], arrays: set[str]) -> dict[str, _Reference]:
    """References by property; a property that is declared twice must be the same reference in both places."""
    found: dict[str, set[_Reference | None]] = {}
    for name, declared in properties:
        found.setdefault(name, set()).add(_reference(root, name, declared, arrays))
    return {name: one for name, several in found.items() if len(several) == 1 and (one := several.pop()) is not None}


def _reference(root: Any, name: str, declared: Any, arrays: set[str]) -> _Reference | None:
    schema = _resolved(root, declared)
    least, text = 0, schema
    if "items" in schema:
        least, text = schema.get("minItems", 0), _resolved(root, schema.get("items"))
    if name in arrays or not _is_free(text):
        return None
    plain = name.replace("_", "").lower()
    for array in sorted(arrays):
        if plain in (f"{_singular(array)}id", f"{_singular(array)}ids"):
            return _Reference(array, least)
    told = {word for part in (schema, text) for word in _BACKTICKED.findall(str(part.get("description", "")))}
    named = sorted(told & arrays)
    return _Reference(named[0], least) if named and name != "id" else None


def _is_free(schema: dict[str, Any]) -> bool:
    """Whether any text conforms."""
    return schema.get("type") in ("string", ["string", "null"]) and schema.keys() <= _FREE


def _resolved(root: Any, schema: Any) -> dict[str, Any]:
    """The schema to which a `$ref` into the same document points; {} if that is not an object."""
    for _ in range(_MAX_HOPS):
        if not isinstance(schema, dict):
            return {}
        ref = schema.get("$ref")
        if not isinstance(ref, str) or not ref.startswith("#/"):
            return schema
        schema = root
        for step in ref[2:].split("/"):
            schema = schema.get(step) if isinstance(schema, dict) else None
    return {}


def _singular(name: str) -> str:
    plain = name.replace("_", "").lower()
    return f"{plain[:-3]}y" if plain.endswith("ies") else plain.removesuffix("s")


def _name_ids(value: Any, array: str) -> list[str]:
    """The ids given to the items of every array of that name."""
    numbers = count(1)
    given: list[str] = []
    for parent in _objects(value):
        items = parent.get(array)
        for item in items if isinstance(items, list) else ():
            if isinstance(item, dict):
                item["id"] = f"{_singular(array)}-{next(numbers)}"
                given.append(item["id"])
    return given


def _referring(old: Any, ids: Iterator[str], least: int) -> Any:
    """`old` with its text or texts replaced, none of them twice; null stays null."""
    if isinstance(old, str):
        return next(ids)
    if not isinstance(old, list):
        return old
    new = list(dict.fromkeys(next(ids) for _ in old))
    return new if len(new) >= least else old
