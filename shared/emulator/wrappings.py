"""Ways in which a proxy, a library or Google itself wraps an answer. Each leaves the answer whole, and they can be chained.

A chain is names joined by "+". It is applied from the inside to the outside, whatever its order: documents, framing, events,
text, content codings. Of several framings the last one counts; several content codings are applied in their order, those
without a label first.
"""

from __future__ import annotations

import codecs
import json
import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from .errors import exhausted
from .odd_documents import DOCUMENTS, SURROGATES

Document = dict[str, Any]

FRAMINGS = frozenset({"sse", "array", "object", "lines"})
EVENTS = frozenset({"done-marker", "empty-data", "comments", "words", "no-final-blank-line"})
TEXTS = frozenset({"guard", "stray-tail", "bom", "utf16"})
CODINGS = frozenset(
    {"gzip", "deflate", "raw-deflate", "brotli", "gzip-unlabelled", "gzip-mislabelled", "unknown-coding"}
)
NAMES = frozenset(DOCUMENTS) | FRAMINGS | EVENTS | TEXTS | CODINGS
LATE_ERROR = "late-429"
"""A fault that can be chained like a wrapping: the answer's second half is a 429, in the framing of the answer."""
MAX_CHAIN = 8

_JSON_TYPE = "application/json; charset=UTF-8"
_SSE_TYPE = "text/event-stream"
_STRAY_TAIL = b'\r\n<!-- "served" by a proxy} -->\0'


@dataclass(frozen=True, slots=True)
class Wrapped:
    """The body of a 200 in the chunks in which it is sent; `content_encoding` is the header, "" for none."""

    chunks: Sequence[bytes]
    content_type: str
    content_encoding: str


def chain_of(kind: str) -> tuple[str, ...]:
    """The names in a fault's kind; none if it is not a chain of wrappings."""
    names = tuple(kind.split("+"))
    return names if len(names) <= MAX_CHAIN and NAMES.issuperset(set(names) - {LATE_ERROR}) else ()


def wrap(document: Document, frames: Sequence[Document], chain: Sequence[str], *, stream: bool) -> Wrapped:
    """`document` is the whole answer, `frames` are the same answer as a stream has it. Changes both."""
    framing = next((name for name in reversed(chain) if name in FRAMINGS), "sse" if stream else "object")
    documents = [document] if framing == "object" else list(frames)
    for name in chain:
        if name in DOCUMENTS:
            DOCUMENTS[name](documents)
    if LATE_ERROR in chain:
        documents = [*documents[: len(documents) // 2], exhausted().document()]
    escaped = bool(SURROGATES & set(chain))
    texts = [json.dumps(one, separators=(",", ": "), ensure_ascii=escaped) for one in documents]
    chunks = _FRAMED[framing]([text.encode("utf-8", "surrogatepass") for text in texts])
    if framing == "sse":
        chunks = _with_events(chunks, chain)
    chunks = _with_text(chunks, chain)
    encodings: list[str] = []
    for name in sorted((name for name in chain if name in CODINGS), key=lambda name: name != "gzip-unlabelled"):
        chunks, label = _CODED[name](chunks)
        encodings += [label] if label else []
    content_type = _SSE_TYPE if framing == "sse" else _JSON_TYPE
    return Wrapped(chunks, content_type, ", ".join(encodings))


# -- framing ---------------------------------------------------------------------------------------------------------


def _sse(texts: list[bytes]) -> list[bytes]:
    return [b"data: " + text + b"\r\n\r\n" for text in texts]


def _array(texts: list[bytes]) -> list[bytes]:
    last = len(texts) - 1
    return [(b"[" if i == 0 else b",\r\n") + text + (b"\n]\n" if i == last else b"\n") for i, text in enumerate(texts)]


_FRAMED: dict[str, Callable[[list[bytes]], list[bytes]]] = {
    "sse": _sse,
    "array": _array,
    "object": lambda texts: texts,
    "lines": lambda texts: [text + b"\n" for text in texts],
}


# -- events ----------------------------------------------------------------------------------------------------------


def _with_events(events: list[bytes], chain: Sequence[str]) -> list[bytes]:
    if "comments" in chain:
        events = [b": ping\nevent: message\nid: 1\nretry: 10\n" + event for event in events]
    if "words" in chain:
        events = [b"data: ping\n\n", *events]
    if "empty-data" in chain:
        events = [b"data:\n\ndata: \r\n\r\n" + event for event in events]
    if "done-marker" in chain:
        events = [*events, b"data: [DONE]\n\n"]
    if "no-final-blank-line" in chain:
        events = [*events[:-1], events[-1].rstrip(b"\r\n")]
    return events


# -- text ------------------------------------------------------------------------------------------------------------


def _with_text(chunks: list[bytes], chain: Sequence[str]) -> list[bytes]:
    if "guard" in chain:
        chunks = [b")]}'\n", *chunks]
    if "stray-tail" in chain:
        chunks = [*chunks, _STRAY_TAIL]
    if "utf16" in chain:
        plain = [chunk.decode("utf-8", "surrogatepass") for chunk in chunks]
        return [codecs.BOM_UTF16_LE, *(text.encode("utf-16-le", "surrogatepass") for text in plain)]
    return [codecs.BOM_UTF8, *chunks] if "bom" in chain else chunks


# -- content codings -------------------------------------------------------------------------------------------------


def _deflated(chunks: Iterable[bytes], window_bits: int) -> list[bytes]:
    deflate = zlib.compressobj(wbits=window_bits)
    return [*(deflate.compress(chunk) + deflate.flush(zlib.Z_SYNC_FLUSH) for chunk in chunks), deflate.flush()]


def _brotlied(chunks: Iterable[bytes]) -> list[bytes]:
    import brotli

    compressor = brotli.Compressor()
    return [*(compressor.process(chunk) + compressor.flush() for chunk in chunks), compressor.finish()]


_GZIP = zlib.MAX_WBITS | 16
_CODED: dict[str, Callable[[list[bytes]], tuple[list[bytes], str]]] = {
    "gzip": lambda chunks: (_deflated(chunks, _GZIP), "gzip"),
    "deflate": lambda chunks: (_deflated(chunks, zlib.MAX_WBITS), "deflate"),
    "raw-deflate": lambda chunks: (_deflated(chunks, -zlib.MAX_WBITS), "deflate"),
    "brotli": lambda chunks: (_brotlied(chunks), "br"),
    "gzip-unlabelled": lambda chunks: (_deflated(chunks, _GZIP), ""),
    "gzip-mislabelled": lambda chunks: (chunks, "gzip"),
    "unknown-coding": lambda chunks: (chunks, "utf-8"),
}
