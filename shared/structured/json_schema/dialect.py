"""Rewrites keywords of related dialects (OpenAPI 3.0, draft 4) as JSON Schema for Gemini. Pure.

`nullable: true` becomes "null" in the list of types and in the enum, or one more schema under anyOf. If neither is enough, the
schema moves under an anyOf, and references into it are changed. `exclusiveMinimum: true` becomes a number. The local check
reads the original keywords (validation.py), so its pointers refer to the caller's document.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple
from urllib.parse import quote, unquote

from shared.generation import JsonObject
from shared.structured.json_schema.wording import escaped

EXCLUSIVE = {"exclusiveMinimum": "minimum", "exclusiveMaximum": "maximum"}
"""Numbers in JSON Schema; in draft 4 booleans that make the named bound exclusive."""
_NULL: JsonObject = {"type": "null"}
_APPLY = {"$ref", "$dynamicRef", "allOf", "anyOf", "oneOf", "not", "if"}
"""Keywords besides type, enum and const that can reject null."""
_STAYS = {"$id", "$anchor", "$dynamicAnchor", "$schema", "$comment", "$defs", "definitions", "title", "description"}
_STAYS |= {"default", "examples", "example", "deprecated", "readOnly", "writeOnly", "propertyOrdering"}
"""Keywords that do not move with a schema: annotations and the targets of references."""


class Reference(NamedTuple):
    """A `$ref` or `$dynamicRef` that is a JSON pointer. All pointers refer to the caller's document."""

    pointer: str
    """Pointer of the schema that contains the reference."""
    word: str
    base: str
    """Pointer of the schema whose `$id` is the base of the reference; "" if there is none."""


def is_foreign(schema: JsonObject) -> bool:
    """Whether a schema has a keyword of another dialect, which Gemini would misread."""
    return "nullable" in schema or any(isinstance(schema.get(word), bool) for word in EXCLUSIVE)


def rewritten(document: JsonObject, pointers: Iterable[str], references: Iterable[Reference]) -> JsonObject:
    """A copy in which the foreign schemas at `pointers` are replaced by equivalent JSON Schema."""
    copy: JsonObject = _copied(document)
    found = [(pointer, schema) for pointer in pointers if isinstance(schema := _at(copy, pointer), dict)]
    moves = {pointer + old: pointer + new for pointer, schema in found for old, new in _moves(schema)}
    if moves:
        for reference in references:
            _redirect(copy, reference, moves)
    for _, schema in sorted(found, key=lambda item: len(item[0]), reverse=True):
        _rewrite(schema)
    return copy


def _rewrite(schema: JsonObject) -> None:
    for word, bound in EXCLUSIVE.items():
        if isinstance(schema.get(word), bool):
            # The inclusive bound stays, because Gemini supports only that one.
            is_exclusive = schema.pop(word)
            if is_exclusive and bound in schema:
                schema[word] = schema[bound]
    if schema.pop("nullable", False):
        form = _form(schema)
        if form == "wrap":
            _wrap(schema)
        else:
            _admit_null(schema)
            if form in ("anyOf", "oneOf") and _NULL not in schema[form]:
                schema[form] = [*schema[form], dict(_NULL)]


def _form(schema: JsonObject) -> str:
    """How null is allowed: by "values" (type, enum, const), by one more schema under "anyOf" or "oneOf", or by "wrap"."""
    applying = _APPLY & schema.keys()
    if not applying and (schema.keys() & {"type", "enum", "const"} or schema.keys() <= _STAYS | {"nullable"}):
        return "values"
    if applying == {"anyOf"}:
        return "anyOf"
    if applying == {"oneOf"} and all(_rejects_null(option) for option in schema["oneOf"]):
        return "oneOf"
    return "wrap"


def _rejects_null(schema: Any) -> bool:
    if not isinstance(schema, dict) or schema.get("nullable") is True:
        return False
    types = schema.get("type", "null")
    return "null" not in ([types] if isinstance(types, str) else types) or None not in schema.get("enum", [None])


def _admit_null(schema: JsonObject) -> None:
    types = schema.get("type")
    if types is not None:
        names = [types] if isinstance(types, str) else types
        schema["type"] = names if "null" in names else [*names, "null"]
    if "const" in schema and schema["const"] is not None:
        value = schema.pop("const")
        schema["enum"] = [value] if "enum" not in schema or value in schema["enum"] else []
    if "enum" in schema and None not in schema["enum"]:
        schema["enum"] = [*schema["enum"], None]


def _wrap(schema: JsonObject) -> None:
    inner = {word: value for word, value in schema.items() if word not in _STAYS}
    for word in inner:
        del schema[word]
    schema["anyOf"] = [inner["allOf"][0] if _is_one_part(inner) else inner, dict(_NULL)]


def _is_one_part(inner: JsonObject) -> bool:
    """OpenAPI 3.0 needs `{"allOf": [{"$ref": ...}], "nullable": true}`, because it ignores keywords beside a `$ref`."""
    return inner.keys() == {"allOf"} and len(inner["allOf"]) == 1


def _moves(schema: JsonObject) -> list[tuple[str, str]]:
    """(old, new) pointers, relative to the schema, of the parts that `_wrap` moves."""
    if schema.get("nullable") is not True or _form(schema) != "wrap":
        return []
    inner = {word: value for word, value in schema.items() if word not in _STAYS and word != "nullable"}
    if _is_one_part(inner):
        return [("/allOf/0", "/anyOf/0")]
    return [(f"/{escaped(word)}", f"/anyOf/0/{escaped(word)}") for word in inner]


def _redirect(copy: JsonObject, reference: Reference, moves: dict[str, str]) -> None:
    schema = _at(copy, reference.pointer)
    if not isinstance(schema, dict) or not isinstance(schema.get(reference.word), str):
        return
    target = reference.base + unquote(schema[reference.word][1:])
    moved, base = _moved(target, moves), _moved(reference.base, moves)
    if moved != target:
        schema[reference.word] = "#" + quote(moved.removeprefix(base), safe="/~$")


def _moved(pointer: str, moves: dict[str, str]) -> str:
    """The new pointer after all moves. Each prefix is looked up once, so the time does not depend on the number of moves.

    Long prefixes come first, because an outer move leaves the rest of the pointer unchanged."""
    result = around = pointer
    while around:
        if around in moves:
            result = moves[around] + result[len(around) :]
        around = around.rpartition("/")[0]
    return result


def _at(document: Any, pointer: str) -> Any:
    """The value at a JSON pointer; None if there is none."""
    for step in pointer.split("/")[1:]:
        name = step.replace("~1", "/").replace("~0", "~")
        if isinstance(document, dict):
            document = document.get(name)
        elif isinstance(document, list) and name.isdigit() and int(name) < len(document):
            document = document[int(name)]
        else:
            return None
    return document


def _copied(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _copied(item) for name, item in value.items()}
    return [_copied(item) for item in value] if isinstance(value, list) else value
