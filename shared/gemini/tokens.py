"""Estimates the input tokens of a request before Gemini counts them: a safe upper estimate, not the mean. Pure.

What is reserved here is settled to Gemini's count when the answer comes, so too much only delays others for the time
of one request, while too little overruns the limit (and is booked as debt). Hence: about twice the mean for prose.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from shared.generation import FileUri

_LIGHT = b"abcdefghijklmnopqrstuvwxyz \t"
_NOT_LIGHT = bytes(b for b in range(256) if b not in _LIGHT)
_NOT_ASCII = bytes(range(128, 256))

REQUEST_TOKENS = 8
CONTENT_TOKENS = 4
"""For a turn's role and its separators."""

PART_TOKENS = 1
_CONTENT_FIELDS = frozenset({"role", "parts"})

_LONG_HISTORY = 256
_PIECE = 1024 * 1024
"""Longer texts are estimated in pieces of this many characters: each step copies its text, and 31 MB at once would block the
event loop."""
_NOT_TEXT = (b'"inlineData"', b'"fileData"', b'"cachedContent"')

CACHED_CONTENT_TOKENS = 32_768
"""For a cache of unknown size, which counts as input in full."""

UNKNOWN_FILE_TOKENS = 50_000
"""For a text file whose size is not known."""
_UNKNOWN_IMAGE_TOKENS = 2_240
_UNKNOWN_SECONDS = 300
_MIN_SECONDS = 60
_UNKNOWN_PAGES = 50

_SETTINGS = frozenset({
    "contents", "generationConfig", "model", "toolConfig", "safetySettings", "serviceTier", "store", "labels", "taskType",
    "outputDimensionality", "autoTruncate",
})  # fmt: skip
"""Fields that are not input, or that are counted separately."""
_GENERATION_SETTINGS = frozenset({
    "temperature", "topP", "topK", "candidateCount", "maxOutputTokens", "stopSequences", "presencePenalty",
    "frequencyPenalty", "seed", "responseLogprobs", "logprobs", "responseMimeType", "responseModalities",
    "mediaResolution", "enableEnhancedCivicAnswers", "audioTimestamp", "thinkingConfig", "imageConfig", "speechConfig",
})  # fmt: skip
_PART_SETTINGS = frozenset({"text", "thought", "videoMetadata", "mediaResolution"})
_DATA_FIELDS = frozenset({"mimeType", "data", "fileUri"})

_LEVELS = ("UNSPECIFIED", "LOW", "MEDIUM", "HIGH", "ULTRA_HIGH")
"""In the order of Gemini's enum: JSON may have the number or the name."""
_MAX_STATED_TOKENS = 1_000_000
"""Maximum of the token count that a part may state for its media."""
_YOUTUBE = ("youtube.com/", "youtu.be/", "youtube-nocookie.com/")

_IMAGE_TOKENS = {"LOW": 280, "MEDIUM": 560, "HIGH": 1_120, "ULTRA_HIGH": 2_240}
"""Per image, by media resolution, as Gemini 3's documentation gives them; its default is HIGH."""

_IMAGE_TOKENS_BY_SIZE = ((256 * 1024, 1_120), (1024 * 1024, 2_322))
_LARGE_IMAGE_TOKENS = 4_128
"""Without a resolution. Gemini 2.5 cuts an image into tiles of 768 pixels at 258 tokens, so the pixels matter, which an
encoded image tells only roughly: up to 4 tiles, 9 tiles, 16 tiles."""

_PAGE_TOKENS = {"LOW": 280, "MEDIUM": 560, "HIGH": 1_120, "ULTRA_HIGH": 1_120}
_DEFAULT_PAGE_TOKENS = 560
_BYTES_PER_PAGE = 8_000
_MAX_PAGES = 1_000

_AUDIO_TOKENS_PER_S = 32
_FRAME_TOKENS = {"LOW": 70, "MEDIUM": 70}
_DEFAULT_FRAME_TOKENS = 280
_VIDEO_BYTES_PER_S = 25_000
_MAX_FRAMES_PER_S = 24
_AUDIO_BYTES_PER_S = {"wav": 16_000, "x-wav": 16_000, "l16": 16_000, "pcm": 16_000, "aiff": 16_000, "flac": 8_000}
_DEFAULT_AUDIO_BYTES_PER_S = 3_000
"""Low bit rates, because a lower rate means more seconds: 200 kbit/s for video, 128 kbit/s for plain and 64 for
lossless speech, 24 for the compressed formats. A small file counts as one minute: rates say little about it."""


def estimate_input_tokens(body: Mapping[str, Any], serialised: bytes | None = None) -> int:
    """Tokens for a native request in camelCase: generateContent, embedContent or batchEmbedContents.

    `serialised` is the same body as bytes, if it is there already: a very long history is then estimated in one pass
    over them (higher, since punctuation counts).
    Settings are not counted; a response schema is, as Gemini does, and so is every field that is not known here. A list of
    one entry may be written without its brackets, as Gemini takes it."""
    contents = body.get("contents")
    is_long = type(contents) is list and len(contents) > _LONG_HISTORY
    if is_long and serialised is not None and not any(name in serialised for name in _NOT_TEXT):
        return REQUEST_TOKENS + int(_utf8_tokens(serialised, serialised.isascii()))
    tokens: float = REQUEST_TOKENS
    config = body.get("generationConfig")
    level: str | None = None
    if type(config) is dict:
        level = _level(config.get("mediaResolution"))
        for key, value in config.items():
            if key not in _GENERATION_SETTINGS and value is not None:
                tokens += _json_tokens(value)
    for content in _listed(contents):
        tokens += _content_tokens(content, level)
    for key, value in body.items():
        if key in _SETTINGS or value is None:
            continue
        if key in ("systemInstruction", "content"):
            tokens += _content_tokens(value, level)
        elif key == "cachedContent":
            tokens += CACHED_CONTENT_TOKENS
        elif key == "requests":
            for request in _listed(value):
                if type(request) is dict and "requests" not in request:
                    tokens += estimate_input_tokens(request)
        else:
            # Tools, a title, and unknown fields: Gemini may read them.
            tokens += _json_tokens(value)
    return int(tokens + 0.999)


def text_tokens(text: str) -> float:
    """A small letter, space or tab of ASCII counts 1/2 (English has about 4.5 of them to a token, gibberish 2); every
    other ASCII byte 1 (digits and capitals are often tokens of their own); any other byte 2/3 (a Cyrillic letter 1.3,
    a Han character 2, an emoji 2.7: two to four times what they cost)."""
    if len(text) <= _PIECE:
        return _utf8_tokens(text.encode("utf-8", "surrogatepass"), text.isascii())
    pieces = (text[at : at + _PIECE] for at in range(0, len(text), _PIECE))
    return sum(_utf8_tokens(piece.encode("utf-8", "surrogatepass"), piece.isascii()) for piece in pieces)


def media_tokens(
    mime_type: str, size_bytes: int | None, *, resolution: str | None = None, frames_per_s: float = 1.0
) -> int:
    """Tokens of one image, page file, recording or video. `size_bytes` is of the file, decoded; None when unknown.
    `resolution`: LOW, MEDIUM, HIGH, ULTRA_HIGH."""
    kind, _, subtype = mime_type.lower().partition(";")[0].strip().partition("/")
    if size_bytes is None and (not kind or subtype == "octet-stream"):
        # It may be any kind of file; a video has the most tokens.
        kind = "video"
    if kind == "image":
        return _image_tokens(size_bytes, resolution)
    if subtype == "pdf":
        pages = _UNKNOWN_PAGES if size_bytes is None else min(_MAX_PAGES, 1 + size_bytes // _BYTES_PER_PAGE)
        return pages * _PAGE_TOKENS.get(resolution or "", _DEFAULT_PAGE_TOKENS)
    if kind == "audio":
        rate = _AUDIO_BYTES_PER_S.get(subtype, _DEFAULT_AUDIO_BYTES_PER_S)
        seconds = _UNKNOWN_SECONDS if size_bytes is None else max(_MIN_SECONDS, size_bytes // rate)
        return seconds * _AUDIO_TOKENS_PER_S
    if kind == "video":
        seconds = _UNKNOWN_SECONDS if size_bytes is None else max(_MIN_SECONDS, size_bytes // _VIDEO_BYTES_PER_S)
        frames_per_s = min(max(frames_per_s, 1.0), _MAX_FRAMES_PER_S)
        frame_tokens = _FRAME_TOKENS.get(resolution or "", _DEFAULT_FRAME_TOKENS)
        return int(seconds * (frames_per_s * frame_tokens + _AUDIO_TOKENS_PER_S))
    # A text file in an unknown script.
    return UNKNOWN_FILE_TOKENS if size_bytes is None else 1 + size_bytes * 2 // 3


def _image_tokens(size_bytes: int | None, resolution: str | None) -> int:
    if resolution in _IMAGE_TOKENS:
        return _IMAGE_TOKENS[resolution]
    if size_bytes is None:
        return _UNKNOWN_IMAGE_TOKENS
    return next((tokens for limit, tokens in _IMAGE_TOKENS_BY_SIZE if size_bytes <= limit), _LARGE_IMAGE_TOKENS)


def _content_tokens(content: Any, level: str | None) -> float:
    if type(content) is not dict:
        return _json_tokens(content)
    tokens: float = CONTENT_TOKENS
    if len(content) > 2 or not content.keys() <= _CONTENT_FIELDS:
        tokens += sum(_json_tokens(value) for key, value in content.items() if key not in _CONTENT_FIELDS)
    return tokens + _parts_tokens(_listed(content.get("parts")), level)


def _listed(value: Any) -> Sequence[Any]:
    """A list as it is, one entry as a list of one, null as none."""
    if type(value) is list:
        return value
    return () if value is None else (value,)


def _parts_tokens(parts: Sequence[Any], level: str | None) -> float:
    tokens = 0.0
    for part in parts:
        tokens += PART_TOKENS
        if type(part) is dict:
            text = part.get("text")
            if type(text) is str:
                tokens += text_tokens(text)
                if len(part) == 1:
                    continue
            tokens += _part_tokens(part, level)
        else:
            tokens += _json_tokens(part)
    return tokens


def _part_tokens(part: dict[str, Any], level: str | None) -> float:
    """Tokens of a part without its text."""
    tokens = 0.0
    for key, value in part.items():
        if key in ("inlineData", "fileData") and value is not None:
            tokens += _data_tokens(part, value, level)
        elif key == "thoughtSignature" and type(value) is str:
            # An opaque record of earlier thoughts, which are counted again.
            tokens += len(value) / 2
        elif key == "functionResponse" and type(value) is dict and "parts" in value:
            tokens += _json_tokens({k: v for k, v in value.items() if k != "parts"})
            for inner in _listed(value["parts"]):
                # Its parts have no function responses of their own, so that no depth is the caller's.
                plain = type(inner) is dict and "functionResponse" not in inner
                tokens += _parts_tokens((inner,), level) if plain else _json_tokens(inner)
        elif key not in _PART_SETTINGS and value is not None:
            tokens += len(key) + _json_tokens(value)
    return tokens


def _data_tokens(part: dict[str, Any], data: Any, level: str | None) -> float:
    if type(data) is not dict:
        return _json_tokens(data)
    mime_type = str(data.get("mimeType") or "")
    encoded, uri = data.get("data"), data.get("fileUri")
    size_bytes = len(encoded) * 3 // 4 if type(encoded) is str else None
    if isinstance(uri, FileUri):
        size_bytes = uri.source.size_bytes
    elif size_bytes is None and type(uri) is str and any(host in uri.lower() for host in _YOUTUBE):
        mime_type = "video/mp4"
    others = sum(_json_tokens(value) for key, value in data.items() if key not in _DATA_FIELDS)
    metadata, resolution = part.get("videoMetadata"), part.get("mediaResolution")
    tokens = media_tokens(
        mime_type,
        size_bytes,
        resolution=_level(resolution) or level,
        frames_per_s=_number(metadata.get("fps") if type(metadata) is dict else None),
    )
    stated = _number(resolution.get("numTokens") if type(resolution) is dict else None)
    return others + max(tokens, min(stated, _MAX_STATED_TOKENS))


def _level(resolution: Any) -> str | None:
    """`MEDIA_RESOLUTION_HIGH`, in small letters too, its number 3, or an object with one of them as `level` -> `HIGH`."""
    if type(resolution) is dict:
        resolution = resolution.get("level")
    if type(resolution) is int:
        return _LEVELS[resolution] if 0 < resolution < len(_LEVELS) else None
    return resolution.upper().removeprefix("MEDIA_RESOLUTION_") if type(resolution) is str else None


def _number(value: Any) -> float:
    """A number, given as a number or a string (both are valid in Gemini's JSON); 1 for anything else."""
    try:
        number = float(value) if isinstance(value, int | float | str) else 1.0
    except (ValueError, OverflowError):
        return 1.0
    return 1.0 if math.isnan(number) else number


def _json_tokens(value: Any) -> float:
    """Tools, schemas and arguments as their JSON text: serialising a part is faster than walking it in Python."""
    data = orjson.dumps(value)
    return _utf8_tokens(data, data.isascii())


def _utf8_tokens(data: bytes, is_ascii: bool) -> float:
    size = len(data)
    if size > 4 * _PIECE:
        return sum(_utf8_tokens(data[at : at + _PIECE], is_ascii) for at in range(0, size, _PIECE))
    light = len(data.translate(None, _NOT_LIGHT))
    wide = 0 if is_ascii else size - len(data.translate(None, _NOT_ASCII))
    return light / 2 + wide * 2 / 3 + (size - light - wide)
