"""Merges the frames of a stream into the answer that a unary call would have returned. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from shared.gemini import wire
from shared.generation import JsonObject


def merged(frames: Sequence[JsonObject]) -> JsonObject:
    """One body: each candidate with its parts in order and its last finish reason; every other field has its last value that
    is not null. The frames stay unchanged."""
    body: JsonObject = {}
    counts: JsonObject | None = None
    candidates: dict[int, JsonObject] = {}
    for frame in frames:
        body.update((name, value) for name, value in frame.items() if value is not None)
        counts = wire.merge_counts(counts, frame)
        for candidate in wire.candidates(frame):
            index = wire.candidate_index(candidate)
            candidates[index] = _continued(candidates.get(index), candidate)
    if candidates:
        body["candidates"] = [{**candidate, "index": index} for index, candidate in sorted(candidates.items())]
    if counts is not None:
        body["usageMetadata"] = counts
    return body


def _continued(so_far: JsonObject | None, more: JsonObject) -> JsonObject:
    fields = {name: value for name, value in more.items() if value is not None}
    if so_far is None:
        return fields
    before, after = _content(so_far), _content(more)
    parts = [*_parts(before), *_parts(after)]
    content = {**before, **after, **({"parts": parts} if parts else {})}
    if not wire.finishes(more):
        fields.pop("finishReason", None)
    return {**so_far, **fields, **({"content": content} if content else {})}


def _content(candidate: JsonObject) -> JsonObject:
    content = candidate.get("content")
    return {name: value for name, value in content.items() if value is not None} if type(content) is dict else {}


def _parts(content: JsonObject) -> list[Any]:
    parts = content.get("parts")
    return parts if type(parts) is list else []
