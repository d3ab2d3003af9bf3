"""Embeddings of the offline Gemini: the checks of both methods, and vectors that depend only on the text."""

from __future__ import annotations

import hashlib
import math
import sys
from array import array
from dataclasses import dataclass
from typing import Any

from . import frames, tokens
from .errors import GoogleError, invalid
from .models import Model
from .transcode import read_message

METHODS = frozenset({"embedContent", "batchEmbedContents"})
MAX_REQUESTS = 100
SIZE = 3_072
_NORMALISING = "gemini-embedding-2"
"""It returns vectors of any size with the length 1, and a token count. Another one cuts vectors off, and counts nothing."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A valid request: the text and the size of each vector, and whether it is a batch. `counts` are the input tokens of each."""

    texts: tuple[str, ...]
    sizes: tuple[int, ...]
    counts: tuple[int, ...]
    batch: bool

    @property
    def prompt(self) -> str:
        return self.texts[0]


def read(body: bytes, method: str, version: str, model: Model) -> Asked:
    """Raises GoogleError."""
    batch = method == "batchEmbedContents"
    message = read_message(body, "BatchEmbedContentsRequest" if batch else "EmbedContentRequest", version)
    requests = message.get("requests", []) if batch else [message]
    if not requests:
        raise _field("BatchEmbedContentsRequest.requests", "at least one request is required")
    if len(requests) > MAX_REQUESTS:
        raise _field("BatchEmbedContentsRequest.requests", f"at most {MAX_REQUESTS} requests can be in one batch")
    for index, one in enumerate(requests):
        where = f"BatchEmbedContentsRequest.requests[{index}]" if batch else "EmbedContentRequest"
        named = one.get("model", "" if batch else f"models/{model.id}")
        if named.removeprefix("models/") != model.id:
            raise _field(f"{where}.model", "model must be the model of the request's path")
        if not one.get("content", {}).get("parts"):
            raise _field(f"{where}.content", "contents is not specified")
        if not 1 <= one.get("outputDimensionality", SIZE) <= SIZE:
            raise _field(f"{where}.output_dimensionality", f"must be between 1 and {SIZE}")
    texts = tuple("\n".join(part.get("text", "") for part in one["content"]["parts"]) for one in requests)
    if not all(texts):
        raise invalid("Request has empty input.")
    sizes = tuple(one.get("outputDimensionality", SIZE) for one in requests)
    counts = tuple(min(tokens.count_text(text), model.input_limit) for text in texts)
    return Asked(texts, sizes, counts, batch)


def answer(asked: Asked, model: Model) -> dict[str, Any]:
    vectors = [{"values": vector(text, size, model)} for text, size in zip(asked.texts, asked.sizes, strict=True)]
    shown: dict[str, Any] = {"embeddings": vectors} if asked.batch else {"embedding": vectors[0]}
    if model.id == _NORMALISING:
        count = sum(asked.counts)
        details = frames.token_details({"TEXT": count})
        shown["usageMetadata"] = {"promptTokenCount": count, "promptTokenDetails": details}
    return shown


def vector(text: str, size: int, model: Model) -> list[float]:
    """A smaller vector begins like the larger one."""
    whole = array("h", hashlib.shake_256(f"{model.id}:{text}".encode()).digest(2 * SIZE))
    if sys.byteorder == "big":
        whole.byteswap()
    measured = whole[:size] if model.id == _NORMALISING else whole
    length = math.sqrt(sum(value * value for value in measured)) or 1.0
    return [round(value / length, 8) for value in whole[:size]]


def _field(name: str, description: str) -> GoogleError:
    return invalid(f"* {name}: {description}\n")
