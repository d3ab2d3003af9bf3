"""A chat completion's body as a native generateContent body: what must be fetched for it first, and the translation. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from shared.gemini.models import ModelInfo
from shared.generation import JsonObject
from shared.openai_format.chat_body import ChatBody
from shared.structured.json_schema import Schema


class References(NamedTuple):
    """What a body names and does not contain, each once, in the order of the messages."""

    file_ids: Mapping[str, str]
    """Id of a stored file -> the field that names it first, like `messages[0].content[1].file.file_id`, for errors."""
    urls: Mapping[str, str]
    """https URL of an image -> the field that names it first."""
    call_ids: tuple[str, ...]
    """The ids of tool calls whose thought signature the body itself does not have."""


class Resolved(NamedTuple):
    """What the references of a body have led to."""

    files: Mapping[str, JsonObject] = {}
    """File id -> a native part. Must have every id of `References.file_ids`."""
    urls: Mapping[str, JsonObject] = {}
    """URL -> a native inlineData part. Must have every URL of `References.urls`."""
    signatures: Mapping[str, str] = {}
    """Call id -> thought signature, as far as they are known."""


class Translated(NamedTuple):
    """A request as it is sent on."""

    model: str | None
    """As the caller wrote it; None if absent."""
    body: JsonObject
    """For generateContent, in camelCase."""
    stream: bool
    include_usage: bool
    """Whether a stream ends with a chunk that has the usage."""
    n: int
    """How many answers, each one a generation with this body."""
    schema: Schema | None
    """The answer must conform to it: response_format json_schema with strict."""
    json_only: bool
    """The answer must be a JSON object: response_format json_object."""
    reasoning: bool
    """Whether the answer has `reasoning_content`: the model's thoughts are in Gemini's answer."""
    tool_names: tuple[str, ...]
    """The declared functions."""
    parallel_calls: bool
    """False: the answer has at most its first tool call (parallel_tool_calls: false)."""


def references(body: ChatBody) -> References:
    """What must be fetched before `translate`."""
    return References({}, {}, ())


def translate(body: ChatBody, resolved: Resolved, model: ModelInfo | None = None) -> Translated:
    """The native request. `model`: what the table has of the model that will answer; None if it does not know it.
    Raises BadRequest that names the field."""
    return Translated(body.model, {"contents": []}, bool(body.stream), False, 1, None, False, False, (), True)
