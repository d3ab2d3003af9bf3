"""The web pages that an answer with Google Search cites, as OpenAI's annotations. Pure.

Gemini counts the bytes of a text, OpenAI its characters (GroundingMetadata in ai.google.dev/api/generate-content).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from shared.gemini import wire
from shared.generation import JsonObject

MAX_CITATIONS = 500


def citations(body: JsonObject, text: str) -> list[JsonObject]:
    """Of an answer, or of the frame of a stream that has them; `text` is the whole text of the answer. At most MAX_CITATIONS."""
    grounding = (wire.first_candidate(body) or {}).get("groundingMetadata")
    if type(grounding) is not dict:
        return []
    pages = [_page(chunk) for chunk in _list(grounding.get("groundingChunks"))]
    data = text.encode()
    found: list[JsonObject] = []
    for support in _list(grounding.get("groundingSupports"))[:MAX_CITATIONS]:
        if type(support) is dict and (place := _place(support.get("segment"), text, data)) is not None:
            found += _annotations(support, pages, place)
    return found[:MAX_CITATIONS]


def _annotations(
    support: JsonObject, pages: list[tuple[str, str] | None], place: tuple[int, int]
) -> Iterator[JsonObject]:
    for index in _list(support.get("groundingChunkIndices")):
        page = pages[index] if type(index) is int and 0 <= index < len(pages) else None
        if page is not None:
            start, end = place
            cited = {"start_index": start, "end_index": end, "url": page[0], "title": page[1]}
            yield {"type": "url_citation", "url_citation": cited}


def _page(chunk: Any) -> tuple[str, str] | None:
    """URL and title."""
    web = chunk.get("web") if type(chunk) is dict else None
    if type(web) is not dict or type(url := web.get("uri")) is not str:
        return None
    title = web.get("title")
    return url, title if type(title) is str else ""


def _place(segment: Any, text: str, data: bytes) -> tuple[int, int] | None:
    """Where the segment is, in characters. `data`: the text in UTF-8. The segment's bytes are counted within one
    part; a text that is not there is searched for."""
    if type(segment) is not dict:
        return None
    start, end = segment.get("startIndex", 0), segment.get("endIndex")
    cited = segment.get("text") if type(segment.get("text")) is str else None
    if type(start) is int and type(end) is int and 0 <= start <= end:
        first, last = (len(data[:place].decode(errors="ignore")) for place in (start, end))
        if cited is None or text[first:last] == cited:
            return first, last
    at = text.find(cited) if cited else -1
    return None if cited is None or at < 0 else (at, at + len(cited))


def _list(value: Any) -> list[Any]:
    return value if type(value) is list else []
