"""The keywords that check a value itself. Their messages quote only a little of it. Pure.

Like jsonschema's, each takes (validator, the keyword's value, the value, the schema) and returns errors.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from shared.generation import JsonObject
from shared.structured.json_schema import formats, numbers
from shared.structured.json_schema.dialect import EXCLUSIVE
from shared.structured.json_schema.numbers import comparable, is_multiple, is_number
from shared.structured.json_schema.run import current, error, key
from shared.structured.json_schema.wording import but_not, count, enum_text, short, types_text

Keyword = Callable[[Any, Any, Any, JsonObject], Iterable[Any]]
_MULTIPLE_WORK = 8


def _type(validator: Any, types: Any, instance: Any, _: JsonObject) -> Iterator[Any]:
    names = [types] if isinstance(types, str) else types
    if is_number(instance):
        current.get().spend(numbers.work(instance))
    if not any(validator.is_type(instance, name) for name in names):
        yield error(f"must be {types_text(names)}{but_not(instance)}")


def _enum(_: Any, options: list[Any], instance: Any, __: JsonObject) -> Iterator[Any]:
    allowed = current.get().enums
    if id(options) not in allowed:
        current.get().spend(len(options))
        allowed[id(options)] = frozenset(key(option) for option in options)
    if key(instance) not in allowed[id(options)]:
        yield error(f"must be {enum_text(options)}{but_not(instance)}")


def _const(_: Any, wanted: Any, instance: Any, __: JsonObject) -> Iterator[Any]:
    if key(instance) != key(wanted):
        yield error(f"must be {short(wanted)}{but_not(instance)}")


def _measure(instance: Any, kind: str) -> Any:
    """The number that a bound is compared with; None if the bound does not apply."""
    if kind == "number":
        return instance if is_number(instance) else None
    return len(instance) if isinstance(instance, {"string": str, "list": list, "object": dict}[kind]) else None


def _bound(kind: str, holds: Callable[[Any, Any], bool], words: str, things: str = "") -> Keyword:
    def keyword(_: Any, bound: Any, instance: Any, __: JsonObject) -> Iterator[Any]:
        measure = _measure(instance, kind)
        if measure is None:
            return
        current.get().spend(numbers.work(measure) + numbers.work(bound))
        if not holds(comparable(measure, bound), comparable(bound, measure)):
            yield error(f"must {words} {count(bound, things)}, not {short(measure)}")

    return keyword


def _or_flag(word: str, keyword: Keyword) -> Keyword:
    """Draft 4's `exclusiveMinimum: true` makes `minimum` exclusive."""

    def either(validator: Any, bound: Any, instance: Any, schema: JsonObject) -> Iterable[Any]:
        if isinstance(bound, bool):
            bound = schema.get(EXCLUSIVE[word]) if bound else None
        return () if bound is None else keyword(validator, bound, instance, schema)

    return either


def _multiple_of(_: Any, step: Any, instance: Any, __: JsonObject) -> Iterator[Any]:
    if is_number(instance):
        # Both numbers are scaled to the same power of ten.
        current.get().spend(_MULTIPLE_WORK + 4 * (numbers.work(instance) + numbers.work(step)))
        result = is_multiple(instance, step)
        if not result:
            cannot = " (it has too many digits to be checked)" if result is None else ""
            yield error(f"must be a multiple of {short(step)}, not {short(instance)}{cannot}")


_BOUNDS: dict[str, tuple[Any, ...]] = {
    "minimum": ("number", operator.ge, "be at least"),
    "maximum": ("number", operator.le, "be at most"),
    "exclusiveMinimum": ("number", operator.gt, "be more than"),
    "exclusiveMaximum": ("number", operator.lt, "be less than"),
    "minLength": ("string", operator.ge, "have at least", "character"),
    "maxLength": ("string", operator.le, "have at most", "character"),
    "minItems": ("list", operator.ge, "have at least", "item"),
    "maxItems": ("list", operator.le, "have at most", "item"),
    "minProperties": ("object", operator.ge, "have at least", "property"),
    "maxProperties": ("object", operator.le, "have at most", "property"),
}


def _format(validator: Any, form: str, instance: Any, _: JsonObject) -> Iterator[Any]:
    run = current.get()
    if run.assert_formats and isinstance(instance, str):
        # A text keeps its id() while the answer exists, so it is checked once, whatever the number of schemas.
        known = run.formats.get((form, id(instance)))
        if known is None:
            run.spend(formats.work(form, instance))
            known = run.formats[form, id(instance)] = formats.conforms(validator.format_checker, form, instance)
        if not known:
            yield error(f"must be in the format {short(form)}{but_not(instance)}")


def _pattern(_: Any, pattern: str, instance: Any, __: JsonObject) -> Iterator[Any]:
    if isinstance(instance, str) and current.get().search(pattern, instance) is False:
        yield error(f"must match the pattern {short(pattern)}{but_not(instance)}")


def _required(_: Any, names: list[str], instance: Any, __: JsonObject) -> Iterator[Any]:
    if isinstance(instance, dict):
        yield from (error(f"lacks the required property {short(name)}") for name in names if name not in instance)


def _dependent_required(_: Any, needs: dict[str, list[str]], instance: Any, __: JsonObject) -> Iterator[Any]:
    for name in needs if isinstance(instance, dict) else ():
        if name in instance:
            current.get().spend(len(needs[name]))
            missing = (other for other in needs[name] if other not in instance)
            yield from (error(f"lacks the property {short(other)}, which {short(name)} requires") for other in missing)


def _unique_items(_: Any, unique: bool, instance: Any, __: JsonObject) -> Iterator[Any]:
    seen: dict[str | bytes, int] = {}
    current.get().spend(len(instance) if unique and isinstance(instance, list) else 0)
    for index, item in enumerate(instance if unique and isinstance(instance, list) else ()):
        first = seen.setdefault(key(item), index)
        if first != index:
            yield error(f"must have unique items; item {index} equals item {first}")
            return


ASSERTIONS: dict[str, Keyword] = {
    "type": _type,
    "enum": _enum,
    "const": _const,
    "format": _format,
    "pattern": _pattern,
    "required": _required,
    "dependentRequired": _dependent_required,
    "uniqueItems": _unique_items,
    "multipleOf": _multiple_of,
    **{word: _bound(*rule) for word, rule in _BOUNDS.items()},
}
ASSERTIONS |= {word: _or_flag(word, ASSERTIONS[word]) for word in EXCLUSIVE}
