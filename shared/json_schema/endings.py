"""Refuses a schema that never ends: in being checked, or in every value that it allows. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from shared.generation import JsonObject
from shared.json_schema.document import Document, Refused

MAX_CHAIN = 64
"""Schemas that apply to one and the same value, each inside or referred to by the one before."""
MAX_STEPS = 500_000
"""Subschemas looked at to find out which end: half a second; 128 KB of schema take 15,000."""
_APPLIED_ONE = ("not", "if", "then", "else")
_APPLIED_SEVERAL = ("allOf", "anyOf", "oneOf")
_APPLIED_NAMED = ("dependentSchemas", "dependencies")


def refuse_endless(document: Document) -> None:
    """Raises Refused with the pointer of the schema that leads back to itself."""
    _refuse_circles(document)
    _refuse_infinite_values(document)


def _refuse_circles(document: Document) -> None:
    heights: dict[int, int] = {}
    above: set[int] = set()

    def height(schema: JsonObject) -> int:
        if id(schema) in above:
            raise Refused(
                document.pointers[id(schema)],
                "refers to itself for the same value, so checking would never end; refer to it from a property or item",
            )
        known = heights.get(id(schema))
        if known is None:
            _bound(len(above) + 1)
            above.add(id(schema))
            known = 1 + max((height(part) for part in applied(document, schema)), default=0)
            above.remove(id(schema))
            heights[id(schema)] = known
        _bound(len(above) + known)
        return known

    def _bound(chain: int) -> None:
        if chain > MAX_CHAIN:
            raise Refused("", f"is too costly to check: more than {MAX_CHAIN} schemas refer onward for one value")

    # The document is in an order in which a parent comes first; a chain is as long from wherever it is begun.
    for schema in document.schemas:
        height(schema)


def applied(document: Document, schema: JsonObject) -> Iterable[JsonObject]:
    """The schemas that apply to the same value as this one."""
    yield from document.leads(schema)
    schema = document.effective(schema)
    for word in _APPLIED_ONE:
        if word in schema:
            yield schema[word]
    for word in _APPLIED_SEVERAL:
        yield from schema.get(word, ())
    for word in _APPLIED_NAMED:
        yield from schema.get(word, {}).values()


def _refuse_infinite_values(document: Document) -> None:
    """A schema ends when some value of it is finite, as far as references, types, `required` and `minItems` tell: what is
    doubtful ends. Those that end are found from the leaves up; each of the others waits for one that blocks it."""
    ended: set[int] = set()
    waiting: dict[int, list[JsonObject]] = {}
    steps = 0
    pending = list(document.schemas)
    while pending:
        schema = pending.pop()
        steps += 1 + len(document.children[id(schema)])
        if steps > MAX_STEPS:
            raise Refused("", "is too costly to check: its schemas refer to each other too often")
        blockers = _blockers(document, schema, ended)
        for blocker in blockers:
            waiting.setdefault(id(blocker), []).append(schema)
        if not blockers:
            ended.add(id(schema))
            pending += waiting.pop(id(schema), ())
    if id(document.root) not in ended:
        raise Refused(
            document.pointers[id(_first_repeated(document, ended))],
            "requires itself, so that no value is ever complete; make the way back optional, or allow null there",
        )


def _first_repeated(document: Document, ended: set[int]) -> JsonObject:
    seen: set[int] = set()
    schema = document.root
    while id(schema) not in seen:
        seen.add(id(schema))
        schema = _blockers(document, schema, ended)[0]
    return schema


def _blockers(document: Document, schema: JsonObject, ended: set[int]) -> Sequence[JsonObject]:
    """Parts of which one must end before this schema does; none: it ends."""
    if schema.get("nullable") is True:
        return ()
    leads = document.leads(schema)
    schema = document.effective(schema)
    choices = [leads] if "$dynamicRef" in schema else [[lead] for lead in leads]
    choices += [[part] for part in schema.get("allOf", ())]
    choices += [schema[word] for word in ("anyOf", "oneOf") if word in schema]
    for choice in choices:
        if not any(id(option) in ended for option in choice):
            return choice
    types = schema.get("type")
    if types is None or "const" in schema or "enum" in schema:
        return ()
    parts = [_required(schema, name, ended) for name in ([types] if isinstance(types, str) else types)]
    return () if None in parts else [part for part in parts if part is not None]


def _required(schema: JsonObject, type_name: str, ended: set[int]) -> JsonObject | None:
    """The first part, not ended, that every value of this type has."""
    parts: list[JsonObject | None] = []
    if type_name == "object":
        properties = schema.get("properties", {})
        # A name that is not declared may fit a pattern; that is doubtful.
        others = None if "patternProperties" in schema else schema.get("additionalProperties")
        parts = [properties.get(name, others) for name in schema.get("required", ())]
    if type_name == "array":
        items = schema.get("items")
        first = items if isinstance(items, list) else schema.get("prefixItems", [])
        least = int(schema.get("minItems", 0))
        parts = list(first[:least])
        if least > len(first):
            parts.append(schema.get("additionalItems") if isinstance(items, list) else items)
    return next((part for part in parts if part is not None and id(part) not in ended), None)
