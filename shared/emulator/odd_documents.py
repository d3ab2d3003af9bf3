"""Answers in a form that Google does not document, or without its token counts. Each function changes documents in place:
the one document of a unary answer, or the frames of a stream."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Document = dict[str, Any]
Change = Callable[[list[Document]], None]

_PART_FIELDS = ("thought", "thoughtSignature", "inlineData", "functionCall", "fileData", "videoMetadata")
_CANDIDATE_FIELDS = ("finishReason", "finishMessage", "safetyRatings", "citationMetadata", "tokenCount", "avgLogprobs")
_BODY_FIELDS = ("promptFeedback", "error", "createTime", "modelStatus")
_SMILE_HALVES = ("\ud83d", "\ude00")
_COUNTS = ("promptTokenCount", "candidatesTokenCount", "thoughtsTokenCount", "totalTokenCount")


def _candidates(documents: list[Document]) -> list[Document]:
    return [candidate for document in documents for candidate in document.get("candidates") or ()]


def _nulls(documents: list[Document]) -> None:
    """Absent fields come as null, and so does an index of 0."""
    for document in documents:
        for name in _BODY_FIELDS:
            document.setdefault(name, None)
        document.setdefault("candidates", None)
    for candidate in _candidates(documents):
        for name in _CANDIDATE_FIELDS:
            candidate.setdefault(name, None)
        candidate["index"] = candidate.get("index") or None
        content = candidate.setdefault("content", None)
        if content is not None:
            for part in content.setdefault("parts", None) or ():
                part.setdefault("text", None)
                for name in _PART_FIELDS:
                    part.setdefault(name, None)


def _indices(spell: Callable[[int], Any]) -> Change:
    def change(documents: list[Document]) -> None:
        for candidate in _candidates(documents):
            candidate["index"] = spell(int(float(candidate.get("index") or 0)))

    return change


def _enum_defaults(documents: list[Document]) -> None:
    """Enums that are not set come as their default."""
    for candidate in _candidates(documents):
        if not candidate.get("finishReason"):
            candidate["finishReason"] = "FINISH_REASON_UNSPECIFIED"
    for document in documents:
        if not document.get("promptFeedback"):
            document["promptFeedback"] = {"blockReason": "BLOCK_REASON_UNSPECIFIED"}


def _usage(change: Callable[[Document], Any]) -> Change:
    """Replace every document's usageMetadata with what `change` returns; None removes it."""

    def apply(documents: list[Document]) -> None:
        for document in documents:
            counts = document.pop("usageMetadata", None)
            counts = change(counts if isinstance(counts, dict) else {})
            if counts is not None:
                document["usageMetadata"] = counts

    return apply


def _each_count(spell: Callable[[int], Any]) -> Change:
    def respell(counts: Document) -> Document:
        return {name: spell(count if isinstance(count := counts.get(name), int) else 0) for name in _COUNTS}

    return _usage(respell)


def _usage_null(documents: list[Document]) -> None:
    for document in documents:
        document["usageMetadata"] = None


def _usage_late(documents: list[Document]) -> None:
    for document in documents[:-1]:
        document.pop("usageMetadata", None)


def _version(text: str | None) -> Change:
    def change(documents: list[Document]) -> None:
        for document in documents:
            document["modelVersion"] = text

    return change


def _texts(documents: list[Document]) -> list[tuple[list[Any], int]]:
    """The places of the answer's texts: (parts, position)."""
    found = []
    for candidate in _candidates(documents):
        parts = (candidate.get("content") or {}).get("parts") or []
        found += [(parts, at) for at, part in enumerate(parts) if part.get("text") and not part.get("thought")]
    return found


def _halves(documents: list[Document]) -> None:
    """Split each candidate's first text in two, in the middle of a character that is a surrogate pair."""
    places = _texts(documents)
    if len(places) >= 2 and places[0][0] is not places[1][0]:
        (parts, at), (more, then) = places[:2]
        parts[at]["text"] += _SMILE_HALVES[0]
        more[then]["text"] = _SMILE_HALVES[1] + more[then]["text"]
    elif places:
        parts, at = places[0]
        parts[at]["text"] += _SMILE_HALVES[0]
        parts.insert(at + 1, {"text": _SMILE_HALVES[1]})


def _lone_half(documents: list[Document]) -> None:
    for parts, at in _texts(documents)[-1:]:
        parts[at]["text"] += _SMILE_HALVES[0]


SURROGATES = frozenset({"halves", "lone-half"})
"""These need JSON escapes, because half of a surrogate pair cannot be encoded as UTF-8."""

DOCUMENTS: dict[str, Change] = {
    "nulls": _nulls,
    "index-null": _indices(lambda index: index or None),
    "index-float": _indices(float),
    "index-text": _indices(str),
    "enum-defaults": _enum_defaults,
    "usage-missing": _usage(lambda _: None),
    "usage-null": _usage_null,
    "usage-list": _usage(lambda counts: [counts]),
    "usage-empty": _usage(lambda _: {"trafficType": "ON_DEMAND"}),
    "usage-null-counts": _each_count(lambda _: None),
    "usage-text": _each_count(str),
    "usage-float": _each_count(float),
    "usage-negative": _each_count(lambda count: -max(1, abs(count))),
    "usage-zero": _each_count(lambda _: 0),
    "usage-total": _usage(lambda counts: {"totalTokenCount": counts.get("totalTokenCount", 0)}),
    "usage-late": _usage_late,
    "version-null": _version(None),
    "version-unicode": _version("gemini-模型"),
    "version-newline": _version("gemini\r\nx-injected: yes"),
    "version-long": _version("g" * 100_000),
    "halves": _halves,
    "raw-halves": _halves,
    "lone-half": _lone_half,
}
