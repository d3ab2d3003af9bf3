"""OpenAI's embeddings request as Gemini's, and the vectors back."""

from __future__ import annotations

import base64
import struct

import orjson
import pytest

from shared.errors import BadRequest, UpstreamFailed
from shared.http.bodies import read
from shared.openai_format.embeddings import (
    MAX_ANSWER_BYTES,
    EmbeddingsBody,
    Part,
    answer_of,
    native_body,
    parts_of,
    vectors_of,
)


def body(input: object, **fields: object) -> EmbeddingsBody:
    return read(EmbeddingsBody, {"input": input, **fields})


class TestInput:
    def test_a_text_and_a_list_of_it_are_the_same(self) -> None:
        assert body("a").input == body(["a"]).input == ("a",)

    @pytest.mark.parametrize(
        ("input", "field", "words"),
        [
            ([], "input", "is an empty list"),
            ("", "input", "is an empty text"),
            (["a", "b", ""], "input[2]", "is an empty text"),
            (["a", 5], "input[1]", "must be a text, not"),
            ([1, 2, 3], "input", "is a list of tokens"),
            ([[1, 2], [3]], "input", "is a list of tokens"),
            ({"a": 1}, "input", "must be a text or a list of texts"),
            (["a"] * 2_049, "input", "must have at most 2048 entries, not 2049"),
        ],
    )
    def test_an_input_that_has_no_embedding_is_named(self, input: object, field: str, words: str) -> None:
        with pytest.raises(BadRequest, match=words) as refused:
            body(input)
        assert (refused.value.details or {})["field"] == field

    @pytest.mark.parametrize(("name", "value"), [("dimensions", 0), ("dimensions", 3_073), ("encoding_format", "hex")])
    def test_other_fields_are_named_too(self, name: str, value: object) -> None:
        with pytest.raises(BadRequest) as refused:
            body("a", **{name: value})
        assert (refused.value.details or {})["field"] == name

    def test_an_answer_that_would_be_too_long_is_refused(self) -> None:
        long = body(["a"] * 2_048, encoding_format="float")
        with pytest.raises(BadRequest, match=r'send at most 15\d\d at once, send encoding_format "base64"'):
            long.check_size()
        body(["a"] * 2_048, encoding_format="base64").check_size()
        assert body(["a"] * 2_048, dimensions=768).answer_bytes < MAX_ANSWER_BYTES


class TestParts:
    def test_a_list_is_cut_into_even_parts_of_at_most_100(self) -> None:
        assert parts_of(["a"] * 101, 1_000, 1e9) == [Part(0, 51), Part(51, 101)]
        assert parts_of(["a"] * 100, 1_000, 1e9) == [Part(0, 100)]
        assert parts_of(["a"], 1_000, 1e9) == [Part(0, 1)]

    def test_a_part_fits_the_requests_of_one_project(self) -> None:
        assert [part.last - part.first for part in parts_of(["a"] * 12, 5, 1e9)] == [4, 4, 4]

    def test_a_part_has_few_tokens_unless_one_text_has_more(self) -> None:
        texts = ["x" * 200, "x" * 200, "x" * 2_000, "x"]
        assert parts_of(texts, 100, 250) == [Part(0, 2), Part(2, 3), Part(3, 4)]

    def test_every_input_is_in_one_part_in_order(self) -> None:
        parts = parts_of([f"{'x' * (at % 90)}." for at in range(777)], 70, 600)
        assert [at for part in parts for at in range(part.first, part.last)] == list(range(777))


class TestNativeBody:
    def test_one_text_is_no_batch(self) -> None:
        one = {"model": "models/e", "content": {"parts": [{"text": "a"}]}}
        assert native_body("e", ["a"], None) == one
        assert native_body("e", ["a", "a"], 8) == {"requests": [{**one, "outputDimensionality": 8}] * 2}


class TestVectors:
    def test_base64_is_little_endian_float32(self) -> None:
        (packed,) = vectors_of({"embedding": {"values": [0.5, -2]}}, 1, base64=True)
        assert isinstance(packed, str)
        assert struct.unpack("<2f", base64.b64decode(packed)) == (0.5, -2.0)

    def test_numbers_keep_their_digits(self) -> None:
        vectors = vectors_of({"embeddings": [{"values": [0.12345678]}, {"values": [1]}]}, 2, base64=False)
        answer = orjson.loads(orjson.dumps(answer_of("e", vectors, None)))
        assert [one["embedding"] for one in answer["data"]] == [[0.12345678], [1]]
        assert answer["usage"] == {"prompt_tokens": None, "total_tokens": None}

    @pytest.mark.parametrize(
        "answer",
        [{}, {"embeddings": [{"values": [1.0]}]}, {"embeddings": [{"values": [1.0]}, {}]}, {"embeddings": 5}],
    )
    def test_a_missing_vector_is_an_error(self, answer: dict[str, object]) -> None:
        with pytest.raises(UpstreamFailed, match="a vector for each of 2 inputs"):
            vectors_of(answer, 2, base64=False)

    def test_a_vector_of_other_things_than_numbers_is_an_error(self) -> None:
        with pytest.raises(UpstreamFailed, match="does not consist of numbers"):
            vectors_of({"embedding": {"values": ["x"]}}, 1, base64=True)
