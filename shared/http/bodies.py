"""Request and response bodies as pydantic models: one description reads a body, rejects what is wrong and documents it.

Importing pydantic takes about 0.1 s, so only a function that reads a body imports this module before it serves.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, TypeVar, get_args, get_origin

from pydantic import (
    AliasChoices,
    BaseModel,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    StringConstraints,
    ValidationError,
    ValidatorFunctionWrapHandler,
    model_validator,
)
from pydantic.fields import FieldInfo
from pydantic.json_schema import SkipJsonSchema
from pydantic_core import CoreSchema, ErrorDetails, PydanticCustomError, core_schema

from shared.errors import BadRequest, json_type
from shared.generation import JsonObject

NOT_BLANK = r"[^\t-\r\x1c- \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]"
"""A character that `str.strip` keeps. Written out, since `\\S` differs between languages: U+0085 is white space in Python and
not in JavaScript."""
MAX_NAMES = 100
"""More names than any model has fields. An object with more is rejected before pydantic makes an error for each of them."""
_MAX_NAME_CHARS = 100
"""Characters of a caller's field name that an error repeats."""


@dataclass(frozen=True)
class Rule:
    """Metadata of a field: what an error says after the field's name, whatever is wrong with its value."""

    text: str


@dataclass(frozen=True)
class Between:
    """Metadata of an `int` or a `float`: its bounds. An integer may be sent as 5.0 too, as in JSON Schema."""

    low: int
    high: int

    def __get_pydantic_core_schema__(self, source: Any, _: GetCoreSchemaHandler) -> CoreSchema:
        whole = source is int
        rule = f"must be {'a whole number' if whole else 'a number'} from {self.low} to {self.high}"

        def check(value: object) -> object:
            if whole and isinstance(value, float) and value.is_integer():
                value = int(value)
            # Python's booleans are integers.
            is_number = not isinstance(value, bool) and isinstance(value, int if whole else int | float)
            if not is_number or not self.low <= value <= self.high:  # type: ignore[operator]
                raise PydanticCustomError("rule", "rule", {"rule": rule})
            return value

        number = core_schema.int_schema if whole else core_schema.float_schema
        return core_schema.no_info_before_validator_function(check, number(ge=self.low, le=self.high))


@dataclass(frozen=True)
class OrText:
    """Metadata of `str | X` or `str | X | None`, where X is a list or an object: its JSON type decides what reads a value. So an
    error names the place inside X; of a union, pydantic names the alternative too."""

    name: str
    """X in an error message: "a list of parts"."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        other = next(one for one in get_args(source) if one not in (str, type(None)))
        inner = get_args(other)[0] if get_origin(other) is Annotated else other
        kind = get_origin(inner) or dict
        rule = f"must be a text or {self.name}"

        def check(value: object, read_other: ValidatorFunctionWrapHandler) -> object:
            if isinstance(value, str):
                return value
            if not isinstance(value, kind):
                raise PydanticCustomError("rule", "rule", {"rule": f"{rule}, not {json_type(value)}"})
            return read_other(value)

        schema: CoreSchema = core_schema.no_info_wrap_validator_function(check, handler.generate_schema(other))
        return core_schema.nullable_schema(schema) if type(None) in get_args(source) else schema

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        made = handler(schema)
        return {"anyOf": [{"type": "string"}, *made.get("anyOf", [made])]}


Text = Annotated[str, StringConstraints(pattern=NOT_BLANK)]
"""A string that is not blank, kept as it was sent."""
Absent = Annotated[None, SkipJsonSchema()]
"""A field that must be absent or null, and that the specification leaves out. Declare it with a Rule, for the error's text."""


class Body(BaseModel):
    """A JSON object without unknown fields."""

    # Python's patterns: pydantic's own have no (?!...).
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, regex_engine="python-re")

    @model_validator(mode="before")
    @classmethod
    def _bounded(cls, values: Any) -> Any:
        if isinstance(values, dict) and len(values) > MAX_NAMES:
            name = next(name for name in values if name not in _names(cls))
            raise PydanticCustomError("extra_forbidden", "unknown", {"field": name})
        return values


class Credentials(BaseModel):
    """The caller's own key, in place of a credential in a header."""

    # The edge has read and checked it before the body is read as a model.
    model_config = ConfigDict(extra="ignore", frozen=True)

    gemini_api_key: str | None = Field(
        None, repr=False, description="A Gemini API key; Google bills the caller, not the server."
    )


class GenerationBody(Body):
    """The fields that every generating endpoint takes."""

    model: str | None = Field(
        None,
        description="A Gemini model id; without it the operator's or this endpoint's default.",
        examples=["gemini-3.8-flash"],
    )
    credentials: Credentials | None = Field(None, description="In place of a credential in a header.")


class ImageBody(GenerationBody):
    """The fields that every endpoint that makes images takes."""

    model: str | None = Field(
        None,
        description="A Gemini model that makes images; without it this endpoint's default.",
        examples=["gemini-3-pro-image"],
    )


class AnswerBody(BaseModel):
    """A response's JSON. It is documented and never validated, so pydantic builds its validator only when asked."""

    model_config = ConfigDict(defer_build=True)


class UsageBody(AnswerBody):
    """Token counts as reported by Gemini; null where Gemini reported none, which is not zero."""

    prompt_tokens: int | None
    output_tokens: int | None
    thinking_tokens: int | None
    total_tokens: int | None = Field(description="prompt + output + thinking")


class GenerationAnswer(AnswerBody):
    """The fields that every generating endpoint returns, besides its own."""

    model: str = Field(description="The model that responded.", examples=["gemini-3.8-flash"])
    finish_reason: str | None = Field(description="Gemini's finish reason.", examples=["STOP"])
    usage: UsageBody
    request_id: str = Field(description="As in the header x-request-id, and in the log.")


Model = TypeVar("Model", bound=BaseModel)


def read(model: type[Model], values: JsonObject) -> Model:
    """The body as `model`. Raises BadRequest for the first wrong field; an unknown field comes first, since its typing
    error is usually why another one is missing."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        found = error.errors(include_url=False)
    raise _bad_request(model, min(found, key=lambda one: one["type"] != "extra_forbidden"))


def wrong(field: str, rule: str) -> PydanticCustomError:
    """For rules between fields: a model's validator raises it, and the caller reads `field` (with its path) and `rule`."""
    return PydanticCustomError("rule", "rule", {"field": field, "rule": rule})


# -- errors ------------------------------------------------------------------------------------------------------------

_TYPES = {
    "string": "a string",
    "bool": "true or false",
    "int": "a whole number",
    "float": "a number",
    "list": "a list",
    "dict": "an object",
    "model": "an object",
}
_KINDS: Mapping[Any, str] = {str: "a text", list: "a list", dict: "an object", bool: "true or false"}


def _bad_request(model: type[BaseModel], error: ErrorDetails) -> BadRequest:
    context = error.get("ctx", {})
    location = (*error["loc"], context["field"]) if "field" in context else error["loc"]
    holder, field, depth = _declared(model, location)
    path = _path(location[:depth])
    if error["type"] == "extra_forbidden":
        return BadRequest(_unknown(holder, str(location[-1]), path), field=path)
    return BadRequest(f"{path} {_rule(error, field)}.", field=path)


def _declared(model: type[BaseModel], location: Sequence[int | str]) -> tuple[type[BaseModel], FieldInfo | None, int]:
    """The model that declares the last name of `location`, that field, and how many of the steps lead to it: all, or
    those to a field with a Rule, which holds for everything inside."""
    field: FieldInfo | None = None
    for depth, step in enumerate(location, 1):
        if isinstance(step, int):
            continue
        inner = model if field is None else _model_in(field.annotation)
        if inner is None:
            break
        model, field = inner, inner.model_fields.get(_names(inner).get(step, ""))
        if field is None or _rule_of(field):
            return model, field, depth
    return model, field, len(location)


def _unknown(model: type[BaseModel], name: str, path: str) -> str:
    names = _names(model)
    if name in names:
        twin = next(other for other, field in names.items() if field == names[name] and other != name)
        return f"{path} and {twin} are two spellings of one field; send only one of them."
    for outer, field in model.model_fields.items():
        inner = _model_in(field.annotation, through_lists=False)
        if inner is not None and name in _names(inner):
            return f'{path} must be inside {outer}, like {{"{outer}": {{"{name}": ...}}}}.'
    known = {other: field for other, field in names.items() if model.model_fields[field].annotation is not type(None)}
    if len(name) <= _MAX_NAME_CHARS and (near := _nearest(name, known)):
        return f"Unknown field {path}. Did you mean {near}?"
    return f"Unknown field {path}. Known fields: {', '.join(sorted(set(known.values())))}."


def _nearest(name: str, known: Iterable[str]) -> str | None:
    # Imported here, since only a mistake needs it.
    from difflib import get_close_matches

    return next(iter(get_close_matches(name, known, n=1, cutoff=0.6)), None)


def _rule(error: ErrorDetails, field: FieldInfo | None) -> str:
    """What the value must be, after the field's name in a sentence."""
    value, why, context = error["input"], error["type"], error.get("ctx", {})
    rule = _rule_of(field)
    if why == "missing":
        return f"is required; it {rule.text}" if rule is not None else f"is required; send {_expected(field)}"
    if rule is not None or "rule" in context:
        return rule.text if rule is not None else str(context["rule"])
    if why == "string_pattern_mismatch":
        return "is empty; send a text" if context["pattern"] == NOT_BLANK else f"must match {context['pattern']}"
    if why == "string_too_short" and context["min_length"] == 1:
        return f"is empty; send {_expected(field) if field is not None and field.annotation is str else 'a text'}"
    if why == "too_short" and context["min_length"] == 1:
        return "is empty; send at least one entry"
    if why == "too_long":
        return f"must have at most {context['max_length']} entries, not {context['actual_length']}"
    name, _, reason = why.rpartition("_")
    if reason == "type" and name in _TYPES:
        # A fraction is a number too: "not a number" would mislead.
        return f"must be {_TYPES[name]}" + (
            "" if name == "int" and isinstance(value, float) else f", not {json_type(value)}"
        )
    if why in ("literal_error", "enum"):
        return f"must be {context['expected']}"
    return _sentence(error["msg"])


def _expected(field: FieldInfo | None) -> str:
    """A field's type and what its description says first: "a text: what the image should show"."""
    if field is None:
        return "it"
    kind = _KINDS.get(get_origin(field.annotation) or field.annotation, "a value")
    about = (field.description or "").partition(". ")[0].rstrip(".")
    word = about.partition(" ")[0]
    is_name = len(word) > 1 and word.isupper()
    return f"{kind}: {about if is_name else about[:1].lower() + about[1:]}" if about else kind


def _sentence(message: str) -> str:
    """A validator's or pydantic's own words as the rest of a sentence: "Value error, must be x" -> "must be x"."""
    text = message.removeprefix("Value error, ").removeprefix("Assertion failed, ")
    return text if text.startswith(("must ", "is ")) else f"is not valid: {text[:1].lower()}{text[1:]}"


def _path(location: Sequence[int | str]) -> str:
    """("history", 0, "role") -> "history[0].role"."""
    path = "".join(f"[{step}]" if isinstance(step, int) else f".{_shown(step)}" for step in location)
    return path.removeprefix(".") or "the body"


def _shown(name: str) -> str:
    """A caller's own field name in an error: bounded, and visible even if it is empty."""
    return f"{name[:_MAX_NAME_CHARS]}…" if len(name) > _MAX_NAME_CHARS else name or '""'


@cache
def _names(model: type[BaseModel]) -> Mapping[str, str]:
    """Every name that a body may use -> the field."""
    return {
        str(spelling): name
        for name, field in model.model_fields.items()
        for spelling in (field.validation_alias.choices if isinstance(field.validation_alias, AliasChoices) else [name])
    }


def _rule_of(field: FieldInfo | None) -> Rule | None:
    return next((one for one in field.metadata if isinstance(one, Rule)), None) if field is not None else None


def _model_in(annotation: Any, *, through_lists: bool = True) -> type[BaseModel] | None:
    """The model in `Model | None` or `list[Model] | None`; None if there is none."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if get_origin(annotation) is list and not through_lists:
        return None
    found = (_model_in(part, through_lists=through_lists) for part in get_args(annotation))
    return next((model for model in found if model is not None), None)
