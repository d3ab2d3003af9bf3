"""A JSON value that conforms to a schema: seeded, readable, finite. Pure.

Takes JSON Schema as Gemini does ($ref to $defs, anchors and ids, recursion, anyOf/oneOf/allOf, type lists, enum, const,
formats, bounds, prefixItems, contains, if/then, dependencies, propertyOrdering), draft-07's lists of items too; `from_openapi`
turns a responseSchema into it. README.md lists the exceptions.
"""

from __future__ import annotations

import math
import random
import re
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import unquote, urljoin

from .references import with_references
from .schema_merging import Unsatisfiable, keeps_bounds, merged, modern, same

# Above the soft bound optional values are left out; above the hard bound the schema is rejected.
_SOFT_NODES = 400
_HARD_NODES = 20_000
_UNBOUNDED = 2**63
_DEEP = 8
# How often one $ref may contain itself: once, so that a tree has branches, and the branches end.
_NESTED_REFS = 2
_TEXT_LIMIT = 60
_TRIES = 20
_FLATTENED = {"$ref", "$dynamicRef", "allOf", "dependentSchemas", "dependencies"}

_EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
_NAMES_OF_TYPE = {
    "object": ("properties", "additionalProperties", "required", "propertyOrdering"),
    "array": ("items", "prefixItems", "minItems", "maxItems"),
    "number": ("minimum", "maximum"),
}


class TooComplex(Exception):
    """A conforming value would be larger than a serving system allows."""


class _Endless(Exception):
    """A branch of a recursive schema does not end. An optional branch is then left out."""


def value_for(schema: Any, seed: int, topic: str = "") -> Any:
    """A value for a JSON Schema. Texts mention `topic`. Raises Unsatisfiable or TooComplex."""
    writer = _Writer(schema, random.Random(seed), topic)
    try:
        return with_references(schema, writer.value(schema, "answer", (), 0))
    except _Endless:
        raise Unsatisfiable("the schema refers to itself in a required place") from None
    except RecursionError:
        raise TooComplex("the schema is nested too deeply") from None


def from_openapi(schema: dict[str, Any]) -> dict[str, Any]:
    """A normalised OpenAPI Schema message (upper-case types, nullable) as JSON Schema."""
    result = {name: value for name, value in schema.items() if name not in ("type", "nullable", "example", "default")}
    kind = schema.get("type", "").lower()
    if kind and kind != "type_unspecified":
        result["type"] = [kind, "null"] if schema.get("nullable") and kind != "null" else kind
    if "items" in schema:
        result["items"] = from_openapi(schema["items"])
    if "properties" in schema:
        result["properties"] = {name: from_openapi(item) for name, item in schema["properties"].items()}
    if "anyOf" in schema:
        result["anyOf"] = [from_openapi(item) for item in schema["anyOf"]]
    if not result.get("enum"):
        result.pop("enum", None)
    return result


class _Writer:
    def __init__(self, root: Any, rng: random.Random, topic: str) -> None:
        self._root = root
        self._rng = rng
        self._topic = topic
        self._nodes = 0
        self._writers: dict[str, Callable[[dict[str, Any], str, tuple[str, ...], int], Any]] = {
            "object": self._object,
            "array": self._array,
            "string": self._string,
            "integer": self._number,
            "number": self._number,
            "boolean": lambda *_: self._rng.random() < 0.5,
            "null": lambda *_: None,
        }

    def value(self, schema: Any, name: str, refs: tuple[str, ...], depth: int) -> Any:
        self._nodes += 1
        if self._nodes > _HARD_NODES:
            raise TooComplex("the schema asks for too many values")
        if schema is False:
            raise Unsatisfiable("the schema allows nothing")
        if schema is True:
            schema = {"type": "string"}
        if not isinstance(schema, dict):
            raise Unsatisfiable("a schema must be an object or a boolean")
        schema, refs = self._flat(schema, refs)
        refused = _refused(schema)
        for _ in range(_TRIES):
            value = self._of_flat(schema, name, refs, depth)
            if not any(same(value, other) for other in refused):
                return value
        raise Unsatisfiable("what the schema allows, `not` refuses")

    def _of_flat(self, schema: dict[str, Any], name: str, refs: tuple[str, ...], depth: int) -> Any:
        if "if" in schema:
            return self._condition(schema, name, refs, depth)
        for word in ("anyOf", "oneOf"):
            if word in schema:
                return self._branch(schema, word, name, refs, depth)
        if "const" in schema or "enum" in schema:
            return self._one_of_few(schema)
        kind = _kind(schema)
        writer = self._writers.get(kind)
        if writer is None:
            raise Unsatisfiable(f"there is no type {kind!r}")
        return writer(schema, name, refs, depth)

    def _one_of_few(self, schema: dict[str, Any]) -> Any:
        options = schema.get("enum", [schema.get("const")])
        if "const" in schema:
            options = [option for option in options if same(option, schema["const"])]
        options = [option for option in options if keeps_bounds(option, schema)]
        if not options:
            raise Unsatisfiable("no value of the enum is allowed")
        return self._rng.choice([option for option in options if option is not None] or options)

    def _flat(self, schema: dict[str, Any], refs: tuple[str, ...]) -> tuple[dict[str, Any], tuple[str, ...]]:
        """The schema with its $ref resolved and its allOf merged in."""
        while not schema.keys().isdisjoint(_FLATTENED):
            ref = schema.get("$ref", schema.get("$dynamicRef"))
            parts: list[Any] = list(schema.get("allOf", ()))
            # Nearly every declared property is written, so its dependencies are required from the beginning.
            parts += [part for name, part in _dependent(schema) if name in schema.get("properties", ())]
            schema = {name: item for name, item in schema.items() if name not in _FLATTENED}
            if ref is not None:
                if refs.count(ref) >= _NESTED_REFS:
                    raise _Endless
                refs = (*refs, ref)
                parts.insert(0, self._referred(ref))
            schema = modern(schema)
            for part in parts:
                if isinstance(part, dict):
                    schema = merged(part, schema)
                elif part is not True:
                    raise Unsatisfiable("the schema allows nothing")
        return modern(schema), refs

    def _referred(self, ref: Any) -> Any:
        if not isinstance(ref, str):
            raise Unsatisfiable(f"cannot follow $ref {ref!r}")
        if not ref.startswith("#"):
            return self._identified(ref)
        pointer = unquote(ref[1:])
        if pointer and not pointer.startswith("/"):
            return self._anchored(self._root, pointer)
        node = self._root
        for step in pointer.split("/")[1:]:
            step = step.replace("~1", "/").replace("~0", "~")
            try:
                node = node[int(step)] if isinstance(node, list) else node[step]
            except (KeyError, IndexError, ValueError, TypeError):
                raise Unsatisfiable(f"there is no {ref}") from None
        return node

    def _anchored(self, root: Any, anchor: str) -> Any:
        for node in _objects(root):
            if anchor in (node.get("$anchor"), node.get("$dynamicAnchor")) or node.get("$id") == f"#{anchor}":
                return node
        raise Unsatisfiable(f"there is no #{anchor}")

    def _identified(self, ref: str) -> Any:
        base = str(self._root.get("$id", "")) if isinstance(self._root, dict) else ""
        for node in _objects(self._root):
            if isinstance(node.get("$id"), str) and urljoin(base, node["$id"]) == urljoin(base, ref):
                return node
        raise Unsatisfiable(f"cannot follow $ref {ref!r}")

    def _condition(self, schema: dict[str, Any], name: str, refs: tuple[str, ...], depth: int) -> Any:
        """A value by `if` and `then`, or by `else` if no value conforms to these. `else` is used without evaluating `if`."""
        base = {key: item for key, item in schema.items() if key not in ("if", "then", "else")}
        try:
            return self.value({"allOf": [base, schema["if"], schema.get("then", True)]}, name, refs, depth)
        except (_Endless, Unsatisfiable):
            return self.value({"allOf": [base, schema.get("else", True)]}, name, refs, depth)

    def _branch(self, schema: dict[str, Any], word: str, name: str, refs: tuple[str, ...], depth: int) -> Any:
        """One of the alternatives, chosen by the seed among those that end; null only if no other one ends."""
        options = list(schema[word]) if isinstance(schema[word], list) else []
        base = {key: item for key, item in schema.items() if key != word}
        self._rng.shuffle(options)
        options.sort(key=lambda option: isinstance(option, dict) and option.get("type") == "null")
        failure: Exception = Unsatisfiable(f"{word} has no alternative")
        for option in options:
            try:
                whole = merged(base, option) if isinstance(option, dict) else option
                return self.value(whole, name, refs, depth)
            except (_Endless, Unsatisfiable) as error:
                failure = error
        raise failure

    def _object(self, schema: dict[str, Any], name: str, refs: tuple[str, ...], depth: int) -> dict[str, Any]:
        properties = schema.get("properties", {})
        required = schema.get("required", [])
        ordered = [key for key in schema.get("propertyOrdering", ()) if key in properties]
        ordered += [key for key in properties if key not in ordered]
        result: dict[str, Any] = {}
        for key in ordered:
            if key in required:
                result[key] = self.value(properties[key], key, refs, depth + 1)
            elif self._nodes < _SOFT_NODES and depth < _DEEP:
                try:
                    result[key] = self.value(properties[key], key, refs, depth + 1)
                except (_Endless, Unsatisfiable):
                    continue
        extra = schema.get("additionalProperties", True)
        names = list(dict.fromkeys([*result, *required]))
        for name_there in names:
            needed = schema.get("dependentRequired", {}).get(name_there, ())
            names += [key for key in needed if key not in names]
        missing = [key for key in names if key not in result]
        few = _count(schema, "minProperties", 2 if isinstance(extra, dict) and not properties else 0)
        few = min(few, _count(schema, "maxProperties", _UNBOUNDED))
        if few > _HARD_NODES:
            raise TooComplex("the schema asks for too many properties")
        missing += [f"{name}_{number}" for number in range(1, few - len(result) - len(missing) + 1)]
        for key in missing:
            fitting = [part for pattern, part in schema.get("patternProperties", {}).items() if _fits(pattern, key)]
            whole = {"allOf": fitting} if fitting else properties.get(key, extra)
            result[key] = self.value(whole, key, refs, depth + 1)
        return result

    def _array(self, schema: dict[str, Any], name: str, refs: tuple[str, ...], depth: int) -> list[Any]:
        least, most = _count(schema, "minItems", 0), _count(schema, "maxItems", _UNBOUNDED)
        if least > most:
            raise Unsatisfiable("minItems is more than maxItems")
        prefix = list(schema.get("prefixItems", ()))[:most]
        items = schema.get("items", False if prefix and least <= len(prefix) else schema.get("unevaluatedItems", True))
        contained = _count(schema, "minContains", 1) if "contains" in schema else 0
        wanted = max(least, len(prefix) + contained if prefix or contained else min(2, most))
        unique = schema.get("uniqueItems") is True
        result: list[Any] = []
        for item in prefix:
            result.append(self._item(item, name, refs, depth + 1, result if unique else []))
        while len(result) < wanted:
            optional = len(result) >= least and not contained
            if optional and (items is False or self._nodes > _SOFT_NODES or depth > _DEEP):
                break
            one = {"allOf": [items, schema["contains"]]} if contained else items
            contained = max(contained - 1, 0)
            try:
                item = self._item(one, f"{name} {len(result) + 1}", refs, depth + 1, result if unique else [])
            except (_Endless, Unsatisfiable):
                if optional:
                    break
                raise
            result.append(item)
        return result

    def _item(self, schema: Any, name: str, refs: tuple[str, ...], depth: int, others: list[Any]) -> Any:
        for _ in range(_TRIES):
            item = self.value(schema, name, refs, depth)
            if item not in others:
                return item
        raise Unsatisfiable("there are not enough different items")

    def _number(self, schema: dict[str, Any], *_: Any) -> int | float:
        whole = _kind(schema) == "integer"
        low, high = _bound(schema, "minimum", "exclusiveMinimum"), _bound(schema, "maximum", "exclusiveMaximum")
        step: float = schema.get("multipleOf", 1 if whole else 0.01)
        if low is None:
            low = 1.0 if high is None or high >= 1 else high - 99
        if high is None:
            high = low + max(99, 2 * step)
        first, last = math.ceil(low / step), math.floor(high / step)
        if first <= last:
            picked = self._rng.randint(first, last)
            if whole:
                return round(picked * step)
            # picked * 0.01 has rounding errors in its last digits; dividing by 100 has none.
            value: float = picked / 100 if step == 0.01 else picked * step
            return value if low <= value <= high else low
        if whole or "multipleOf" in schema or low > high:
            raise Unsatisfiable("no number is within the bounds")
        return (low + high) / 2

    def _string(self, schema: dict[str, Any], name: str, *_: Any) -> str:
        least, most = _count(schema, "minLength", 0), _count(schema, "maxLength", 1_000_000)
        if least > most or least > 1_000_000:
            raise Unsatisfiable("no text has such a length")
        if "pattern" in schema:
            return self._example(schema)
        text = self._formatted(schema.get("format"))
        if text is not None:
            return text
        label = name.replace("_", " ").replace("-", " ").strip() or "text"
        text = f"Offline {label} no. {self._rng.randint(1, 99)}"
        if self._topic and most >= _TEXT_LIMIT:
            text += f" for “{self._topic}”"
        return text[:most].ljust(least, ".")

    def _example(self, schema: dict[str, Any]) -> str:
        """A text that matches a pattern: one of the schema's own examples, or a short generated text."""
        given = [*schema.get("examples", ()), schema.get("default")]
        fitting = [text for text in given if isinstance(text, str) and _fits(schema["pattern"], text, unknown=True)]
        if fitting:
            return str(self._rng.choice(fitting))
        text = f"Offline text no. {self._rng.randint(1, 99)}"
        return text if _fits(schema["pattern"], text) else f"{self._rng.randint(10_000, 99_999)}"

    def _formatted(self, form: Any) -> str | None:
        """A text of a known format, or None."""
        if not isinstance(form, str):
            return None
        moment = _EPOCH + timedelta(seconds=self._rng.randint(0, 364 * 86_400))
        number = self._rng.randint(1, 250)
        return {
            "date-time": moment.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "date": moment.strftime("%Y-%m-%d"),
            "time": moment.strftime("%H:%M:%SZ"),
            "duration": f"PT{number}S",
            "email": f"person{number}@example.com",
            "hostname": f"host{number}.example.com",
            "ipv4": f"192.0.2.{number}",
            "ipv6": f"2001:db8::{number:x}",
            "uri": f"https://example.com/{number}",
            "url": f"https://example.com/{number}",
            "uuid": str(uuid.UUID(int=self._rng.getrandbits(128), version=4)),
        }.get(form)


def _kind(schema: dict[str, Any]) -> str:
    kind = schema.get("type")
    if isinstance(kind, list):
        kind = next((item for item in kind if item != "null"), "null")
    if kind is not None:
        return str(kind)
    return next((name for name, words in _NAMES_OF_TYPE.items() if any(word in schema for word in words)), "string")


def _objects(root: Any) -> Iterator[dict[str, Any]]:
    """Every object in a schema, from the outermost on."""
    level = [root]
    while level:
        yield from (node for node in level if isinstance(node, dict))
        inner = [node.values() if isinstance(node, dict) else node for node in level if isinstance(node, dict | list)]
        level = [item for items in inner for item in items]


def _dependent(schema: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """(property, its dependency); draft-07 has lists and schemas under one keyword."""
    yield from schema.get("dependentSchemas", {}).items()
    for name, part in schema.get("dependencies", {}).items():
        yield name, {"required": part} if isinstance(part, list) else part


def _refused(schema: dict[str, Any]) -> list[Any]:
    refused = schema.get("not")
    if not isinstance(refused, dict) or not refused.keys() <= {"const", "enum", "type"}:
        return []
    return [refused["const"]] if "const" in refused else list(refused.get("enum", ()))


def _count(schema: dict[str, Any], name: str, default: int) -> int:
    value = schema.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
        raise Unsatisfiable(f"{name} must be a count")
    return int(value)


def _bound(schema: dict[str, Any], name: str, exclusive: str) -> float | None:
    bounds = [schema[key] for key in (name, exclusive) if key in schema]
    if not bounds:
        return None
    if any(isinstance(bound, bool) or not isinstance(bound, int | float) for bound in bounds):
        raise Unsatisfiable(f"{name} must be a number")
    pick = max if name == "minimum" else min
    bound = float(pick(bounds))
    if schema.get(exclusive) == bound:
        nudge = 1.0 if _kind(schema) == "integer" else max(abs(bound) * 1e-6, 0.01)
        bound += nudge if name == "minimum" else -nudge
    return bound


def _fits(pattern: str, text: str, *, unknown: bool = False) -> bool:
    """`unknown`: the result for a pattern that Python does not support. ECMA-262 has syntax of its own, such as \\p{L}."""
    try:
        return re.search(pattern, text) is not None
    except re.error:
        return unknown
