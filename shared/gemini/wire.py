"""Reads Gemini's native answers, and normalizes the spelling of requests. Pure.

Answers are read as they are documented. A field that is null or of the wrong type reads as absent, with one exception: a
token count that is there and is not a count is unknown, never zero.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from shared.gemini.tokens import estimate_input_tokens
from shared.generation import UNKNOWN_USAGE, JsonObject, Usage

__all__ = [
    "all_parts",
    "asks_for_image",
    "asks_for_text_only",
    "block_message",
    "block_reason",
    "cached_tokens",
    "camel",
    "camel_content",
    "candidate_index",
    "candidates",
    "estimate_input_tokens",
    "finish_message",
    "finish_reason",
    "finishes",
    "first_candidate",
    "merge_counts",
    "model_version",
    "parts",
    "text_of",
    "usage",
]

MAX_MODEL_VERSION_CHARS = 256
MAX_BLOCK_MESSAGE_CHARS = 500
_MAX_COUNT = 2**31 - 1
"""Gemini's counts are int32 (UsageMetadata in ai.google.dev/api/generate-content)."""
_COUNTS = (
    "promptTokenCount",
    "toolUsePromptTokenCount",
    "candidatesTokenCount",
    "thoughtsTokenCount",
    "totalTokenCount",
)
_UNSPECIFIED = "_UNSPECIFIED"
"""The suffix of the default value of Google's enums, which means that the field is not set."""


def usage(body: Mapping[str, Any]) -> Usage:
    """The token counts of an answer, or of one frame, whose counts are those up to it. Tokens that tools add to the prompt
    are prompt tokens.

    Google's JSON omits zeros. So beside a positive prompt count an absent count is zero. A prompt is never empty: without a
    positive count of it nothing was counted, and what is absent or zero is unknown."""
    counts = body.get("usageMetadata")
    if type(counts) is not dict:
        return UNKNOWN_USAGE
    prompt = _count(counts, "promptTokenCount", None) or None
    tools = _count(counts, "toolUsePromptTokenCount", 0)
    output = _count(counts, "candidatesTokenCount", 0)
    thinking = _count(counts, "thoughtsTokenCount", 0)
    if prompt is None:
        output, thinking = output or None, thinking or None
    elif tools is None:
        prompt = None
    else:
        prompt += tools
    total = _count(counts, "totalTokenCount", None) or None
    if total is None and prompt is not None and output is not None and thinking is not None:
        total = prompt + output + thinking
    return Usage(prompt, output, thinking, total)


def merge_counts(so_far: JsonObject | None, frame: Mapping[str, Any]) -> JsonObject | None:
    """The `usageMetadata` of a stream after one more frame, None while no frame had any. A count is replaced by the frame's;
    one that the frame leaves out, or has as zero or as no count, stays."""
    counts = frame.get("usageMetadata")
    if type(counts) is not dict:
        return so_far
    if so_far is None:
        return counts
    newer = {
        name: counts[name]
        for name in _COUNTS
        if name in counts and (_count(counts, name, None) or not _count(so_far, name, None))
    }
    return {**so_far, **newer}


def cached_tokens(body: Mapping[str, Any]) -> int | None:
    """How many of the prompt's tokens came from a cache. As for `usage`, an absent count is zero beside a positive prompt
    count, else unknown."""
    counts = body.get("usageMetadata")
    if type(counts) is not dict:
        return None
    return _count(counts, "cachedContentTokenCount", 0 if _count(counts, "promptTokenCount", None) else None)


def _count(counts: Mapping[str, Any], name: str, absent: int | None) -> int | None:
    """The count; `absent` if the name is missing, None if the value is not a count."""
    if name not in counts:
        return absent
    value = counts[name]
    if type(value) is not int or value < 0:
        return None
    return value if value < _MAX_COUNT else _MAX_COUNT


def candidates(body: Mapping[str, Any]) -> list[dict[str, Any]]:
    found = body.get("candidates")
    return [c for c in found if type(c) is dict] if type(found) is list else []


def candidate_index(candidate: Mapping[str, Any]) -> int:
    """The candidate's index; 0 if it is absent, null or of the wrong type. Some proxies write a float or a string."""
    index = candidate.get("index")
    if type(index) is int:
        return index
    if type(index) is float and index.is_integer():
        return int(index)
    return int(index) if type(index) is str and index.isascii() and index.isdigit() and len(index) < 10 else 0


def finishes(candidate: Mapping[str, Any]) -> bool:
    """Whether a candidate, or its part in one frame of a stream, has a finish reason."""
    reason = candidate.get("finishReason")
    if not reason:
        return False
    return type(reason) is not str or not reason.endswith(_UNSPECIFIED)


def text_of(body: Mapping[str, Any]) -> str:
    """The text of candidate 0, without its thoughts."""
    return "".join([part["text"] for part in parts(body) if type(part.get("text")) is str])


def parts(body: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The parts of candidate 0, without its thoughts."""
    return [part for part in all_parts(body) if not part.get("thought")]


def all_parts(body: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The parts of candidate 0, its thoughts included."""
    content = (first_candidate(body) or {}).get("content")
    found = content.get("parts") if type(content) is dict else None
    return [part for part in found if type(part) is dict] if type(found) is list else []


def first_candidate(body: Mapping[str, Any]) -> dict[str, Any] | None:
    """Candidate 0, the only one that this gateway asks for; None if the body has none."""
    for candidate in candidates(body):
        if candidate_index(candidate) == 0:
            return candidate
    return None


def asks_for_image(body: Mapping[str, Any]) -> bool:
    """Whether a request in camelCase asks for images."""
    return "IMAGE" in _modalities(body)


def asks_for_text_only(body: Mapping[str, Any]) -> bool:
    """Whether a request in camelCase asks for text alone. Without modalities the model decides."""
    return _modalities(body) == {"TEXT"}


def _modalities(body: Mapping[str, Any]) -> set[str]:
    config = body.get("generationConfig")
    named = config.get("responseModalities") if type(config) is dict else None
    return {_MODALITIES.get(name, name.upper()) for name in map(str, named)} if type(named) is list else set()


_MODALITIES = {"1": "TEXT", "2": "IMAGE", "3": "AUDIO"}
"""The numbers of Gemini's enum, as valid in JSON as its names."""


def finish_reason(body: Mapping[str, Any]) -> str | None:
    """The finish reason of candidate 0; None before the end of a stream, and for a blocked prompt."""
    candidate = first_candidate(body)
    return None if candidate is None else _enum(candidate.get("finishReason"))


def finish_message(body: Mapping[str, Any]) -> str:
    """What Gemini says about the finish reason of candidate 0; "" if it says nothing."""
    text = (first_candidate(body) or {}).get("finishMessage")
    return text[:MAX_BLOCK_MESSAGE_CHARS] if type(text) is str else ""


def block_reason(body: Mapping[str, Any]) -> str | None:
    """Why the prompt was blocked; such an answer has no candidates."""
    feedback = body.get("promptFeedback")
    return _enum(feedback.get("blockReason")) if type(feedback) is dict else None


def block_message(body: Mapping[str, Any]) -> str:
    """What the backend says about a blocked prompt; "" from the Gemini API."""
    feedback = body.get("promptFeedback")
    text = feedback.get("blockReasonMessage") if type(feedback) is dict else None
    return text[:MAX_BLOCK_MESSAGE_CHARS] if type(text) is str else ""


def model_version(body: Mapping[str, Any]) -> str | None:
    """The id of the model that responded, to which an alias resolved. It is Google's text, not checked to be a valid id."""
    version = body.get("modelVersion")
    return version if type(version) is str and 0 < len(version) <= MAX_MODEL_VERSION_CHARS else None


def _enum(value: Any) -> str | None:
    return value if type(value) is str and value and not value.endswith(_UNSPECIFIED) else None


# The request's structure. A name without fields is a plain value or the user's own data (schemas, arguments, function
# responses, labels), which stays unchanged.
_Fields = dict[str, "_Fields | None"]


def _fields(names: str, **nested: _Fields) -> _Fields:
    return {**dict.fromkeys(names.split()), **nested}


_BLOB = _fields("mimeType data displayName")
_FILE = _fields("mimeType fileUri displayName")
_MEDIA = {
    "inlineData": _BLOB,
    "fileData": _FILE,
    "videoMetadata": _fields("startOffset endOffset fps"),
    "mediaResolution": _fields("level numTokens"),
}
_PART = _fields(
    "text thought thoughtSignature executableCode partMetadata",
    **_MEDIA,
    functionCall=_fields("id name args partialArgs willContinue"),
    functionResponse=_fields("id name response willContinue scheduling", parts=_fields("text", **_MEDIA)),
    codeExecutionResult=_fields("outcome output"),
)
_CONTENT = _fields("role", parts=_PART)
_VOICE = _fields("", prebuiltVoiceConfig=_fields("voiceName"))
_SPEAKER = _fields("speaker", voiceConfig=_VOICE)
_GENERATION_CONFIG = _fields(
    "temperature topP topK candidateCount maxOutputTokens stopSequences presencePenalty frequencyPenalty seed "
    "responseLogprobs logprobs responseMimeType responseSchema responseJsonSchema responseModalities mediaResolution "
    "enableEnhancedCivicAnswers audioTimestamp",
    thinkingConfig=_fields("includeThoughts thinkingBudget thinkingLevel"),
    imageConfig=_fields("aspectRatio imageSize personGeneration outputMimeType outputCompressionQuality"),
    speechConfig=_fields(
        "languageCode",
        voiceConfig=_VOICE,
        multiSpeakerVoiceConfig=_fields("", speakerVoiceConfigs=_SPEAKER),
    ),
)
_TOOL = _fields(
    "codeExecution",
    functionDeclarations=_fields(
        "name description behavior parameters parametersJsonSchema response responseJsonSchema"
    ),
    googleSearch=_fields("timeRangeFilter excludeDomains searchTypes blockingConfidence"),
    googleSearchRetrieval=_fields("", dynamicRetrievalConfig=_fields("mode dynamicThreshold")),
    urlContext=_fields(""),
    googleMaps=_fields("enableWidget authConfig"),
    computerUse=_fields("environment excludedPredefinedFunctions"),
    fileSearch=_fields("fileSearchStoreNames topK metadataFilter"),
)
_TOOL_CONFIG = _fields(
    "includeServerSideToolInvocations",
    functionCallingConfig=_fields("mode allowedFunctionNames streamFunctionCallArguments"),
    retrievalConfig=_fields("languageCode", latLng=_fields("latitude longitude")),
)
_GENERATE = _fields(
    "model cachedContent serviceTier store continuationToken labels",
    contents=_CONTENT,
    systemInstruction=_CONTENT,
    tools=_TOOL,
    toolConfig=_TOOL_CONFIG,
    safetySettings=_fields("category threshold method"),
    generationConfig=_GENERATION_CONFIG,
)
_EMBED = _fields("model taskType title outputDimensionality autoTruncate", content=_CONTENT)
_REQUEST = {**_GENERATE, **_EMBED, "generateContentRequest": _GENERATE, "requests": _EMBED}

_Names = dict[str, "tuple[str, _Names | None]"]


def _spellings(fields: _Fields) -> _Names:
    """Both spellings of each name, leading to camelCase and to the names below."""
    names: _Names = {}
    for name, inner in fields.items():
        entry = (name, None if inner is None else _spellings(inner))
        names[name] = entry
        names[re.sub(r"[A-Z]", lambda m: "_" + m[0].lower(), name)] = entry
    return names


_REQUEST_NAMES = _spellings(_REQUEST)
_CONTENT_NAMES = _spellings(_CONTENT)


def camel(body: JsonObject) -> JsonObject:
    """A native request with the documented fields in camelCase; the same object when it has them already.

    Both spellings are valid upstream and the official SDK mixes them. Only the request's own structure is renamed:
    never a schema, a function's arguments or response, or an unknown field. Where both spellings of a field have a value,
    camelCase stays."""
    renamed = _renamed(body, _REQUEST_NAMES)
    return renamed if type(renamed) is dict else body


def camel_content(content: JsonObject) -> JsonObject:
    """One entry of a native request's `contents`, normalized in the same way."""
    renamed = _renamed(content, _CONTENT_NAMES)
    return renamed if type(renamed) is dict else content


def _renamed(value: Any, names: _Names) -> Any:
    if type(value) is list:
        # Lists in lists are not part of the structure, so the depth is bounded by the names, not by the caller.
        items: list[Any] | None = None
        for at, item in enumerate(value):
            if type(item) is dict and (new := _renamed(item, names)) is not item:
                items = list(value) if items is None else items
                items[at] = new
        return value if items is None else items
    if type(value) is not dict:
        return value
    changes: dict[str, tuple[str, Any]] = {}
    for key, item in value.items():
        known = names.get(key)
        if known is None:
            continue
        name, inner = known
        new = item if inner is None else _renamed(item, inner)
        if new is not item or name != key:
            changes[key] = (name, new)
    return _with_changes(value, changes) if changes else value


def _with_changes(value: dict[str, Any], changes: Mapping[str, tuple[str, Any]]) -> dict[str, Any]:
    """`changes`: key -> its new name and value. Null counts as absent, so it never replaces the other spelling."""
    result: dict[str, Any] = {}
    for key, item in value.items():
        name, new = changes.get(key, (key, item))
        if name == key and new is None and name in result:
            continue
        if name == key or value.get(name) is None:
            result[name] = new
    return result
