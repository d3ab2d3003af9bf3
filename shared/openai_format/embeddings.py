"""OpenAI's embeddings request as batches of Gemini's, and vectors in the encoding that was asked for. Pure.

Each input is one request of Gemini, which counts it in its limits; up to 100 of them travel in one call of
`:batchEmbedContents`. A single input is sent by `:embedContent`, whose calls the quota of batches does not count."""

from __future__ import annotations

import base64
import math
import sys
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NamedTuple

import orjson
from pydantic import Field, GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

from shared.errors import BadRequest, UpstreamFailed, json_type
from shared.gemini.models import MAX_BATCH_INPUTS
from shared.gemini.tokens import CONTENT_TOKENS, PART_TOKENS, text_tokens
from shared.generation import JsonObject
from shared.http.bodies import AnswerBody, Between, GenerationBody

MAX_INPUTS = 2_048
"""OpenAI's maximum for one request."""
MAX_DIMENSIONS = 3_072
"""The size of the vectors of Gemini's embedding models, from which they are shortened."""
MAX_ANSWER_BYTES = 64 * 2**20
_FLOAT_BYTES, _FLOAT_TEXT_BYTES, _OBJECT_BYTES = 4, 14, 64
"""Bytes of a number as a float32 and as text, and of what surrounds a vector."""


def inputs_of(value: object) -> tuple[str, ...]:
    """The texts of `input`. Raises BadRequest naming the entry."""
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list):
        raise _wrong("input", f"must be a text or a list of texts, not {json_type(value)}")
    if not texts:
        raise _wrong("input", "is an empty list; send at least one text")
    if type(texts[0]) is int or (isinstance(texts[0], list) and texts[0] and type(texts[0][0]) is int):
        raise _wrong(
            "input",
            "is a list of tokens, which only the model that they were made for can read; send texts (in langchain-openai: "
            "check_embedding_ctx_length=False)",
        )
    if len(texts) > MAX_INPUTS:
        raise _wrong("input", f"must have at most {MAX_INPUTS} entries, not {len(texts)}; send several requests")
    for index, text in enumerate(texts):
        where = "input" if isinstance(value, str) else f"input[{index}]"
        if not isinstance(text, str):
            raise _wrong(where, f"must be a text, not {json_type(text)}")
        if not text:
            raise _wrong(where, "is an empty text, which has no embedding; leave it out")
    return tuple(texts)


def _wrong(field: str, rule: str) -> BadRequest:
    return BadRequest(f"{field} {rule}.", field=field)


@dataclass(frozen=True)
class _Inputs:
    """Metadata of `input`: how it is read and described."""

    def __get_pydantic_core_schema__(self, source: Any, _: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(inputs_of)

    def __get_pydantic_json_schema__(self, _: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        text = {"type": "string", "minLength": 1}
        return {"anyOf": [text, {"type": "array", "items": text, "minItems": 1, "maxItems": MAX_INPUTS}]}


class EmbeddingsBody(GenerationBody):
    """The parameters of OpenAI's embeddings that Gemini has."""

    input: Annotated[tuple[str, ...], _Inputs()] = Field(
        description="A text, or up to 2048 of them. Each counts as one request in the model's limits.",
        examples=["What is the meaning of life?"],
    )
    model: str | None = Field(
        None, description="A Gemini embedding model; without it gemini-embedding-2.", examples=["gemini-embedding-2"]
    )
    encoding_format: Literal["float", "base64"] | None = Field(
        None, description="`float` (the default), or `base64`: little-endian float32."
    )
    dimensions: Annotated[int, Between(1, MAX_DIMENSIONS)] | None = Field(
        None, description="The size of the vectors; without it the model's own."
    )
    user: str | None = Field(None, description="With the admin key, the caller that limits and fairness count.")

    @property
    def base64(self) -> bool:
        return self.encoding_format == "base64"

    @property
    def answer_bytes(self) -> int:
        """About how long the answer will be."""
        size = self.dimensions or MAX_DIMENSIONS
        vector = 4 * math.ceil(_FLOAT_BYTES * size / 3) if self.base64 else _FLOAT_TEXT_BYTES * size
        return len(self.input) * (vector + _OBJECT_BYTES)

    def check_size(self) -> None:
        """Raises BadRequest for an answer that would be too long."""
        if self.answer_bytes > MAX_ANSWER_BYTES:
            most = MAX_ANSWER_BYTES * len(self.input) // self.answer_bytes
            shorter = "" if self.base64 else ', send encoding_format "base64"'
            raise _wrong(
                "input",
                f"has {len(self.input)} entries, whose vectors would need about {self.answer_bytes // 2**20} MB, and an answer "
                f"has at most {MAX_ANSWER_BYTES // 2**20} MB; send at most {most} at once{shorter}, or fewer dimensions",
            )


class Part(NamedTuple):
    """The inputs `first` to `last` (exclusive), which are sent together."""

    first: int
    last: int

    def __str__(self) -> str:
        return (
            f"input[{self.first}]" if self.last == self.first + 1 else f"input[{self.first}] to input[{self.last - 1}]"
        )


def parts_of(texts: Sequence[str], most_inputs: int, most_tokens: float) -> list[Part]:
    """The inputs in order, in parts of about equal length: at most 100 inputs, and `most_inputs`, in each, and at most
    `most_tokens` estimated tokens unless a single input has more."""
    most = max(1, min(MAX_BATCH_INPUTS, most_inputs))
    even = math.ceil(len(texts) / math.ceil(len(texts) / most))
    parts: list[Part] = []
    first, tokens = 0, 0.0
    for at, text in enumerate(texts):
        needed = text_tokens(text) + CONTENT_TOKENS + PART_TOKENS
        if at > first and (at - first == even or tokens + needed > most_tokens):
            parts.append(Part(first, at))
            first, tokens = at, 0.0
        tokens += needed
    return [*parts, Part(first, len(texts))]


def native_body(model: str, texts: Sequence[str], dimensions: int | None) -> JsonObject:
    """A body of embedContent for one text, else of batchEmbedContents."""
    size = {} if dimensions is None else {"outputDimensionality": dimensions}
    requests = [{"model": f"models/{model}", "content": {"parts": [{"text": text}]}, **size} for text in texts]
    return requests[0] if len(requests) == 1 else {"requests": requests}


def vectors_of(answer: JsonObject, count: int, *, base64: bool) -> list[str | orjson.Fragment]:
    """Gemini's vectors for `count` inputs as they are sent to the caller. Raises UpstreamFailed if one is missing."""
    found = answer.get("embeddings") if "embeddings" in answer else [answer.get("embedding")]
    vectors = [one.get("values") if isinstance(one, dict) else None for one in found] if isinstance(found, list) else []
    made = [
        _base64(values) if base64 else orjson.Fragment(orjson.dumps(values))
        for values in vectors
        if isinstance(values, list) and values
    ]
    if not len(made) == len(vectors) == count:
        raise UpstreamFailed(f"Gemini's answer does not have a vector for each of {count} inputs; retry.")
    return made


def _base64(values: list[float]) -> str:
    try:
        numbers = array("f", values)
    except (TypeError, OverflowError):
        raise UpstreamFailed("Gemini's answer has a vector that does not consist of numbers; retry.") from None
    if sys.byteorder == "big":
        numbers.byteswap()
    return base64.b64encode(numbers.tobytes()).decode()


def answer_of(model: str, vectors: Sequence[str | orjson.Fragment], prompt_tokens: int | None) -> JsonObject:
    """`prompt_tokens`: None if Gemini did not count them."""
    return {
        "object": "list",
        "data": [{"object": "embedding", "index": index, "embedding": vector} for index, vector in enumerate(vectors)],
        "model": model,
        "usage": {"prompt_tokens": prompt_tokens, "total_tokens": prompt_tokens},
    }


# -- the specification -------------------------------------------------------------------------------------------------


class Embedding(AnswerBody):
    object: Literal["embedding"]
    index: int
    embedding: list[float] | str = Field(description="The vector; with `base64` its float32 numbers, little-endian.")


class EmbeddingsUsage(AnswerBody):
    """Null where Gemini does not count the tokens of embeddings, which is not zero: so with gemini-embedding-001."""

    prompt_tokens: int | None
    total_tokens: int | None


class EmbeddingsAnswer(AnswerBody):
    object: Literal["list"]
    data: list[Embedding]
    model: str = Field(examples=["gemini-embedding-2"])
    usage: EmbeddingsUsage
