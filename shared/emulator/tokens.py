"""The token counts of the offline Gemini: computed from bytes, with a spread that depends only on the content.

A gateway estimates tokens before it knows the count. So that these counts differ from its estimates, each text's count is
its UTF-8 bytes / 4 times a factor in [0.85, 1.15] drawn from the text.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterable, Mapping
from typing import Any

import orjson

BYTES_PER_TOKEN = 4
SPREAD = 0.15

# Google: 258 tokens per 768 px tile; 32 and 263 tokens a second of audio and video, taken here as a minute of each.
_MEDIA_TOKENS = {"image": 258, "audio": 32 * 60, "video": 263 * 60}
_DOCUMENT_TOKENS = 258


def count_text(text: str) -> int:
    data = text.encode()
    if not data:
        return 0
    unit = zlib.crc32(data) % 1001 / 1000
    return max(1, math.ceil(len(data) / BYTES_PER_TOKEN * (1 - SPREAD + 2 * SPREAD * unit)))


def longest_prefix(text: str, tokens: int) -> str:
    """The start of a text that certainly counts as at most `tokens`."""
    size_bytes = max(0, int(tokens * BYTES_PER_TOKEN / (1 + SPREAD)))
    return text.encode()[:size_bytes].decode("utf-8", "ignore")


def count_request(request: Mapping[str, Any]) -> dict[str, int]:
    """Input tokens of a normalised GenerateContentRequest by modality (TEXT first); TEXT is there even when 0."""
    counts = {"TEXT": 0}
    system = request.get("systemInstruction")
    for content in (*request.get("contents", ()), *((system,) if system else ())):
        _count_parts(content.get("parts", ()), counts)
    if tools := request.get("tools"):
        counts["TEXT"] += count_text(orjson.dumps(tools).decode())
    return counts


def _count_parts(parts: Iterable[Mapping[str, Any]], counts: dict[str, int]) -> None:
    for part in parts:
        if "text" in part:
            counts["TEXT"] += count_text(part["text"])
        elif media := part.get("inlineData") or part.get("fileData"):
            family = media.get("mimeType", "").partition("/")[0]
            if family == "text":
                counts["TEXT"] += math.ceil(len(media.get("data", "")) * 3 / 4 / BYTES_PER_TOKEN)
                continue
            modality = family.upper() if family in _MEDIA_TOKENS else "DOCUMENT"
            counts[modality] = counts.get(modality, 0) + _MEDIA_TOKENS.get(family, _DOCUMENT_TOKENS)
        else:
            counts["TEXT"] += count_text(orjson.dumps(part).decode())
