"""The keywords of a schema that the local check skips, because they need a pattern that cannot be searched for. Pure.

Besides the patterns these are the keywords whose result such a pattern can invert: an undecided result under `not` must not
count as valid. They are still checked for values that do not reach the pattern (run.Run.unknown).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any
from urllib.parse import quote

from shared.generation import JsonObject
from shared.structured.json_schema.document import Document

MAX_FRAGMENTS = 20
MAX_HEADER_BYTES = 1024
_TURNED = ("not", "if", "contains", "oneOf")
_DEPENDENT = ("dependentSchemas", "dependencies")
_CHOICES = ("anyOf", "oneOf", "if", *_DEPENDENT)
_APPLIED_ONE = ("not", "if", "then", "else")
_APPLIED_SEVERAL = ("allOf", "anyOf", "oneOf")


def unchecked(document: Document) -> list[str]:
    """JSON pointers into the document, without duplicates, the patterns first."""
    if not document.unsearched:
        return []
    pointers = [pointer for pointer, _ in document.unsearched]
    # For a key of `patternProperties` that is not searched for, it is unknown which properties it applies to.
    open_names = {id(schema) for _, schema in document.unsearched if _has_open_key(document, schema)}
    within = _reaching(
        document,
        {id(schema) for _, schema in document.unsearched},
        lambda schema: [*document.children[id(schema)], *document.leads(schema)],
    )
    doubtful = {id(schema) for schema in document.schemas if _parts(document, schema, _CHOICES, within)}
    items = {id(schema) for schema in document.schemas if _parts(document, schema, ("contains",), within)}
    unevaluated = _reaching(document, open_names | doubtful | items, lambda schema: applied(document, schema))
    for schema in document.schemas:
        at = document.pointers[id(schema)]
        words = [word for word in _TURNED if _parts(document, schema, (word,), within)]
        if id(schema) in open_names and schema.get("additionalProperties"):
            words.append("additionalProperties")
        if id(schema) in unevaluated:
            words += [word for word in ("unevaluatedProperties", "unevaluatedItems") if schema.get(word)]
        pointers += [f"{at}/{word}" for word in words]
    return list(dict.fromkeys(pointers))


def _has_open_key(document: Document, schema: JsonObject) -> bool:
    return any(not document.patterns.is_searched(pattern) for pattern in schema.get("patternProperties", ()))


def applied(document: Document, schema: JsonObject) -> Iterator[JsonObject]:
    """The schemas that this one applies to the same value."""
    yield from document.leads(schema)
    schema = document.effective(schema)
    for word in _APPLIED_ONE:
        if word in schema:
            yield schema[word]
    for word in _APPLIED_SEVERAL:
        yield from schema.get(word, ())
    for word in _DEPENDENT:
        yield from document.named(schema, word)


def _parts(document: Document, schema: JsonObject, words: Iterable[str], among: set[int | str]) -> bool:
    """Whether a schema under one of these keywords is in `among`."""
    for word in words:
        parts: list[Any]
        if word in _DEPENDENT:
            parts = document.named(schema, word)
        else:
            value = schema.get(word)
            parts = value if isinstance(value, list) else [value]
        if any(id(part) in among for part in parts):
            return True
    return False


def _reaching(
    document: Document, goals: set[int], edges: Callable[[JsonObject], Iterable[JsonObject]]
) -> set[int | str]:
    """The goals and every schema from which a path of edges leads to one. Each edge is followed once.

    The name of a dynamic anchor is a node between its references and its anchors, which needs fewer edges than all pairs."""
    sources: dict[int | str, list[int | str]] = {}
    for schema in document.schemas:
        for target in edges(schema):
            sources.setdefault(id(target), []).append(id(schema))
        if (name := document.dynamic_target_name(schema)) is not None:
            sources.setdefault(name, []).append(id(schema))
    for name, anchors in document.dynamic_anchors.items():
        for anchor in anchors:
            sources.setdefault(id(anchor), []).append(name)
    reached: set[int | str] = set(goals)
    pending: list[int | str] = list(goals)
    while pending:
        for source in sources.get(pending.pop(), ()):
            if source not in reached:
                reached.add(source)
                pending.append(source)
    return reached


def fragments(pointers: Sequence[str]) -> str:
    """The pointers as the value of a header: URI fragments (RFC 6901, section 6), separated by ", ". At most 20 pointers and
    1,024 bytes; a final `more=N` counts the omitted ones."""
    told: list[str] = []
    size = len(f", more={len(pointers)}")
    for pointer in pointers[:MAX_FRAGMENTS]:
        fragment = "#" + quote(pointer, safe="/$")
        size += len(fragment) + 2
        if size > MAX_HEADER_BYTES:
            break
        told.append(fragment)
    left = len(pointers) - len(told)
    return ", ".join([*told, *([f"more={left}"] if left else [])])
