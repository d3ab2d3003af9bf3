"""Request and answer bodies as pydantic models: they read a body, and they describe it in the specification.

A function that must start fast reads with `shared.http.fields` instead (importing pydantic takes 75 ms of a cold start); its
models then only describe, and the tests hold them to what the function does.
"""

from __future__ import annotations

from typing import Annotated, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, ValidationError
from pydantic_core import ErrorDetails

from shared.errors import BadRequest
from shared.generation import JsonObject
from shared.http.fields import kind, not_known, told

NOT_BLANK = r"[^\t-\r\x1c- \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]"
"""A character that `str.strip` does not take away. Written out, since each language's `\\S` is another one: U+0085 is white
space to Python and none to JavaScript."""
Text = Annotated[str, StringConstraints(pattern=NOT_BLANK)]
"""A text with something other than white space in it, kept as it was sent."""


def whole(minimum: int, maximum: int) -> BeforeValidator:
    """Of a whole number within bounds, which the field has to tell too; 5.0 is one, as JSON Schema counts."""

    def check(value: object) -> object:
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int) or not minimum <= value <= maximum:
            raise ValueError(f"must be a whole number from {minimum} to {maximum}")
        return value

    return BeforeValidator(check)


_PATTERNS = {NOT_BLANK: "is empty; send a text"}


class Body(BaseModel):
    """A JSON object in which every field is known."""

    # Python's patterns: pydantic's own have no (?!...).
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, regex_engine="python-re")


class Credentials(BaseModel):
    """The caller's own key. Read before the body is: here it is only described."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    gemini_api_key: str | None = Field(None, description="A Gemini API key; Google bills the caller, not the server.")


class GenerationBody(Body):
    """What every generating endpoint takes."""

    model: str | None = Field(
        None,
        description="A Gemini model id; without it the operator's or this endpoint's default.",
        examples=["gemini-3.8-flash"],
    )
    credentials: Credentials | None = Field(None, description="In place of a credential in a header.")


class ImageBody(GenerationBody):
    """What an endpoint that makes images takes."""

    model: str | None = Field(
        None,
        description="A Gemini model that makes images; without it this endpoint's default.",
        examples=["gemini-3-pro-image"],
    )


class UsageBody(BaseModel):
    """Tokens as Gemini counted them; null where it did not count, which is not zero."""

    prompt_tokens: int | None
    output_tokens: int | None
    thinking_tokens: int | None
    total_tokens: int | None = Field(description="prompt + output + thinking")


class GenerationAnswer(BaseModel):
    """What every generating endpoint answers, besides what it is asked for."""

    model: str = Field(description="The model that answered.", examples=["gemini-3.8-flash"])
    finish_reason: str | None = Field(description="Gemini's.", examples=["STOP"])
    usage: UsageBody
    request_id: str = Field(description="As in the header x-request-id, and in the log.")


Model = TypeVar("Model", bound=BaseModel)


def read(model: type[Model], values: JsonObject) -> Model:
    """The body as `model`. Raises BadRequest for the first field that is wrong."""
    fields = model.model_fields
    if len(values) > len(fields):
        # One of them is unknown, and pydantic would make an error for each.
        name = next(name for name in values if name not in fields)
        raise BadRequest(f"{told(name)} {not_known(name, fields)}.", field=told(name))
    try:
        return model.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
    path = _path(first["loc"])
    raise BadRequest(f"{path} {_rule(first, model)}.", field=path)


def _path(location: tuple[int | str, ...]) -> str:
    """("history", 0, "role") -> "history[0].role"."""
    path = "".join(f"[{step}]" if isinstance(step, int) else f".{told(step)}" for step in location)
    return path.removeprefix(".") or "the body"


_TYPES = {
    "string": "a string",
    "bool": "true or false",
    "int": "a whole number",
    "float": "a number",
    "list": "a list",
    "dict": "an object",
    "model": "an object",
}


def _rule(error: ErrorDetails, model: type[BaseModel]) -> str:
    """What the value must be, after the field's name in a sentence."""
    given, why, context = error["input"], error["type"], error.get("ctx", {})
    if why == "missing":
        field = model.model_fields.get(str(error["loc"][0])) if len(error["loc"]) == 1 else None
        return "is required" + (f": {field.description.rstrip('.')}" if field is not None and field.description else "")
    if why == "extra_forbidden":
        return not_known(str(error["loc"][-1]), _known(model, error["loc"]))
    if why == "string_pattern_mismatch":
        return _PATTERNS.get(context["pattern"]) or f"must match {context['pattern']}"
    if why == "too_long":
        return f"must have at most {context['max_length']} entries, not {context['actual_length']}"
    if why == "string_too_short" and context["min_length"] == 1:
        return "is empty"
    name, _, reason = why.rpartition("_")
    if reason in ("type", "parsing") and name in _TYPES:
        return f"must be {_TYPES[name]}, not {kind(given)}"
    if why in ("literal_error", "enum"):
        return f"must be {context['expected']}"
    return _said(error["msg"])


def _known(model: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    return list(model.model_fields) if len(location) == 1 else []


def _said(message: str) -> str:
    """pydantic's own words, as the rest of a sentence: "Value error, must be x" -> "must be x"."""
    text = message.removeprefix("Value error, ").removeprefix("Assertion failed, ")
    return (
        text
        if text.startswith(("must ", "is ", "holds ", "belongs "))
        else f"is not valid: {text[:1].lower()}{text[1:]}"
    )
