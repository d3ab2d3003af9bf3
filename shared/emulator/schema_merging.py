"""Merges two JSON Schemas, and checks a given value against one, as far as the generation of values needs it. Pure."""

from __future__ import annotations

from typing import Any

_HIGHEST = {"minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties", "minContains"}
_LOWEST = {"maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties", "maxContains"}


class Unsatisfiable(Exception):
    """No value can conform to the schema, or it is not a valid schema."""


def same(one: Any, other: Any) -> bool:
    return bool(one == other) and isinstance(one, bool) == isinstance(other, bool)


def merged(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """A schema that requires both: the narrower bound, the properties of either, and otherwise the keywords of `over`."""
    base, over = modern(base), modern(over)
    result = {**base, **over}
    for word in base.keys() & over.keys():
        result[word] = _both(word, base[word], over[word])
    for one, other in ((base, over), (over, base)):
        # A property that only one schema declares is an additional property of the other.
        extra = one.get("additionalProperties", True)
        for name in other.get("properties", {}).keys() - one.get("properties", {}).keys() if extra is not True else ():
            result["properties"] = {**result["properties"], name: _joined(result["properties"][name], extra)}
    for word in ("$ref", "$dynamicRef"):
        if word in base and word in over and base[word] != over[word]:
            result["allOf"] = [*result.get("allOf", ()), {word: base[word]}]
    return result


def modern(schema: dict[str, Any]) -> dict[str, Any]:
    if not isinstance(schema.get("items"), list):
        return schema
    rest = {name: item for name, item in schema.items() if name != "additionalItems"}
    return {**rest, "prefixItems": schema["items"], "items": schema.get("additionalItems", True)}


def _both(word: str, base: Any, over: Any) -> Any:
    """The merged value of a keyword that both schemas have."""
    if base == over and isinstance(base, bool) == isinstance(over, bool):
        return over
    if word in _HIGHEST | _LOWEST and isinstance(base, int | float) and isinstance(over, int | float):
        return max(base, over) if word in _HIGHEST else min(base, over)
    if word == "const":
        raise Unsatisfiable("two constants differ")
    if word == "type":
        return _common_type(base, over)
    if word == "enum":
        return [option for option in over if any(same(option, other) for other in base)]
    if word == "allOf":
        return [*base, *over]
    if word == "required":
        return [*base, *(name for name in over if name not in base)]
    if word in ("anyOf", "oneOf"):
        # The alternatives of the other schema are required inside each of ours.
        return [_joined(option, {word: base}) for option in over]
    if word in ("properties", "patternProperties", "dependentRequired", "dependentSchemas", "$defs"):
        joined = {
            name: _joined(base[name], over[name]) for name in base.keys() & over.keys() if word != "dependentRequired"
        }
        return {**base, **over, **joined}
    if word == "prefixItems":
        longer = base if len(base) > len(over) else over
        pairs = zip(base, over, strict=False)
        return [*(_joined(one, other) for one, other in pairs), *longer[min(len(base), len(over)) :]]
    return _joined(base, over) if word in ("items", "additionalProperties", "contains") else over


def _joined(one: Any, other: Any) -> Any:
    return one if one == other else {"allOf": [one, other]}


def _common_type(base: Any, over: Any) -> Any:
    names = [base] if isinstance(base, str) else base
    others = [over] if isinstance(over, str) else over
    common = [name for name in others if name in names or (name == "integer" and "number" in names)]
    if "integer" in names and "number" in others and "integer" not in common:
        common.append("integer")
    if not common:
        raise Unsatisfiable("no type is both")
    return common


def keeps_bounds(value: Any, schema: dict[str, Any]) -> bool:
    """Whether a value of an enum has the type and is within the bounds of the same schema."""
    if isinstance(value, bool) or value is None:
        kinds, size = {"boolean" if value is not None else "null"}, None
    elif isinstance(value, int | float):
        kinds, size = {"number"} | ({"integer"} if float(value).is_integer() else set()), ("minimum", "maximum", value)
    elif isinstance(value, str):
        kinds, size = {"string"}, ("minLength", "maxLength", len(value))
    elif isinstance(value, list):
        kinds, size = {"array"}, ("minItems", "maxItems", len(value))
    else:
        kinds, size = {"object"}, ("minProperties", "maxProperties", len(value))
    names = schema.get("type", list(kinds))
    if kinds.isdisjoint([names] if isinstance(names, str) else names):
        return False
    if size is None:
        return True
    least, most, own = size
    if "number" in kinds:
        step = schema.get("multipleOf", own) or 1
        if (
            own % step
            or own <= schema.get("exclusiveMinimum", own - 1)
            or own >= schema.get("exclusiveMaximum", own + 1)
        ):
            return False
    return bool(schema.get(least, own) <= own <= schema.get(most, own))
