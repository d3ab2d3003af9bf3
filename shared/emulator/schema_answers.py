"""A JSON value that conforms to a schema: seeded, readable, finite. Pure.

Takes JSON Schema as Gemini does ($ref into $defs and anchors, recursion, anyOf/oneOf/allOf, type lists, enum, const, formats,
bounds, prefixItems, propertyOrdering); `from_openapi` turns a responseSchema into it. `pattern` and `not` are not obeyed.
"""

from __future__ import annotations

import math
import random
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import unquote

from .references import with_references

# Past the soft bound optional things are left out, past the hard one the schema is refused.
_SOFT_NODES = 400
_HARD_NODES = 20_000
_UNBOUNDED = 2**63
_DEEP = 8
# How often one $ref may be inside itself: once, so that a tree has branches and they end.
_NESTED_REFS = 2
_TEXT_LIMIT = 60
_UNIQUE_TRIES = 20

_EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
_NAMES_OF_TYPE = {
    "object": ("properties", "additionalProperties", "required", "propertyOrdering"),
    "array": ("items", "prefixItems", "minItems", "maxItems"),
    "number": ("minimum", "maximum"),
}


class Unsatisfiable(Exception):
    """No value can conform, or the schema does not make sense."""


class TooComplex(Exception):
    """A conforming value would be larger than a serving system allows."""


class _Endless(Exception):
    """This branch of a recursive schema does not end; an optional one is left out."""


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
        if "const" in schema:
            return schema["const"]
        if options := schema.get("enum"):
            return self._rng.choice([option for option in options if option is not None] or options)
        for word in ("anyOf", "oneOf"):
            if word in schema:
                return self._branch(schema, word, name, refs, depth)
        kind = _kind(schema)
        writer = self._writers.get(kind)
        if writer is None:
            raise Unsatisfiable(f"there is no type {kind!r}")
        return writer(schema, name, refs, depth)

    def _flat(self, schema: dict[str, Any], refs: tuple[str, ...]) -> tuple[dict[str, Any], tuple[str, ...]]:
        """The schema with its $ref followed and its allOf merged in."""
        while "$ref" in schema or "allOf" in schema:
            ref = schema.get("$ref")
            parts: list[Any] = list(schema.get("allOf", ()))
            schema = {name: item for name, item in schema.items() if name not in ("$ref", "allOf")}
            if ref is not None:
                if refs.count(ref) >= _NESTED_REFS:
                    raise _Endless
                refs = (*refs, ref)
                parts.insert(0, self._referred(ref))
            for part in parts:
                if isinstance(part, dict):
                    schema = _merged(part, schema)
                elif part is not True:
                    raise Unsatisfiable("the schema allows nothing")
        return schema, refs

    def _referred(self, ref: Any) -> Any:
        if not isinstance(ref, str) or not ref.startswith("#"):
            raise Unsatisfiable(f"cannot follow $ref {ref!r}")
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
        pending = [root]
        while pending:
            node = pending.pop()
            if isinstance(node, dict):
                if node.get("$anchor") == anchor:
                    return node
                pending.extend(node.values())
            elif isinstance(node, list):
                pending.extend(node)
        raise Unsatisfiable(f"there is no #{anchor}")

    def _branch(self, schema: dict[str, Any], word: str, name: str, refs: tuple[str, ...], depth: int) -> Any:
        """One of the alternatives, chosen by the seed among those that end; null only when nothing else does."""
        options = list(schema[word]) if isinstance(schema[word], list) else []
        base = {key: item for key, item in schema.items() if key != word}
        self._rng.shuffle(options)
        options.sort(key=lambda option: isinstance(option, dict) and option.get("type") == "null")
        failure: Exception = Unsatisfiable(f"{word} has no alternative")
        for option in options:
            try:
                merged = _merged(base, option) if isinstance(option, dict) else option
                return self.value(merged, name, refs, depth)
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
        missing = [key for key in required if key not in properties]
        few = _count(schema, "minProperties", 2 if isinstance(extra, dict) and not properties else 0)
        few = min(few, _count(schema, "maxProperties", _UNBOUNDED))
        if few > _HARD_NODES:
            raise TooComplex("the schema asks for too many properties")
        missing += [f"{name}_{number}" for number in range(1, few - len(result) - len(missing) + 1)]
        for key in missing:
            result[key] = self.value(extra, key, refs, depth + 1)
        return result

    def _array(self, schema: dict[str, Any], name: str, refs: tuple[str, ...], depth: int) -> list[Any]:
        least, most = _count(schema, "minItems", 0), _count(schema, "maxItems", _UNBOUNDED)
        if least > most:
            raise Unsatisfiable("minItems is more than maxItems")
        prefix = list(schema.get("prefixItems", ()))[:most]
        items = schema.get("items", not prefix)
        wanted = max(least, len(prefix) if prefix else min(2, most))
        result = [self.value(item, name, refs, depth + 1) for item in prefix]
        unique = schema.get("uniqueItems") is True
        while len(result) < wanted:
            optional = len(result) >= least
            if optional and (items is False or self._nodes > _SOFT_NODES or depth > _DEEP):
                break
            try:
                item = self._item(items, f"{name} {len(result) + 1}", refs, depth + 1, result if unique else [])
            except (_Endless, Unsatisfiable):
                if optional:
                    break
                raise
            result.append(item)
        return result

    def _item(self, schema: Any, name: str, refs: tuple[str, ...], depth: int, others: list[Any]) -> Any:
        for _ in range(_UNIQUE_TRIES):
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
            # picked * 0.01 has noise in its last digits; dividing by 100 has not.
            value: float = picked / 100 if step == 0.01 else picked * step
            return value if low <= value <= high else low
        if whole or "multipleOf" in schema or low > high:
            raise Unsatisfiable("no number is within the bounds")
        return (low + high) / 2

    def _string(self, schema: dict[str, Any], name: str, *_: Any) -> str:
        least, most = _count(schema, "minLength", 0), _count(schema, "maxLength", 1_000_000)
        if least > most or least > 1_000_000:
            raise Unsatisfiable("no text has such a length")
        text = self._formatted(schema.get("format"))
        if text is not None:
            return text
        label = name.replace("_", " ").replace("-", " ").strip() or "text"
        text = f"Offline {label} no. {self._rng.randint(1, 99)}"
        if self._topic and most >= _TEXT_LIMIT:
            text += f" for “{self._topic}”"
        return text[:most].ljust(least, ".")

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


def _merged(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """Both schemas at once: `over` wins, names of properties and of required ones add up."""
    result = {**base, **over}
    if "properties" in base and "properties" in over:
        result["properties"] = {**base["properties"], **over["properties"]}
    if "required" in base and "required" in over:
        result["required"] = [*base["required"], *(key for key in over["required"] if key not in base["required"])]
    for word in ("anyOf", "oneOf"):
        if word in base and word in over:
            result["allOf"] = [*result.get("allOf", ()), {word: base[word]}]
    return result


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
