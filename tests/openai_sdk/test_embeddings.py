"""Embeddings: OpenAI's SDK asks for base64 unless its user asks for floats."""

from __future__ import annotations

import math

import openai
import pytest

from tests.openai_sdk.conftest import Client

MODEL = "gemini-embedding-2"


async def test_text_has_one_vector_in_either_encoding(client: Client) -> None:
    packed = await client("embeddings.create", model=MODEL, input="A lighthouse")
    plain = await client("embeddings.create", model=MODEL, input="A lighthouse", encoding_format="float")
    (vector,) = [one.embedding for one in packed.data]
    assert len(vector) == len(plain.data[0].embedding) > 100
    assert all(math.isclose(a, b, abs_tol=1e-6) for a, b in zip(vector, plain.data[0].embedding, strict=True))


async def test_list_keeps_its_order(client: Client) -> None:
    texts = [f"Text {number}" for number in range(150)]
    answer = await client("embeddings.create", model=MODEL, input=texts, dimensions=128)
    assert [one.index for one in answer.data] == list(range(150))
    assert {len(one.embedding) for one in answer.data} == {128}
    alone = await client("embeddings.create", model=MODEL, input=texts[120], dimensions=128)
    assert alone.data[0].embedding == answer.data[120].embedding


async def test_empty_text_is_refused_with_its_place(client: Client) -> None:
    with pytest.raises(openai.BadRequestError) as raised:
        await client("embeddings.create", model=MODEL, input=["a", ""])
    assert raised.value.param == "input[1]"
