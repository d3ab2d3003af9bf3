"""Sampling, reasoning and the answer's format, as Gemini's generationConfig. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import AliasChoices, Field, model_validator

from shared.chat.generation_config import ThinkingConfig
from shared.gemini.models import ModelInfo
from shared.generation import JsonObject
from shared.http.bodies import Between, Body, GenerationBody, OrText, Rule, wrong
from shared.structured.json_schema import Schema, check_schema

MAX_ANSWERS = 8
MAX_STOPS = 5
"""Gemini takes one more than OpenAI."""
Effort = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]
_EFFORTS: Sequence[str] = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
_LEVELS_OF_UNKNOWN_MODELS = ("low", "medium", "high")
"""Every model that takes levels takes these."""
_INT32 = 2**31 - 1
_INT64 = 2**63 - 1
_SCHEMA_FIELD = "response_format.json_schema.schema"
_MODALITIES = Rule('must be ["text"], ["image"] or both; speech is not supported')
Stops = Annotated[list[Annotated[str, Field(min_length=1)]], Field(max_length=MAX_STOPS)]


class JsonSchemaFormat(Body):
    name: Any = Field(None, description="Ignored: Gemini's schemas have no name.")
    description: Any = Field(None, description="Ignored: put it into the schema.")
    schema_: dict[str, Any] | None = Field(
        None, validation_alias=AliasChoices("schema"), description="JSON Schema (draft 2020-12) of the answer."
    )
    strict: bool | None = Field(
        None,
        description="Whether the answer is checked, and repaired once. Otherwise the schema is only sent to Gemini.",
    )


class ResponseFormat(Body):
    type: Literal["text", "json_object", "json_schema"] = Field(description="What the answer is.")
    json_schema: JsonSchemaFormat | None = Field(None, description="Of type json_schema.")

    @model_validator(mode="after")
    def _of_its_type(self) -> ResponseFormat:
        if (self.json_schema is not None) != (self.type == "json_schema"):
            raise wrong(
                "json_schema", "is required in a response_format of type json_schema, and must be absent in others"
            )
        return self


class GoogleOptions(Body):
    """What OpenAI's API has no parameter for, as Google's own OpenAI endpoint names it."""

    thinking_config: ThinkingConfig | None = None
    cached_content: str | None = Field(None, min_length=1, examples=["cachedContents/abc"])


class ExtraBody(Body):
    """The same as `google` beside it, for clients that send `extra_body` as a field."""

    google: GoogleOptions | None = None


class SettingsBody(GenerationBody):
    """The parameters that become generationConfig."""

    max_completion_tokens: Annotated[int, Between(1, _INT32)] | None = Field(
        None, description="Maximum tokens of an answer. The model's thinking counts."
    )
    max_tokens: Annotated[int, Between(1, _INT32)] | None = Field(
        None, description="The same as max_completion_tokens; both must be equal."
    )
    temperature: Annotated[float, Between(0, 2)] | None = Field(None, description="From 0 to 2.", examples=[0.7])
    top_p: Annotated[float, Between(0, 1)] | None = Field(None, description="From 0 to 1.")
    top_k: Annotated[int, Between(1, _INT32)] | None = Field(
        None, description="How many of the likeliest tokens are considered."
    )
    presence_penalty: Annotated[float, Between(-2, 2)] | None = Field(None, description="From -2 to 2.")
    frequency_penalty: Annotated[float, Between(-2, 2)] | None = Field(None, description="From -2 to 2.")
    seed: Annotated[int, Between(-_INT64 - 1, _INT64)] | None = Field(
        None, description="Gemini takes 32 bits: of a larger seed, the lowest 31."
    )
    stop: Annotated[str | Stops | None, OrText("a list of texts")] = Field(
        None, description=f"A text that ends the answer, or up to {MAX_STOPS}."
    )
    reasoning_effort: Effort | None = Field(
        None,
        description="The model's nearest thinking level; `none` is its lowest. Nothing is sent to a model without levels.",
    )
    response_format: ResponseFormat | None = Field(None, description="text, json_object or json_schema.")
    modalities: Annotated[list[Literal["text", "image"]] | None, _MODALITIES] = Field(
        None,
        min_length=1,
        max_length=2,
        description="`image` is not in OpenAI's API, and needs a model that makes images.",
    )
    google: GoogleOptions | None = Field(
        None,
        description='thinking_config and cached_content; openai-python sends it with `extra_body={"google": ...}`.',
    )
    extra_body: ExtraBody | None = Field(None, description="`google`, where a client sends extra_body as a field.")

    @model_validator(mode="after")
    def _settings_agree(self) -> SettingsBody:
        if self.max_tokens is not None and self.max_completion_tokens not in (None, self.max_tokens):
            raise wrong("max_tokens", "and max_completion_tokens differ; send only max_completion_tokens")
        if self.stop == "":
            raise wrong("stop", "is empty; send a text, or remove it")
        if self.google is not None and self.extra_body is not None and self.extra_body.google is not None:
            raise wrong("google", "and extra_body.google are mutually exclusive; send one")
        options = self.google_options
        if self.reasoning_effort is not None and options is not None and options.thinking_config is not None:
            raise wrong("reasoning_effort", "and google.thinking_config are mutually exclusive; send one")
        return self

    @property
    def google_options(self) -> GoogleOptions | None:
        return self.google or (self.extra_body.google if self.extra_body is not None else None)

    @property
    def shows_thoughts(self) -> bool:
        options = self.google_options
        thinking = options.thinking_config if options is not None else None
        return thinking is not None and bool(thinking.include_thoughts)


def native_settings(body: SettingsBody, model: ModelInfo | None) -> JsonObject:
    """generationConfig without the answer's format; {} if nothing is set. `model`: what the table has of the model that will
    answer; None if it does not know it."""
    limit = body.max_tokens if body.max_completion_tokens is None else body.max_completion_tokens
    seed = body.seed
    if seed is not None and not -_INT32 - 1 <= seed <= _INT32:
        seed &= _INT32
    stops = [body.stop] if isinstance(body.stop, str) else body.stop
    settings: JsonObject = {
        "maxOutputTokens": limit,
        "temperature": body.temperature,
        "topP": body.top_p,
        "topK": body.top_k,
        "presencePenalty": body.presence_penalty,
        "frequencyPenalty": body.frequency_penalty,
        "seed": seed,
        "stopSequences": stops or None,
        "responseModalities": [one.upper() for one in body.modalities] if body.modalities else None,
        "thinkingConfig": _thinking(body, model),
    }
    return {name: value for name, value in settings.items() if value is not None}


def native_format(asked: ResponseFormat | None) -> tuple[JsonObject, Schema | None]:
    """The answer's format in generationConfig, and the schema that the answer must conform to. Raises BadRequest."""
    if asked is None or asked.type == "text":
        return {}, None
    config: JsonObject = {"responseMimeType": "application/json"}
    wanted = asked.json_schema
    if wanted is None or wanted.schema_ is None:
        return config, None
    schema = check_schema(wanted.schema_, _SCHEMA_FIELD)
    return {**config, "responseJsonSchema": schema.document}, schema if wanted.strict else None


def nearest_level(effort: str, levels: Sequence[str]) -> str:
    """The thinking level nearest to an effort; of two, the lower one. `levels`: at least one."""
    wanted = _EFFORTS.index(effort)
    places = {level: _EFFORTS.index(level) for level in levels}
    return min(levels, key=lambda level: (abs(places[level] - wanted), places[level]))


def _thinking(body: SettingsBody, model: ModelInfo | None) -> JsonObject | None:
    options = body.google_options
    if options is not None and options.thinking_config is not None:
        return options.thinking_config.native() or None
    levels = _LEVELS_OF_UNKNOWN_MODELS if model is None else model.thinking_levels
    if body.reasoning_effort is None or not levels:
        return None
    return {"thinkingLevel": nearest_level(body.reasoning_effort, levels).upper()}
