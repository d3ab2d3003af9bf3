"""Reads a JSON Schema once: the shape of every keyword, every reference and every pattern. Pure.

The table of shapes follows the metaschemas (json-schema.org/draft/2020-12/schema, draft-07) and has an error message for each
rule. Validating against the metaschema itself takes 20 ms for 5 KB, 30 times as long; a test compares the two.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

from shared.errors import json_type
from shared.generation import JsonObject
from shared.structured.json_schema.dialect import EXCLUSIVE, Reference, is_foreign
from shared.structured.json_schema.numbers import is_integer, is_number
from shared.structured.json_schema.patterns import Patterns
from shared.structured.json_schema.wording import escaped

_DRAFTS = {
    "https://json-schema.org/draft/2020-12/schema": "2020-12",
    "http://json-schema.org/draft-07/schema": "draft-07",
    "https://json-schema.org/draft-07/schema": "draft-07",
}
MAX_POINTER_CHARS = 4_000_000
"""Maximum characters of the pointers to all subschemas and patterns together. Thousands of schemas under one long name would
take gigabytes."""
MAX_SCHEMAS = 10_000
"""Maximum number of subschemas. Reading one takes 12 us; generated schemas have a few hundred."""
TYPES = ("array", "boolean", "integer", "null", "number", "object", "string")


class InvalidSchema(Exception):
    """A schema is invalid. `rule` continues a sentence: "json_schema at /type" must be ..."""

    def __init__(self, pointer: str, rule: str) -> None:
        super().__init__(pointer, rule)
        self.pointer = pointer
        self.rule = rule


class Target(NamedTuple):
    """The target of a $ref: a schema of this document, and the resolver for its own references."""

    schema: Any
    resolver: Any


def _is_count(value: Any) -> bool:
    # A Decimal is a whole number only if it has thousands of digits.
    return isinstance(value, int | float) and is_integer(value) and value >= 0


def _are_names(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(name, str) for name in value) and len(set(value)) == len(value)


def _is_type(value: Any) -> bool:
    names = value if isinstance(value, list) else [value]
    return bool(names) and _are_names(names) and set(names) <= set(TYPES)


def _matches(pattern: str) -> Callable[[Any], bool]:
    compiled = re.compile(pattern)
    return lambda value: isinstance(value, str) and compiled.search(value) is not None


_COUNT = (_is_count, "must be a whole number from 0")
_NUMBER = (is_number, "must be a number")
_TEXT = (lambda value: isinstance(value, str), "must be a string")
_FLAG = (lambda value: isinstance(value, bool), "must be true or false")
_LIST = (lambda value: isinstance(value, list), "must be a list")
_ANCHOR = (_matches(r"^[A-Za-z_][-A-Za-z0-9._]*$"), "must be a name: a letter or _, then letters, digits, - . _")
_DEPENDENT = (
    lambda value: isinstance(value, dict) and all(_are_names(names) for names in value.values()),
    "must be an object whose values are lists of unique strings",
)
_SHAPES: dict[str, tuple[Callable[[Any], bool], str]] = {
    **dict.fromkeys(("minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties"), _COUNT),
    **dict.fromkeys(("minimum", "maximum"), _NUMBER),
    **dict.fromkeys(EXCLUSIVE, (lambda value: is_number(value) or isinstance(value, bool), "must be a number")),
    **dict.fromkeys(("$ref", "$comment", "$schema", "title", "description", "format", "pattern"), _TEXT),
    **dict.fromkeys(("contentMediaType", "contentEncoding"), _TEXT),
    **dict.fromkeys(("readOnly", "writeOnly", "uniqueItems", "nullable"), _FLAG),
    **dict.fromkeys(("enum", "examples"), _LIST),
    "required": (_are_names, "must be a list of unique strings: names of properties, on the object that has them"),
    "type": (_is_type, f"must be one of {', '.join(TYPES)}, in lower case, or a list of unique ones"),
    "multipleOf": (lambda value: is_number(value) and value > 0, "must be a number above 0"),
}
_SHAPES_OF = {
    "2020-12": {
        **_SHAPES,
        **dict.fromkeys(("minContains", "maxContains"), _COUNT),
        **dict.fromkeys(("$anchor", "$dynamicAnchor"), _ANCHOR),
        "$dynamicRef": _TEXT,
        "$id": (_matches(r"^[^#]*#?$"), "must be a URI without a fragment"),
        "$vocabulary": (
            lambda value: isinstance(value, dict) and all(isinstance(flag, bool) for flag in value.values()),
            "must be an object of true and false",
        ),
        "deprecated": _FLAG,
        "dependentRequired": _DEPENDENT,
    },
    "draft-07": {**_SHAPES, "$id": _TEXT},
}
# Keywords with subschemas: as their value, as each entry of a list, as each property of an object.
_ONE = {"additionalProperties", "contains", "else", "if", "items", "not", "propertyNames", "then"}
_SEVERAL = {"allOf", "anyOf", "oneOf"}
_NAMED = {"definitions", "dependencies", "patternProperties", "properties"}
_PLACES = {
    "2020-12": (
        _ONE | {"contentSchema", "unevaluatedItems", "unevaluatedProperties"},
        _SEVERAL | {"prefixItems"},
        _NAMED | {"$defs", "dependentSchemas"},
    ),
    "draft-07": (_ONE | {"additionalItems"}, _SEVERAL, _NAMED),
}


def _of_boolean(schema: bool) -> JsonObject:
    """The equivalent object, so that every subschema is an object."""
    return {} if schema else {"not": {}}


def _draft(schema: JsonObject, pointer: str = "", default: str = "2020-12") -> str:
    named = schema.get("$schema")
    if named is None:
        return default
    draft = _DRAFTS.get(named.rstrip("#")) if isinstance(named, str) else None
    if draft is None:
        raise InvalidSchema(
            f"{pointer}/$schema", f"must name {' or '.join(list(_DRAFTS)[:2])}; or leave it out (2020-12)"
        )
    return draft


class Document:
    """Changes `root`: booleans become objects, lists under `dependencies` become schemas, `$schema` is removed.

    Raises InvalidSchema."""

    def __init__(self, root: JsonObject) -> None:
        from referencing import Registry
        from referencing.jsonschema import DRAFT7, DRAFT202012

        self.root = root
        self.draft = _draft(root)
        self.patterns = Patterns()
        self.targets: dict[int, Target] = {}
        """Target of each $ref, by the id() of the schema that contains it."""
        self._shapes = _SHAPES_OF[self.draft]
        self._one, self._several, self._named = _PLACES[self.draft]
        self._references = {"$ref", "$dynamicRef"} if self.draft == "2020-12" else {"$ref"}
        self.pointers: dict[int, str] = {}
        """JSON pointer of each schema, by its id()."""
        self.foreign: list[str] = []
        """Pointers of the schemas with keywords of a neighbouring dialect (dialect.py)."""
        self.local_references: list[Reference] = []
        """References that are JSON pointers."""
        self.unsearched: list[tuple[str, JsonObject]] = []
        """(pointer of the pattern, its schema) for each pattern that the local check skips."""
        self.children: dict[int, list[JsonObject]] = {}
        self.schemas: list[JsonObject] = []
        self._pointer_chars = 0
        self.dynamic_anchors: dict[str, list[JsonObject]] = {}
        """The schemas with a $dynamicAnchor, by its name."""
        self._dynamic_targets: dict[int, JsonObject] = {}

        specification = DRAFT202012 if self.draft == "2020-12" else DRAFT7
        resource = specification.create_resource(root)
        found = list(self._read(root, ""))
        self.base = resource.id() or ""
        try:
            self.registry = Registry().with_resource(self.base, resource).crawl()
        except ValueError as error:
            raise InvalidSchema("", f"has a $id that is not a URI ({error})") from None
        self._create_resource = specification.create_resource
        self._follow(found)
        self.dynamic = bool(self._dynamic_targets)
        """Whether the target of a reference can depend on the path to it ($dynamicRef)."""

    def effective(self, schema: JsonObject) -> JsonObject:
        """The keywords that apply: in draft-07 a $ref replaces all keywords beside it."""
        if self.draft == "draft-07" and "$ref" in schema:
            return {"$ref": schema["$ref"]}
        return schema

    def _read(self, root: JsonObject, pointer: str) -> Iterator[tuple[JsonObject, str, JsonObject | None]]:
        """Yields (schema, pointer, parent) for this schema and all in it, parents first."""
        pending: list[tuple[JsonObject, str, JsonObject | None]] = [(root, pointer, None)]
        while pending:
            schema, pointer, parent = pending.pop()
            if id(schema) in self.pointers:
                continue
            self.pointers[id(schema)] = pointer
            self.schemas.append(schema)
            if len(self.schemas) > MAX_SCHEMAS:
                raise InvalidSchema(pointer, f"exceeds the maximum of {MAX_SCHEMAS} schemas in a document; simplify it")
            children = self.children[id(schema)] = []
            places = []
            for place in self._places(schema, pointer):
                self._count(place[2])
                places.append(place)
            self._check(schema, pointer)
            for holder, key, where in places:
                child = holder[key]
                if isinstance(child, bool):
                    child = holder[key] = _of_boolean(child)
                if not isinstance(child, dict):
                    is_tuple = key == "items" and isinstance(child, list)
                    hint = "; use prefixItems, or name draft-07 in $schema" if is_tuple else ""
                    raise InvalidSchema(
                        where, f"must be a schema (an object, true or false), not {json_type(child)}{hint}"
                    )
                children.append(child)
                pending.append((child, where, schema))
            yield schema, pointer, parent

    def _count(self, pointer: str) -> None:
        """Raises InvalidSchema if all pointers together have too many characters."""
        self._pointer_chars += len(pointer)
        if self._pointer_chars > MAX_POINTER_CHARS:
            most = f"{MAX_POINTER_CHARS} characters"
            raise InvalidSchema(
                "", f"has names so long that the pointers to its schemas exceed {most}; shorten the names"
            )

    def _places(self, schema: JsonObject, pointer: str) -> Iterator[tuple[Any, Any, str]]:
        """(holder, key, pointer) of each subschema."""
        for word, value in schema.items():
            where = f"{pointer}/{escaped(word)}"
            if word in self._several or (word == "items" and self.draft == "draft-07" and isinstance(value, list)):
                if not isinstance(value, list) or not value:
                    raise InvalidSchema(where, "must be a list of at least one schema")
                yield from ((value, index, f"{where}/{index}") for index in range(len(value)))
            elif word in self._one:
                yield schema, word, where
            elif word in self._named:
                if not isinstance(value, dict):
                    raise InvalidSchema(where, "must be an object whose values are schemas")
                for name, entry in value.items():
                    if word == "dependencies" and isinstance(entry, list):
                        if not _are_names(entry):
                            raise InvalidSchema(
                                f"{where}/{escaped(name)}", "must be a schema or a list of unique strings"
                            )
                        value[name] = {"required": entry}
                    yield value, name, f"{where}/{escaped(name)}"

    def _check(self, schema: JsonObject, pointer: str) -> None:
        for word, value in schema.items():
            right, rule = self._shapes.get(word, (None, ""))
            if right is not None and not right(value):
                raise InvalidSchema(f"{pointer}/{escaped(word)}", rule)
        if pointer and _draft(schema, pointer, self.draft) != self.draft:
            raise InvalidSchema(f"{pointer}/$schema", "names a different draft than the root schema; remove it")
        # A $schema would make jsonschema switch to its own class, which charges no work.
        schema.pop("$schema", None)
        for word in ("$id", *self._references):
            try:
                urlsplit(schema.get(word, ""))
            except ValueError:
                raise InvalidSchema(f"{pointer}/{word}", "must be a URI") from None
        patterns = {f"{pointer}/pattern": schema["pattern"]} if "pattern" in schema else {}
        for pattern in schema.get("patternProperties", {}):
            where = f"{pointer}/patternProperties/{escaped(pattern)}"
            self._count(where)
            patterns[where] = pattern
        for where, pattern in patterns.items():
            if fault := self.patterns.add(pattern):
                raise InvalidSchema(where, fault)
            if not self.patterns.is_searched(pattern):
                self.unsearched.append((where, schema))
        if is_foreign(schema):
            self.foreign.append(pointer)
        if "$dynamicAnchor" in schema and self.draft == "2020-12":
            self.dynamic_anchors.setdefault(schema["$dynamicAnchor"], []).append(schema)

    def leads(self, schema: JsonObject) -> list[JsonObject]:
        """The targets of its references; `dynamic_target_name` names the other possible targets of a $dynamicRef."""
        target = self.targets.get(id(schema))
        found = [] if target is None else [target.schema]
        if id(schema) in self._dynamic_targets:
            found.append(self._dynamic_targets[id(schema)])
        return found

    def dynamic_target_name(self, schema: JsonObject) -> str | None:
        """The name in `dynamic_anchors` of the possible targets of its $dynamicRef; None without one."""
        if id(schema) not in self._dynamic_targets:
            return None
        return str(schema["$dynamicRef"]).rpartition("#")[2]

    def named(self, schema: JsonObject, word: str) -> list[JsonObject]:
        """The subschemas of a keyword that maps names to schemas; [] if the draft does not have the keyword."""
        return list(schema[word].values()) if word in self._named and word in schema else []

    def _follow(self, found: list[tuple[JsonObject, str, JsonObject | None]]) -> None:
        """Resolves every reference. A target may be a schema that is not under any known keyword."""
        resolvers: dict[int, Any] = {}
        bases: dict[int, str] = {}
        batches = [(found, self.registry.resolver(self.base))]
        for found, start in batches:
            for schema, pointer, parent in found:
                resolver = start if parent is None else resolvers[id(parent)]
                bases[id(schema)] = "" if parent is None else bases[id(parent)]
                if "$id" in schema:
                    resolver = resolver.in_subresource(self._create_resource(schema))
                    bases[id(schema)] = bases[id(schema)] if schema["$id"].startswith("#") else pointer
                resolvers[id(schema)] = resolver
                for word in self._references & schema.keys():
                    if _within(schema[word]) is not None:
                        self.local_references.append(Reference(pointer, word, bases[id(schema)]))
                    target = self._target(resolver, schema[word], f"{pointer}/{word}")
                    if id(target.schema) not in self.pointers:
                        read = self._read(target.schema, _within(schema[word]) or f"{pointer}/{word}")
                        batches.append((list(read), target.resolver))
                    if word == "$ref":
                        self.targets[id(schema)] = target
                    else:
                        self._dynamic_targets[id(schema)] = target.schema

    def _target(self, resolver: Any, reference: str, pointer: str) -> Target:
        from referencing.exceptions import InvalidAnchor, NoSuchAnchor, PointerToNowhere, Unresolvable

        try:
            resolved = resolver.lookup(reference)
        # ValueError: a step into a list that is not a number. TypeError: a step into a number.
        except (PointerToNowhere, NoSuchAnchor, InvalidAnchor, ValueError, TypeError):
            raise InvalidSchema(pointer, "points to nothing in the schema; correct the reference") from None
        except Unresolvable:
            raise InvalidSchema(
                pointer, "points outside the schema, and remote references are not fetched; put the schema under $defs"
            ) from None
        if not isinstance(resolved.contents, dict):
            raise InvalidSchema(pointer, f"must point to a schema, not to {json_type(resolved.contents)}")
        return Target(resolved.contents, resolved.resolver)


def _within(reference: str) -> str | None:
    """The JSON pointer of a reference into the same document; None for any other reference."""
    return unquote(reference[1:]) if reference.startswith("#/") else None
