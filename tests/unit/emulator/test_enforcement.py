"""Limits over HTTP: who shares them, what counts, and how a refusal reads."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import aiohttp
import pytest

from shared.emulator import EmulatorConfig, Limits, Project, running
from shared.emulator.limits import next_midnight_s

from .conftest import MODEL, Asker

WINDOW_S = 1.0


def config(limits: Limits | None = None, **rest: Any) -> EmulatorConfig:
    project = Project(rest.pop("tier", "paid"), limits or Limits(), concurrency=rest.pop("concurrency", None))
    return EmulatorConfig(default_project=project, **{"window_s": WINDOW_S, **rest})


def quota_of(body: dict[str, Any]) -> tuple[list[str], str]:
    details = {detail["@type"].rpartition(".")[2]: detail for detail in body["error"]["details"]}
    ids = [violation["quotaId"] for violation in details["QuotaFailure"]["violations"]]
    return ids, details["RetryInfo"]["retryDelay"]


async def test_a_configured_alias_is_metered_as_its_model(session: aiohttp.ClientSession) -> None:
    async with running(config(Limits(rpm=2), aliases={"my-alias": "gemini-3.7-flash"})) as emulator:
        ask = Asker(emulator, session)
        _, body = await ask.ask(model="my-alias")
        assert body["modelVersion"] == "gemini-3.8-flash", "an alias of an alias"
        assert [await ask.status(model="gemini-3.8-flash"), await ask.status(model="my-alias")] == [200, 429]
        assert await ask.status(model="another-alias") == 404


async def test_window_admits_its_limit_after_the_named_wait(session: aiohttp.ClientSession) -> None:
    async with running(config(Limits(rpm=3))) as emulator:
        ask = Asker(emulator, session)
        assert [await ask.status() for _ in range(5)] == [200, 200, 200, 429, 429]
        _, body = await ask.ask()
        ids, delay = quota_of(body)
        assert ids == ["GenerateRequestsPerMinutePerProjectPerModel"]
        assert 0 < float(delay[:-1]) <= WINDOW_S
        await asyncio.sleep(float(delay[:-1]))
        assert await ask.status() == 200
        model = emulator.stats()["projects"]["k"]["models"][MODEL]
        assert (model["admitted"], model["refused"]) == (4, {"rpm": 3})
        assert model["max_requests_in_window"] == 3
        assert model["max_offered_requests_in_window"] == 6


async def test_burst_is_admitted_exactly_to_the_limit(session: aiohttp.ClientSession) -> None:
    async with running(config(Limits(rpm=40), window_s=60.0)) as emulator:
        ask = Asker(emulator, session)
        statuses = await asyncio.gather(*(ask.status(str(n)) for n in range(100)))
        assert (statuses.count(200), statuses.count(429)) == (40, 60)


async def test_input_tokens_are_a_limit_of_their_own(session: aiohttp.ClientSession) -> None:
    async with running(config(Limits(tpm=70), tier="free")) as emulator:
        ask = Asker(emulator, session)
        prompt = "x" * 200
        assert [await ask.status(prompt) for _ in range(2)] == [200, 429]
        assert await ask.status("short") == 200
        _, body = await ask.ask(prompt)
        assert quota_of(body)[0] == ["GenerateContentInputTokensPerModelPerMinute-FreeTier"]
        assert (
            "generate_content_free_tier_input_token_count, limit: 70, model: gemini-3.8-flash"
            in body["error"]["message"]
        )


async def test_keys_of_a_project_share_and_models_do_not(session: aiohttp.ClientSession) -> None:
    both = EmulatorConfig(projects={"p": Project(limits=Limits(rpm=1))}, keys={"k1": "p", "k2": "p"})
    async with running(both) as emulator:
        ask = Asker(emulator, session)
        assert await ask.status(key="k1") == 200
        assert await ask.status(key="k2") == 429
        assert await ask.status(key="k2", model="gemini-3.6-flash") == 200
        assert await ask.status(key="k2", model="gemini-3.5-flash") == 429, "an alias of the model before"
        assert await ask.status(key="k3") == await ask.status(key="k3") == 200, "a key that no project has"
        assert list(emulator.stats()["projects"]) == ["p", "k3"]


async def test_a_model_may_have_limits_of_its_own(session: aiohttp.ClientSession) -> None:
    project = Project("free", Limits(rpm=100), {"gemini-4-argon": Limits(0, 0, 0)})
    async with running(EmulatorConfig(default_project=project)) as emulator:
        ask = Asker(emulator, session)
        assert await ask.status() == 200
        status, body = await ask.ask(model="gemini-4-argon")
        assert status == 429
        assert body["error"]["message"].count("limit: 0, model: gemini-4-argon") == 3
        violations = body["error"]["details"][1]["violations"]
        assert all("quotaValue" not in violation for violation in violations)


async def test_day_is_pacific_and_paid_429_names_the_wait(
    session: aiohttp.ClientSession,
) -> None:
    now = [next_midnight_s(1_790_000_000.0) - 3_661.25]
    paid = config(Limits(rpd=2), window_s=60.0)
    async with running(paid, wall_clock=lambda: now[0]) as emulator:
        ask = Asker(emulator, session)
        assert [await ask.status() for _ in range(2)] == [200, 200]
        _, body = await ask.ask()
        assert quota_of(body) == (["GenerateRequestsPerDayPerProjectPerModel"], "3661s")
        assert body["error"]["message"].endswith("Please retry in 1h1m1.25s.")
        assert "generate_requests_per_model_per_day, limit: 2, model" in body["error"]["message"]
        now[0] += 3_662
        assert await ask.status() == 200


async def test_a_free_day_refusal_names_a_short_wait_all_the_same(session: aiohttp.ClientSession) -> None:
    now = next_midnight_s(1_790_000_000.0) - 40_000
    async with running(config(Limits(rpd=0), tier="free", window_s=60.0), wall_clock=lambda: now) as emulator:
        _, body = await Asker(emulator, session).ask()
        ids, delay = quota_of(body)
        assert ids == ["GenerateRequestsPerDayPerProjectPerModel-FreeTier"]
        assert 14 <= float(delay[:-1]) < 60


async def test_only_generating_requests_use_quota(
    session: aiohttp.ClientSession,
) -> None:
    """A rejected request and countTokens use none; a failed one does."""
    async with running(config(Limits(rpm=2), window_s=60.0)) as emulator:
        ask = Asker(emulator, session)
        assert await ask.status(body={}) == 400
        assert await ask.status("[[fault:429]]") == 429
        assert await ask.status("[[fault:401]]") == 401
        assert await ask.status(method="countTokens") == 200
        assert await ask.status("[[fault:500]]") == 500
        assert [await ask.status() for _ in range(2)] == [200, 429]
        refused = emulator.stats()["refused"]
        assert refused == {"invalid_argument": 1, "fault": 3, "rpm": 1}


async def test_arrival_is_when_headers_were_parsed(
    session: aiohttp.ClientSession,
) -> None:
    async def slow_body() -> Any:
        yield b'{"contents":[{"parts":[{"text":'
        await asyncio.sleep(0.3)
        yield b'"Hi"}]}]}'

    async with running(config()) as emulator:
        before_s = time.monotonic()
        url = f"{emulator.url}/v1/models/{MODEL}:generateContent"
        async with session.post(url, headers={"x-goog-api-key": "k"}, data=slow_body()) as response:
            assert response.status == 200
        (at_s,) = emulator.stats(arrivals=True)["projects"]["k"]["models"][MODEL]["arrivals"]["at_s"]
        assert before_s <= at_s < before_s + 0.25


async def test_one_request_too_many_at_once_gets_a_bare_429(session: aiohttp.ClientSession) -> None:
    async with running(config(concurrency=2, latency_s=0.2)) as emulator:
        ask = Asker(emulator, session)
        models = [MODEL, "gemini-3.6-flash", "gemini-4-argon"]
        answers = await asyncio.gather(*(ask.ask(model=model) for model in models))
        assert sorted(status for status, _ in answers) == [200, 200, 429]
        (refused,) = (body["error"] for status, body in answers if status == 429)
        assert refused == {
            "code": 429,
            "message": "Resource has been exhausted (e.g. check quota).",
            "status": "RESOURCE_EXHAUSTED",
        }
        assert await ask.status() == 200, "the slots are free again"
        assert emulator.stats()["refused"] == {"concurrency": 1}
        assert emulator.stats()["projects"]["k"]["max_open"] == 2


async def test_slot_is_free_for_the_next_request(
    session: aiohttp.ClientSession,
) -> None:
    async with running(config(concurrency=4, latency_s=0.002)) as emulator:
        ask = Asker(emulator, session)

        async def worker(number: int) -> set[int]:
            method = ("generateContent", "streamGenerateContent?alt=sse")[number % 2]
            statuses = set()
            for _ in range(50):
                async with ask.post(method=method) as response:
                    await response.read()
                    statuses.add(response.status)
            return statuses

        assert await asyncio.gather(*(worker(number) for number in range(4))) == [{200}] * 4
        assert emulator.stats()["projects"]["k"]["max_open"] == 4


@pytest.mark.parametrize("limits", [False, True])
async def test_a_reset_forgets_counts_and_only_if_asked_the_windows(
    session: aiohttp.ClientSession, limits: bool
) -> None:
    async with running(config(Limits(rpm=1), window_s=60.0)) as emulator:
        ask = Asker(emulator, session)
        await ask.status()
        async with session.post(f"{emulator.url}/stats/reset{'?limits=1' if limits else ''}") as response:
            assert response.status == 200
        assert emulator.stats()["requests"] == 0
        assert await ask.status() == (200 if limits else 429)
