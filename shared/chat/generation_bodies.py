"""generation_config and safety_settings as pydantic models: what shared.chat.generation_config reads, described."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, Field, GetJsonSchemaHandler, model_validator
from pydantic.json_schema import SkipJsonSchema
from pydantic_core import CoreSchema

from shared.chat.generation_config import camel_case
from shared.generation import JsonObject
from shared.http.bodies import Body, Text

Ignored = Annotated[None, SkipJsonSchema()]
"""Null is as good as absent; nothing else is taken."""
_INT32 = 2**31 - 1


class _EitherSpelling(Body):
    """snake_case is described, camelCase is taken too; one name in both spellings is not."""

    @model_validator(mode="before")
    @classmethod
    def _one_spelling(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        names = {camel_case(name): name for name in cls.model_fields}
        renamed = {names.get(name, name): _whole(value) for name, value in values.items()}
        if len(renamed) < len(values):
            raise ValueError("a name is given twice, in both spellings")
        return renamed


def _whole(value: Any) -> Any:
    """5.0 -> 5: JSON Schema counts it among the integers."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


class ThinkingConfig(_EitherSpelling):
    """How much the model thinks. camelCase is taken too."""

    include_thoughts: bool | None = Field(None, description="Thoughts are not part of an answer's text.")
    thinking_budget: int | None = Field(
        None, ge=-1, le=_INT32, description="Tokens; 0 is none and -1 as the model likes. Older models only."
    )
    thinking_level: str | None = Field(
        None, examples=["low"], description="minimal, low, medium, high or xhigh: those that the model takes."
    )


class ObjectConfig(_EitherSpelling):
    """What Gemini is asked for besides the content, as it documents it. camelCase is taken too."""

    temperature: float | None = Field(None, ge=0, le=2, examples=[0.7])
    top_p: float | None = Field(None, ge=0, le=1)
    top_k: int | None = Field(None, ge=1, le=_INT32)
    candidate_count: int | None = Field(None, ge=1, le=1, description="An answer has one text.")
    max_output_tokens: int | None = Field(
        None, ge=1, le=_INT32, description="Thinking counts against it.", examples=[2048]
    )
    stop_sequences: list[Annotated[str, Field(min_length=1)]] | None = Field(None, max_length=5)
    presence_penalty: float | None = Field(None, ge=-2, le=2)
    frequency_penalty: float | None = Field(None, ge=-2, le=2)
    seed: int | None = Field(None, ge=-_INT32 - 1, le=_INT32)
    thinking_config: ThinkingConfig | None = None
    media_resolution: str | None = Field(None, examples=["MEDIA_RESOLUTION_LOW"])
    response_modalities: list[Annotated[str, Field(pattern=r"^[Tt][Ee][Xx][Tt](?![\s\S])")]] | None = Field(
        None, min_length=1, max_length=1, description="Text is what this endpoint answers with.", examples=[["TEXT"]]
    )
    image_config: Ignored = None
    speech_config: Ignored = None


class GenerationConfig(ObjectConfig):
    """What Gemini is asked for besides the text, as it documents it. camelCase is taken too."""

    response_mime_type: str | None = Field(None, examples=["application/json"])
    response_schema: dict[str, Any] | None = Field(None, description="In Gemini's own dialect.")
    response_json_schema: dict[str, Any] | None = Field(None, description="JSON Schema, passed on as it is.")


class SafetySetting(Body):
    """From when on Gemini refuses."""

    category: Text = Field(examples=["HARM_CATEGORY_HARASSMENT"])
    threshold: Text = Field(examples=["BLOCK_ONLY_HIGH"])
    method: Any = Field(None, description="Passed on as it is.")


class _DescribedBy:
    """Lets a value through as it is, for a reader to come, and describes it as `model` does."""

    def __init__(self, model: type[BaseModel]) -> None:
        self.model = model

    def __get_pydantic_json_schema__(self, _: CoreSchema, handler: GetJsonSchemaHandler) -> JsonObject:
        return handler(self.model.__pydantic_core_schema__)


ObjectConfigAsSent = Annotated[dict[str, Any], _DescribedBy(ObjectConfig)]
"""generation_config of an endpoint that chooses the answer's format itself; `generation_config()` reads it."""
