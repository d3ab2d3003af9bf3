"""The keywords that apply other schemas, to parts of a value or to the value itself. Pure.

They replace jsonschema's keywords that quote whole values (an answer may have a megabyte), search with patterns or follow
references.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, islice
from typing import Any

from shared.generation import JsonObject
from shared.structured.json_schema.assertions import Keyword
from shared.structured.json_schema.document import Target
from shared.structured.json_schema.run import ERROR_WORK, current, error
from shared.structured.json_schema.wording import but_not, count, enum_text, short, types_text

# Maximum errors per schema and value, because alternatives and references multiply them.
_MAX_ERRORS = 100
_APPLIED_WORK = 8


def _if(validator: Any, condition: JsonObject, instance: Any, schema: JsonObject) -> Iterator[Any]:
    holds = _valid(validator, condition, instance)
    branch = {True: "then", False: "else", None: ""}[holds]
    if branch in schema:
        yield from validator.descend(instance, schema[branch], schema_path=branch)


def dependencies(validator: Any, schemas: JsonObject, instance: Any, _: JsonObject) -> Iterator[Any]:
    """Draft-07's `dependencies`. document.Document has replaced its lists of names by schemas."""
    for name, subschema in schemas.items() if isinstance(instance, dict) else ():
        if name in instance:
            yield from validator.descend(instance, subschema, schema_path=name)


def _pattern_properties(validator: Any, patterns: JsonObject, instance: Any, _: JsonObject) -> Iterator[Any]:
    for pattern, subschema in patterns.items() if isinstance(instance, dict) else ():
        for name, value in instance.items():
            if current.get().search(pattern, name):
                yield from validator.descend(value, subschema, path=name, schema_path=pattern)


def _matched(schema: JsonObject, name: str) -> bool | None:
    """Whether `properties` or `patternProperties` apply to a property; None if a pattern cannot be searched for."""
    if name in schema.get("properties", ()):
        return True
    results = []
    for pattern in schema.get("patternProperties", ()):
        results.append(current.get().search(pattern, name))
        if results[-1]:
            return True
    return None if None in results else False


def _additional_properties(validator: Any, others: JsonObject, instance: Any, schema: JsonObject) -> Iterator[Any]:
    for name, value in instance.items() if others and isinstance(instance, dict) else ():
        if _matched(schema, name) is False:
            yield from validator.descend(value, others, path=name)


def _property_names(validator: Any, names: JsonObject, instance: Any, _: JsonObject) -> Iterator[Any]:
    for name in instance if isinstance(instance, dict) else ():
        for fault in validator.descend(name, names):
            yield error(f"has a property named {short(name)}; the name {fault.message}")


def contains(draft: str) -> Keyword:
    def keyword(validator: Any, wanted: JsonObject, instance: Any, schema: JsonObject) -> Iterator[Any]:
        if not isinstance(instance, list):
            return
        bounds = schema if draft == "2020-12" else {}
        least, most = bounds.get("minContains", 1), bounds.get("maxContains")
        results = [_valid(validator, wanted, item) for item in instance]
        found = results.count(True)
        if found + results.count(None) < least:
            yield error(f"must contain at least {count(least, 'item')} matching the schema under contains, not {found}")
        if most is not None and found > most:
            yield error(f"must contain at most {count(most, 'item')} matching the schema under contains, not {found}")

    return keyword


def _not(validator: Any, unwanted: JsonObject, instance: Any, _: JsonObject) -> Iterator[Any]:
    if not unwanted:
        yield error("is not allowed here")
    elif _valid(validator, unwanted, instance):
        yield error("must not match the schema under not, but does")


def _errors(validator: Any, instance: Any, schema: JsonObject) -> tuple[list[Any], bool]:
    """The errors, and whether the result is certain (no pattern was skipped)."""
    run = current.get()
    before = run.unknown
    errors = list(islice(validator.descend(instance, schema), _MAX_ERRORS))
    is_certain = bool(errors) or run.unknown == before
    if errors:
        run.unknown = before
    return errors, is_certain


def _any_of(validator: Any, options: list[Any], instance: Any, __: JsonObject) -> Iterator[Any]:
    branches = []
    for option in options:
        errors, _ = _errors(validator, instance, option)
        if not errors:
            return
        branches.append(errors)
    yield _nearest(branches, instance)


def _one_of(validator: Any, options: list[Any], instance: Any, __: JsonObject) -> Iterator[Any]:
    branches = [_errors(validator, instance, option) for option in options]
    fitting = [str(index) for index, (errors, is_certain) in enumerate(branches) if not errors and is_certain]
    if all(errors for errors, _ in branches):
        yield _nearest([errors for errors, _ in branches], instance)
    elif len(fitting) > 1:
        told = ", ".join(fitting[:5])
        yield error(f"must match exactly one schema under oneOf, but matches {len(fitting)} (numbers {told})")


def _nearest(branches: list[list[Any]], instance: Any) -> Any:
    """The error of the alternative that the value fits best."""
    if all(any(_is_other_kind(fault) for fault in errors) for errors in branches):
        types = [fault.validator_value for errors in branches for fault in errors if _is_other_kind(fault)]
        names = dict.fromkeys(name for group in types for name in ([group] if isinstance(group, str) else group))
        return error(f"must be {types_text(names)}{but_not(instance)}")
    tags = [fault for errors in branches for fault in [*filter(_is_other_tag, errors)][:1]]
    if len(tags) == len(branches) and all(tag.path == tags[0].path for tag in tags):
        options = [[tag.validator_value] if tag.validator == "const" else tag.validator_value for tag in tags]
        return error(f"must be {enum_text([*chain.from_iterable(options)])}{but_not(tags[0].instance)}", tags[0].path)
    nearest = min(branches, key=_distance)
    best = min(nearest, key=lambda fault: len(fault.path))
    told = best.message.removesuffix("…")
    if len(branches) > 1 and not told.endswith(" alternatives)"):
        told = f"{told[:150]} (in the nearest of {len(branches)} alternatives)"
    return error(told, best.path)


def _is_other_kind(fault: Any) -> bool:
    return not fault.path and fault.validator == "type"


def _is_other_tag(fault: Any) -> bool:
    return len(fault.path) <= 1 and fault.validator in ("const", "enum")


def _distance(errors: list[Any]) -> tuple[bool, bool, int]:
    """Sort key: a wrong type is the worst, then a wrong value of a discriminating property, then the number of errors."""
    other_kind = any(_is_other_kind(fault) for fault in errors)
    return other_kind, any(_is_other_tag(fault) for fault in errors), len(errors)


def _target(validator: Any, schema: JsonObject, word: str) -> Target:
    document = current.get().document
    if not document.dynamic:
        return document.targets[id(schema)]
    current.get().spend(_APPLIED_WORK + schema[word].count("/"))
    resolved = validator._resolver.lookup(schema[word])
    return Target(resolved.contents, resolved.resolver)


def _ref(validator: Any, _: str, instance: Any, schema: JsonObject) -> list[Any]:
    from jsonschema.exceptions import ValidationError  # type: ignore[import-untyped]

    run = current.get()
    target = _target(validator, schema, "$ref")
    known = None if run.document.dynamic else run.known.get((id(target.schema), id(instance)))
    if known is None:
        before = run.unknown
        errors = list(islice(validator.descend(instance, target.schema, resolver=target.resolver), _MAX_ERRORS))
        run.known[id(target.schema), id(instance)] = errors, run.unknown - before
    else:
        errors, unknown = known
        run.unknown += unknown
    run.spend(len(errors) * ERROR_WORK)
    # jsonschema extends an error's path on its way up, so each use needs a copy.
    return [ValidationError.create_from(fault) for fault in errors]


def _unevaluated_properties(validator: Any, others: JsonObject, instance: Any, schema: JsonObject) -> Iterator[Any]:
    if not isinstance(instance, dict):
        return
    seen: set[str] = set()
    for _, applied in _all_applied(validator, instance, schema):
        rest = [name for name in instance if name not in seen]
        current.get().spend(len(rest))
        if "additionalProperties" in applied or (applied is not schema and "unevaluatedProperties" in applied):
            return
        seen.update(name for name in rest if _matched(applied, name) is not False)
    for name, value in instance.items():
        if name not in seen:
            yield from validator.descend(value, others, path=name)


def _unevaluated_items(validator: Any, others: JsonObject, instance: Any, schema: JsonObject) -> Iterator[Any]:
    if not isinstance(instance, list):
        return
    seen: set[int] = set()
    for scope, applied in _all_applied(validator, instance, schema):
        rest = [index for index in range(len(instance)) if index not in seen]
        current.get().spend(len(rest))
        if "items" in applied or (applied is not schema and "unevaluatedItems" in applied):
            return
        seen.update(range(len(applied.get("prefixItems", ()))))
        if "contains" in applied:
            seen.update(index for index in rest if _valid(scope, applied["contains"], instance[index]) is not False)
    for index, item in enumerate(instance):
        if index not in seen:
            yield from validator.descend(item, others, path=index)


def _valid(validator: Any, schema: JsonObject, instance: Any) -> bool | None:
    """Whether the value conforms; None if a skipped pattern leaves that open."""
    run = current.get()
    before = run.unknown
    if next(iter(validator.descend(instance, schema)), None) is not None:
        run.unknown = before
        return False
    return True if run.unknown == before else None


def _all_applied(validator: Any, instance: Any, schema: JsonObject) -> Iterator[tuple[Any, JsonObject]]:
    """This schema and the schemas that it applies to the same value, except those that certainly fail. The parts of the value
    that they check count as evaluated."""
    current.get().spend(_APPLIED_WORK)
    yield validator, schema
    for word in ("$ref", "$dynamicRef"):
        if word in schema:
            target = _target(validator, schema, word)
            scope = validator.evolve(schema=target.schema, _resolver=target.resolver)
            yield from _all_applied(scope, instance, target.schema)
    parts = [part for word in ("allOf", "anyOf", "oneOf") for part in schema.get(word, ())]
    if "if" in schema:
        holds = _valid(validator, schema["if"], instance)
        words = {True: ("if", "then"), False: ("else",), None: ("if", "then", "else")}[holds]
        parts += [schema[word] for word in words if word in schema]
    for word in ("dependentSchemas", "dependencies") if isinstance(instance, dict) else ():
        parts += [part for name, part in schema.get(word, {}).items() if name in instance]
    for part in parts:
        if _valid(validator, part, instance) is not False:
            yield from _all_applied(validator, instance, part)


APPLICATORS: dict[str, Keyword] = {
    "patternProperties": _pattern_properties,
    "additionalProperties": _additional_properties,
    "propertyNames": _property_names,
    "if": _if,
    "not": _not,
    "anyOf": _any_of,
    "oneOf": _one_of,
    "$ref": _ref,
    "unevaluatedProperties": _unevaluated_properties,
    "unevaluatedItems": _unevaluated_items,
}
