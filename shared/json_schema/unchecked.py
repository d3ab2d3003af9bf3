"""Which keywords of a schema the local check leaves out, because they need a pattern that cannot be searched for. Pure.

Besides the patterns these are the keywords whose result such a pattern can turn around: what is left open under `not` must not
count as valid there. Their check still takes place for values that do not come near the pattern (run.Run.unknown).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from urllib.parse import quote

from shared.generation import JsonObject
from shared.json_schema.document import Document
from shared.json_schema.endings import applied

MAX_FRAGMENTS = 20
MAX_HEADER_BYTES = 1024
_TURNED = ("not", "if", "contains", "oneOf")
_CHOICES = ("anyOf", "oneOf", "if", "dependentSchemas", "dependencies")


def unchecked(document: Document) -> list[str]:
    """JSON pointers into the document, each keyword once: the patterns first."""
    if not document.unsearched:
        return []
    pointers = [pointer for pointer, _ in document.unsearched]
    # A key of `patternProperties` that is not searched for leaves open which properties it is about.
    open_names = {id(schema) for _, schema in document.unsearched if _has_open_key(document, schema)}
    within = _reaching(
        document,
        {id(schema) for _, schema in document.unsearched},
        lambda schema: [*document.children[id(schema)], *document.leads(schema)],
    )
    doubtful = {id(schema) for schema in document.schemas if _parts(schema, _CHOICES, within)}
    items = {id(schema) for schema in document.schemas if _parts(schema, ("contains",), within)}
    unevaluated = _reaching(document, open_names | doubtful | items, lambda schema: applied(document, schema))
    for schema in document.schemas:
        at = document.pointers[id(schema)]
        words = [word for word in _TURNED if _parts(schema, (word,), within)]
        if id(schema) in open_names and schema.get("additionalProperties"):
            words.append("additionalProperties")
        if id(schema) in unevaluated:
            words += [word for word in ("unevaluatedProperties", "unevaluatedItems") if schema.get(word)]
        pointers += [f"{at}/{word}" for word in words]
    return list(dict.fromkeys(pointers))


def _has_open_key(document: Document, schema: JsonObject) -> bool:
    return any(not document.patterns.is_searched(pattern) for pattern in schema.get("patternProperties", ()))


def _parts(schema: JsonObject, words: Iterable[str], among: set[int]) -> bool:
    """Whether one of the schemas under these keywords is among those."""
    for word in words:
        value = schema.get(word)
        if isinstance(value, list) or (isinstance(value, dict) and word.startswith("depend")):
            parts = value if isinstance(value, list) else list(value.values())
        else:
            parts = [value]
        if any(id(part) in among for part in parts):
            return True
    return False


def _reaching(document: Document, goals: set[int], edges: Callable[[JsonObject], Iterable[JsonObject]]) -> set[int]:
    """The goals and every schema from which edges lead to one, each edge followed once."""
    sources: dict[int, list[int]] = {}
    for schema in document.schemas:
        for target in edges(schema):
            sources.setdefault(id(target), []).append(id(schema))
    reached, pending = set(goals), list(goals)
    while pending:
        for source in sources.get(pending.pop(), ()):
            if source not in reached:
                reached.add(source)
                pending.append(source)
    return reached


def fragments(pointers: Sequence[str]) -> str:
    """The pointers as a header's value: URI fragments (RFC 6901, section 6), separated by ", ". At most 20 and 1,024 bytes;
    a last `more=N` counts those that are left out."""
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
