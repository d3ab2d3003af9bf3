"""A chat completion's body as a native generateContent body: what must be fetched for it first, and the translation. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import NamedTuple

from shared.errors import BadRequest
from shared.gemini.models import ModelInfo
from shared.generation import JsonObject
from shared.openai_format.chat_body import ChatBody
from shared.openai_format.conversation import conversation
from shared.openai_format.generation_settings import native_format, native_settings
from shared.openai_format.old_program import old_conversation
from shared.openai_format.parts import ImageUrl, Media, refer
from shared.openai_format.tools import native_tool_config, native_tools
from shared.structured.json_schema import Schema

MAX_URLS = 64
"""Maximum addresses of images in one request, each of which is fetched."""
MAX_FILES = 500
SAFETY_CATEGORIES = (
    "HARM_CATEGORY_HARASSMENT",
    "HARM_CATEGORY_HATE_SPEECH",
    "HARM_CATEGORY_SEXUALLY_EXPLICIT",
    "HARM_CATEGORY_DANGEROUS_CONTENT",
    "HARM_CATEGORY_CIVIC_INTEGRITY",
)
_WITHOUT_CALL_IDS = "gemini-2."
"""Older models reject the ids of function calls; newer ones need them to match parallel calls with their results."""


class References(NamedTuple):
    """What a body names and does not contain, each once, in the order of the messages."""

    file_ids: Mapping[str, str]
    """Id of a stored file -> the field that names it first, like `messages[0].content[1].file.file_id`, for errors."""
    urls: Mapping[str, str]
    """https URL of an image -> the field that names it first."""
    call_ids: tuple[str, ...]
    """The ids of tool calls whose thought signature the body itself does not have."""
    uses: Mapping[str, int] = {}
    """Id or URL -> how often the body names it."""


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
    """What must be fetched before `translate`. Raises BadRequest for more than may be fetched for one request."""
    files: dict[str, str] = {}
    urls: dict[str, str] = {}
    call_ids: dict[str, None] = {}
    uses: Counter[str] = Counter()
    for at, message in enumerate(body.messages or ()):
        for call in message.tool_calls or ():
            if call.signature is None:
                call_ids[call.id] = None
        if isinstance(message.content, list):
            for number, part in enumerate(message.content):
                for kind, name, field in refer(part, f"messages[{at}].content[{number}]"):
                    (files if kind == "file" else urls).setdefault(name, field)
                    uses[name] += 1
    if len(urls) > MAX_URLS or len(files) > MAX_FILES:
        most = f"{MAX_URLS} addresses of images" if len(urls) > MAX_URLS else f"{MAX_FILES} stored files"
        raise BadRequest(f"messages name more than {most}; name fewer in one request.", field="messages")
    return References(files, urls, tuple(call_ids), uses)


def check_size(names: References, found: Resolved, limit_bytes: int) -> int:
    """How long the files and images that a body names are in base64, each counted as often as it is named: a short body may name
    a large file a hundred thousand times. Raises BadRequest for more than `limit_bytes`."""
    parts = [*found.files.items(), *found.urls.items()]
    size_bytes = sum(names.uses.get(name, 1) * _data_bytes(part) for name, part in parts)
    if size_bytes > limit_bytes:
        raise BadRequest(
            f"messages name files and images of {size_bytes // 2**20} MB in base64, each counted as often as it is named, and a "
            f"request may have {limit_bytes // 2**20} MB. Name fewer, or each of them once.",
            field="messages",
            details={"limit_bytes": limit_bytes},
        )
    return size_bytes


def _data_bytes(part: JsonObject) -> int:
    return len(part["inlineData"]["data"]) if "inlineData" in part else 0


def translate(body: ChatBody, resolved: Resolved, model: ModelInfo | None = None) -> Translated:
    """The native request. `model`: what the table has of the model that will answer; None if it does not know it.
    Raises BadRequest that names the field."""
    if body.prompts is not None:
        instruction, contents = old_conversation(body.prompts)
    else:
        media = Media(resolved.files, resolved.urls)
        with_call_ids = model is None or not model.id.startswith(_WITHOUT_CALL_IDS)
        instruction, contents = conversation(
            body.messages or (), media, resolved.signatures, with_call_ids=with_call_ids
        )
    answer_format, schema = native_format(body.response_format)
    config = native_settings(body, model)
    if _has_only_small_images(body):
        config["mediaResolution"] = "MEDIA_RESOLUTION_LOW"
    native: JsonObject = {"contents": contents}
    if instruction:
        native["systemInstruction"] = {"parts": instruction}
    if config or answer_format:
        native["generationConfig"] = {**config, **answer_format}
    if body.safe_mode:
        native["safetySettings"] = [{"category": one, "threshold": "BLOCK_LOW_AND_ABOVE"} for one in SAFETY_CATEGORIES]
    _add_tools(native, body)
    options = body.google_options
    if options is not None and options.cached_content is not None:
        native["cachedContent"] = options.cached_content
    return Translated(
        model=body.model,
        body=native,
        stream=bool(body.stream),
        include_usage=body.stream_options is not None and bool(body.stream_options.include_usage),
        n=body.n or 1,
        schema=schema,
        json_only=bool(answer_format) and "responseJsonSchema" not in answer_format,
        reasoning=body.shows_thoughts,
        tool_names=tuple(tool.function.name for tool in body.tools or ()),
        parallel_calls=body.parallel_tool_calls is not False,
    )


def _add_tools(native: JsonObject, body: ChatBody) -> None:
    tools = body.tools or ()
    if made := native_tools(tools, search=body.web_search_options is not None):
        native["tools"] = made
    if (config := native_tool_config(body.tool_choice, tools)) is not None:
        native["toolConfig"] = config


def _has_only_small_images(body: ChatBody) -> bool:
    """Whether the request has media, all of it images with the detail `low`. Gemini has one resolution for a request."""
    found = False
    for message in body.messages or ():
        if isinstance(message.content, list):
            for part in message.content:
                if part.written is None:
                    if (
                        part.type != "image_url"
                        or not isinstance(part.image_url, ImageUrl)
                        or part.image_url.detail != "low"
                    ):
                        return False
                    found = True
    return found
