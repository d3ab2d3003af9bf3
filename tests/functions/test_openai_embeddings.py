"""POST /v1/embeddings of the real server, with the offline Gemini."""

from __future__ import annotations

import asyncio
import base64
import json
import math
import struct
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from shared.emulator.config import EmulatorConfig, Limits, Project
from shared.emulator.running import running as emulated
from tests.support.processes import ADMIN_KEY, served
from tests.support.whole_path import eventually

MODEL, KEY = "gemini-embedding-2", "key-of-project-p"
ADMIN = {"Authorization": f"Bearer {ADMIN_KEY}"}


class Client:
    """One server, or several that share a ledger, and the offline Gemini behind them."""

    def __init__(self, session: aiohttp.ClientSession, urls: list[str], gemini: Any) -> None:
        self.session, self.urls, self.gemini = session, urls, gemini
        self._turn = 0

    async def embed(self, input: Any, **fields: Any) -> tuple[int, dict[str, Any]]:
        self._turn += 1
        url = f"{self.urls[self._turn % len(self.urls)]}/v1/embeddings"
        async with self.session.post(url, json={"input": input, **fields}, headers=ADMIN) as response:
            return response.status, json.loads(await response.read())

    def project(self) -> dict[str, Any]:
        projects: dict[str, Any] = self.gemini.stats()["projects"]
        return projects["p"]


@asynccontextmanager
async def embedding(
    tmp_path: Path, *, limits: Limits | None = None, batches: int | None = 150, servers: int = 1, **env: str
) -> AsyncIterator[Client]:
    """`limits` and `batches` are those of Gemini; `env` has the gateway's."""
    config = EmulatorConfig(
        projects={"p": Project(limits=limits or Limits(), batches=batches)},
        keys={KEY: "p"},
        window_s=float(env.get("LEDGER_WINDOW_SECONDS", 60)),
    )
    async with AsyncExitStack() as stack:
        gemini = await stack.enter_async_context(emulated(config))
        given = {
            "GEMINI_API_KEY": KEY, "GEMINI_BASE_URL": gemini.url, "GEMINI_TIER": "custom", "GEMINI_RPM": "unlimited",
            "GEMINI_TPM": "unlimited", "GEMINI_RPD": "unlimited", "LEDGER_URL": f"sqlite:///{tmp_path}/ledger.db", **env,
        }  # fmt: skip
        started = [await stack.enter_async_context(served(given)) for _ in range(servers)]
        timeout = aiohttp.ClientTimeout(total=120)
        session = await stack.enter_async_context(aiohttp.ClientSession(timeout=timeout))
        yield Client(session, [one.url for one in started], gemini)


def length(vector: list[float]) -> float:
    return math.sqrt(sum(value * value for value in vector))


async def test_texts_are_embedded_in_order_and_encoding(tmp_path: Path) -> None:
    """One text, a list and base64 of the same text give the same vectors; a smaller size is passed on."""
    async with embedding(tmp_path) as client:
        status, alone = await client.embed("alpha")
        assert (status, alone["object"], alone["model"]) == (200, "list", MODEL)
        assert (len(alone["data"][0]["embedding"]), alone["usage"]["prompt_tokens"] > 0) == (3072, True)
        texts = [f"text {at}" for at in range(110)] + ["alpha"]
        status, many = await client.embed(texts, model=MODEL, dimensions=64, user="u")
        assert (status, [one["index"] for one in many["data"]]) == (200, list(range(111)))
        assert {len(one["embedding"]) for one in many["data"]} == {64}
        assert length(many["data"][3]["embedding"]) == pytest.approx(1, abs=1e-6)
        status, packed = await client.embed(["alpha", "beta"], dimensions=64, encoding_format="base64")
        first = struct.unpack("<64f", base64.b64decode(packed["data"][0]["embedding"]))
        assert first == pytest.approx(many["data"][110]["embedding"], abs=1e-6)
        assert many["usage"]["total_tokens"] == many["usage"]["prompt_tokens"] > 110
        methods = client.gemini.stats()["by_method"]
        assert methods == {"embedContent": 1, "batchEmbedContents": 3}
        status, uncounted = await client.embed("alpha", model="gemini-embedding-001")
        assert (status, uncounted["usage"]) == (200, {"prompt_tokens": None, "total_tokens": None})


async def test_refusals_name_the_field(tmp_path: Path) -> None:
    async with embedding(tmp_path, GEMINI_RPM="50") as client:
        for body, param, words in [
            ({"input": []}, "input", "empty list"),
            ({"input": ["a", ""]}, "input[1]", "empty text"),
            ({"input": [1, 2]}, "input", "list of tokens"),
            ({"input": "a", "model": "gemini-3.8-flash"}, "model", "returns text, not vectors"),
            ({"input": "a", "dimensions": 0}, "dimensions", "from 1 to 3072"),
            ({"input": ["a"] * 51}, "input", "Send lists of at most 50 entries"),
        ]:
            status, answer = await client.embed(**body)
            assert (status, answer["error"]["param"]) == (400, param), answer
            assert words in answer["error"]["message"]
        assert client.gemini.stats()["requests"] == 0


async def test_lists_of_three_processes_stay_within_both_quotas(tmp_path: Path) -> None:
    """Lists of mixed sizes at three processes: Gemini rejects none, for the model's requests or for batches."""
    limits = Limits(rpm=300)
    async with embedding(
        tmp_path, limits=limits, batches=15, servers=3, GEMINI_RPM="300", LEDGER_WINDOW_SECONDS="6",
        GEMINI_LIMITS=json.dumps({MODEL: {"batches": 15}, "gemini-embedding-001": {"batches": 15}}), QUEUE_TIMEOUT_SECONDS="100",
    ) as client:  # fmt: skip
        sizes = [1, 2, 3, 30, 1, 2, 40, 5] * 6
        models = [MODEL, MODEL, "gemini-embedding-001"]
        asked = [
            client.embed(
                [f"{at}:{i}" for i in range(size)] if size > 1 else f"{at}", dimensions=8, model=models[at % 3]
            )
            for at, size in enumerate(sizes)
        ]
        answers = await asyncio.gather(*asked)
        assert [status for status, _ in answers] == [200] * len(sizes), [a for s, a in answers if s != 200][:1]
        assert [len(answer["data"]) for _, answer in answers] == sizes
        stats = client.gemini.stats()
        assert stats["refused"] == {}
        assert client.project()["batches"]["max_in_window"] <= 15
        assert sum(one["admitted"] for one in client.project()["models"].values()) == sum(sizes)


async def test_a_rejected_batch_stops_batches_and_not_single_texts(tmp_path: Path) -> None:
    """Gemini allows fewer batches than is configured: its first 429 stops batches, single texts are still served, and the lists
    are served after the pause, at the number that Gemini named."""
    async with embedding(
        tmp_path, batches=2, LEDGER_WINDOW_SECONDS="3", EXHAUSTED_WAIT_SECONDS="3", QUEUE_TIMEOUT_SECONDS="100"
    ) as client:
        lists = [asyncio.create_task(client.embed([f"{at}", "b"], dimensions=8)) for at in range(6)]
        await eventually(lambda: "batches" in client.gemini.stats()["refused"], within_s=30)
        status, _ = await client.embed("alone", dimensions=8)
        assert status == 200
        answers = await asyncio.gather(*lists)
        assert [status for status, _ in answers] == [200] * 6
        assert client.project()["batches"]["max_in_window"] <= 2


async def test_a_callers_own_key_makes_embeddings(tmp_path: Path) -> None:
    async with embedding(tmp_path) as client:
        own = {"Authorization": "Bearer own-gemini-key-1"}
        async with client.session.post(
            f"{client.urls[0]}/v1/embeddings", json={"input": ["a", "b"], "dimensions": 8}, headers=own
        ) as response:
            assert (response.status, len(json.loads(await response.read())["data"])) == (200, 2)
        assert client.gemini.stats()["projects"]["own-gemini-key-1"]["batches"]["admitted"] == 1


async def test_a_failed_batch_names_its_inputs(tmp_path: Path) -> None:
    async with embedding(tmp_path) as client:
        client.gemini.inject("400", 1)
        status, answer = await client.embed([f"{at}" for at in range(150)], dimensions=8)
        assert status == 400
        assert "of 150 failed, so no vector is returned." in answer["error"]["message"]
