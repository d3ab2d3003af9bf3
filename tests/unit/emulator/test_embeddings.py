"""Embeddings of the offline Gemini: vectors, refusals and both quotas."""

from __future__ import annotations

import math
from typing import Any

import aiohttp
import pytest
from google import genai
from google.genai.types import EmbedContentConfig

from shared.emulator.config import EmulatorConfig, Limits, Project
from shared.emulator.running import running
from tests.unit.emulator.conftest import Asker

NEW, OLD = "gemini-embedding-2", "gemini-embedding-001"


def one(text: str, model: str = NEW, **fields: Any) -> dict[str, Any]:
    return {"model": f"models/{model}", "content": {"parts": [{"text": text}]}, **fields}


def many(count: int, model: str = NEW, **fields: Any) -> dict[str, Any]:
    return {"requests": [one(f"text {at}", model, **fields) for at in range(count)]}


async def embed(ask: Asker, body: dict[str, Any], model: str = NEW) -> tuple[int, dict[str, Any]]:
    method = "batchEmbedContents" if "requests" in body else "embedContent"
    return await ask.ask(method=method, model=model, body=body)


def length(values: list[float]) -> float:
    return math.sqrt(sum(value * value for value in values))


async def test_a_text_has_one_vector_wherever_it_is_sent(ask: Asker) -> None:
    status, alone = await embed(ask, one("text 1"))
    _, batch = await embed(ask, many(3))
    assert (status, alone["embedding"]) == (200, batch["embeddings"][1])
    assert length(alone["embedding"]["values"]) == pytest.approx(1, abs=1e-5)
    assert batch["usageMetadata"]["promptTokenCount"] >= 3


async def test_only_the_newer_model_keeps_the_length_of_a_short_vector(ask: Asker) -> None:
    _, new = await embed(ask, one("a", outputDimensionality=64))
    _, old = await embed(ask, one("a", OLD, output_dimensionality=64), OLD)
    assert length(new["embedding"]["values"]) == pytest.approx(1, abs=1e-5)
    assert (len(old["embedding"]["values"]), length(old["embedding"]["values"]) < 0.5) == (64, True)
    assert "usageMetadata" not in old


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"requests": []}, "at least one request"),
        (many(101), "at most 100 requests can be in one batch"),
        (many(1, OLD), "requests[0].model"),
        ({"requests": [{"content": {"parts": [{"text": "a"}]}}]}, "requests[0].model"),
        ({"content": {}}, "content is not specified"),
        (one(""), "empty input"),
        (one("a", outputDimensionality=9_999), "between 1 and 3072"),
        (one("a", size=5), 'Unknown name \\"size\\"'),
    ],
)
async def test_a_request_that_cannot_be_embedded_is_a_400(ask: Asker, body: dict[str, Any], words: str) -> None:
    status, answer = await embed(ask, body)
    assert status == 400
    assert words.replace("\\", "").replace("content is", "contents is") in answer["error"]["message"]


async def test_a_chat_model_embeds_nothing_and_the_reverse(ask: Asker) -> None:
    assert (await embed(ask, one("a", "gemini-3.8-flash"), "gemini-3.8-flash"))[0] == 404
    assert (await ask.ask(model=NEW))[0] == 404


async def test_each_request_of_a_batch_counts(session: aiohttp.ClientSession) -> None:
    config = EmulatorConfig(default_project=Project(limits=Limits(rpm=10, rpd=11)))
    async with running(config) as emulator:
        ask = Asker(emulator, session)
        assert [(await embed(ask, many(count)))[0] for count in (6, 5, 4, 1)] == [200, 429, 200, 429]
        model = emulator.stats()["projects"]["k"]["models"][NEW]
        assert (model["admitted"], model["max_requests_in_window"], model["today"]) == (10, 10, 10)


async def test_batches_of_all_models_share_a_quota_of_their_own(session: aiohttp.ClientSession) -> None:
    async with running(EmulatorConfig(default_project=Project(batches=2))) as emulator:
        ask = Asker(emulator, session)
        assert (await embed(ask, many(2)))[0] == (await embed(ask, many(2, OLD), OLD))[0] == 200
        status, answer = await embed(ask, many(2))
        info = answer["error"]["details"][0]
        assert (status, info["reason"]) == (429, "RATE_LIMIT_EXCEEDED")
        assert info["metadata"]["quota_limit"] == "BatchEmbedContentsRequestsPerMinutePerProjectPerRegion"
        assert info["metadata"]["quota_limit_value"] == "2"
        assert (await embed(ask, one("a")))[0] == 200
        batches = emulator.stats()["projects"]["k"]["batches"]
        assert batches == {"admitted": 2, "refused": 1, "max_in_window": 2}


async def test_googles_sdk_embeds(client: genai.Client) -> None:
    config = EmbedContentConfig(output_dimensionality=8)
    answer = await client.aio.models.embed_content(model=OLD, contents=["a", "b"], config=config)
    assert answer.embeddings is not None
    assert [len(vector.values or []) for vector in answer.embeddings] == [8, 8]
