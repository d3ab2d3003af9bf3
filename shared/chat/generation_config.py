"""generation_config and safety_settings of a body: both spellings are read, and camelCase is sent to Gemini.

A value is rejected here where a mistake is certain (a wrong type, a number that no model takes); Gemini judges the rest.
Names and ranges: ai.google.dev/api/generate-content#generationconfig.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Annotated, Any

from pydantic import AfterValidator, AliasChoices, AliasGenerator, ConfigDict, Field
from pydantic.alias_generators import to_camel

from shared.generation import JsonObject
from shared.http.bodies import Absent, Between, Body, Rule, Text

_INT32 = 2**31 - 1
_TEXT_ONLY = Rule('must be ["TEXT"]: this endpoint returns text; POST /generate makes images')
_NO_TEXT = Rule("is not supported for text responses; remove it")
_CHOSEN_HERE = Rule("is set by this endpoint; remove it")


class _Settings(Body):
    """A group of Gemini's settings. Fields are documented in snake_case and read in camelCase too, never in both."""

    model_config = ConfigDict(
        alias_generator=AliasGenerator(validation_alias=lambda name: AliasChoices(name, to_camel(name)))
    )

    def native(self) -> JsonObject:
        """The settings in Gemini's spelling, without null values and without fields that are only checked."""
        settings = ((camel, getattr(self, name)) for name, camel in _native_names(type(self)))
        return {
            camel: value.native() if isinstance(value, _Settings) else value
            for camel, value in settings
            if value is not None
        }


@cache
def _native_names(model: type[_Settings]) -> tuple[tuple[str, str], ...]:
    return tuple((name, to_camel(name)) for name, field in model.model_fields.items() if not field.exclude)


def _upper(level: str) -> str | None:
    return level.upper() or None


class ThinkingConfig(_Settings):
    """How much the model thinks. camelCase is taken too."""

    include_thoughts: bool | None = Field(None, description="Thoughts are not part of an answer's text.")
    thinking_budget: Annotated[int, Between(-1, _INT32)] | None = Field(
        None, description="Tokens; 0 turns thinking off, -1 lets the model decide. Older models only."
    )
    thinking_level: Annotated[str, AfterValidator(_upper)] | None = Field(
        None, examples=["low"], description="minimal, low, medium, high or xhigh, as far as the model supports it."
    )


class _TextConfig(_Settings):
    temperature: Annotated[float, Between(0, 2)] | None = Field(None, examples=[0.7])
    top_p: Annotated[float, Between(0, 1)] | None = None
    top_k: Annotated[int, Between(1, _INT32)] | None = None
    candidate_count: Annotated[Annotated[int, Between(1, 1)] | None, Rule("must be 1: a response has one text")] = (
        Field(None, exclude=True, description="A response has one text.")
    )
    max_output_tokens: Annotated[int, Between(1, _INT32)] | None = Field(
        None, description="Thinking counts against it.", examples=[2048]
    )
    stop_sequences: list[Annotated[str, Field(min_length=1)]] | None = Field(None, max_length=5)
    presence_penalty: Annotated[float, Between(-2, 2)] | None = None
    frequency_penalty: Annotated[float, Between(-2, 2)] | None = None
    seed: Annotated[int, Between(-_INT32 - 1, _INT32)] | None = None
    thinking_config: ThinkingConfig | None = None
    media_resolution: str | None = Field(None, examples=["MEDIA_RESOLUTION_LOW"])
    response_modalities: Annotated[
        list[Annotated[str, Field(pattern=r"^[Tt][Ee][Xx][Tt](?![\s\S])")]] | None, _TEXT_ONLY
    ] = Field(None, min_length=1, max_length=1, description="This endpoint returns text.", examples=[["TEXT"]])
    image_config: Annotated[Absent, _NO_TEXT] = None
    speech_config: Annotated[Absent, _NO_TEXT] = None


class ObjectConfig(_TextConfig):
    """Gemini's generation settings besides the response's format, as Gemini documents them. camelCase is taken too."""

    response_mime_type: Annotated[Absent, _CHOSEN_HERE] = None
    response_schema: Annotated[Absent, _CHOSEN_HERE] = None
    response_json_schema: Annotated[Absent, _CHOSEN_HERE] = None


class GenerationConfig(_TextConfig):
    """Gemini's generation settings, as it documents them. camelCase is taken too."""

    response_mime_type: str | None = Field(None, examples=["application/json"])
    response_schema: dict[str, Any] | None = Field(None, description="In Gemini's own dialect.")
    response_json_schema: dict[str, Any] | None = Field(None, description="JSON Schema, passed on as it is.")


class SafetySetting(Body):
    """The threshold from which Gemini blocks a category."""

    category: Text = Field(examples=["HARM_CATEGORY_HARASSMENT"])
    threshold: Text = Field(examples=["BLOCK_ONLY_HIGH"])
    method: Any = Field(None, description="Passed on as it is.")


def native_config(config: ObjectConfig | GenerationConfig | None) -> JsonObject | None:
    """None if nothing is set."""
    return (config.native() if config is not None else None) or None


def native_safety(settings: Sequence[SafetySetting] | None) -> list[JsonObject] | None:
    """None if there are none."""
    return [_as_sent(setting) for setting in settings or ()] or None


def _as_sent(setting: SafetySetting) -> JsonObject:
    sent = {"category": setting.category, "threshold": setting.threshold}
    # Not model_dump, which fails on values that are nested more than 255 deep.
    return sent if setting.method is None else {**sent, "method": setting.method}
