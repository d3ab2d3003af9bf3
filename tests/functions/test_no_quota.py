"""What becomes of requests when Gemini names a limit of zero: the project has no quota for the model."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web

from shared.clock import elapsed_s
from tests.support.edge import Answer
from tests.support.whole_path import MODEL, OWN_KEY, OWN_LEDGER, WAYS, text_of, told, whole_path

OTHER_MODEL = "gemini-3.5-flash-lite"
SERVICE = "generativelanguage.googleapis.com"
METRIC = f"{SERVICE}/generate_content_free_tier_"
QUOTAS = (
    ("input_token_count", "GenerateContentInputTokensPerModelPerMinute"),
    ("requests", "GenerateRequestsPerDayPerProjectPerModel"),
    ("requests", "GenerateRequestsPerMinutePerProjectPerModel"),
    ("input_token_count", "GenerateContentInputTokensPerModelPerDay"),
)
WORDS = "You exceeded your current quota, please check your plan and billing details."


def no_quota() -> dict[str, Any]:
    """As public reports of 2026 have it: `quotaValue` is absent where a limit is zero, and the delay is not true."""
    dimensions = {"location": "global", "model": MODEL}
    bullets = [f"* Quota exceeded for metric: {METRIC}{metric}, limit: 0, model: {MODEL}" for metric, _ in QUOTAS]
    head = f"{WORDS} For more information on this error, head to: https://ai.google.dev/gemini-api/docs/rate-limits."
    violations = [
        {"quotaMetric": f"{METRIC}{metric}", "quotaId": f"{quota}-FreeTier", "quotaDimensions": dimensions}
        for metric, quota in QUOTAS
    ]
    details = [
        {
            "@type": "type.googleapis.com/google.rpc.Help",
            "links": [{"description": "Quotas", "url": "https://ai.google.dev"}],
        },
        {"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": violations},
        {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "25s"},
    ]
    message = "\n".join([head, *bullets, "Please retry in 25.465784708s."])
    return {"error": {"code": 429, "message": message, "status": "RESOURCE_EXHAUSTED", "details": details}}


@asynccontextmanager
async def gemini(*refusals: dict[str, Any]) -> AsyncIterator[tuple[str, list[float]]]:
    """Its URL and when it was asked; it answers with the refusals, one after the other, and then with a text."""
    asked: list[float] = []

    async def generate(request: web.Request) -> web.Response:
        await request.read()
        asked.append(elapsed_s())
        if len(asked) <= len(refusals):
            return web.json_response(refusals[len(asked) - 1], status=429)
        parts = [{"text": "Hello"}]
        return web.json_response({"candidates": [{"content": {"parts": parts}, "finishReason": "STOP"}]})

    app = web.Application()
    app.router.add_post("/v1beta/models/{name:.*}", generate)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}", asked
    finally:
        await runner.cleanup()


def retry_after_s(answer: Answer) -> int:
    return int(answer.headers["retry-after"])


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("key", "status", "ledger"), [(None, 503, "server"), (OWN_KEY, 429, OWN_LEDGER)], ids=["server", "own key"]
)
async def test_every_caller_gets_googles_sentence_and_a_true_time(
    key: str | None, status: int, ledger: str, way: str
) -> None:
    async with gemini(no_quota()) as (url, asked), whole_path(base_url=url, LEDGER_WINDOW_SECONDS=60) as path:
        for _ in range(3):
            began_s = elapsed_s()
            answer = await path.ask(key=key, way=way)
            assert elapsed_s() - began_s < 3
            assert told(answer) == (status, "no_quota")
            message = answer.error["message"]
            assert WORDS in message
            assert "limit: 0" in message
            assert "midnight" not in message
            assert 880 <= retry_after_s(answer) <= 901
            assert answer.headers["x-should-retry"] == "false"
        assert len(asked) == 1
        circuit = (await path.ledgers())[ledger].sections[MODEL].circuit
        assert (circuit.kind, circuit.message.startswith(WORDS)) == ("zero", True)


async def test_after_fifteen_windows_one_request_asks_again() -> None:
    settings = {"LEDGER_WINDOW_SECONDS": 0.5, "REQUEST_TIMEOUT_SECONDS": 60, "QUEUE_TIMEOUT_SECONDS": 60}
    async with gemini(no_quota()) as (url, asked), whole_path(base_url=url, **settings) as path:
        pause_s = 15 * 0.5
        assert told(await path.ask(timeout_s=1)) == (503, "no_quota")
        answers = await asyncio.gather(*(path.ask(timeout_s=50) for _ in range(5)))
        assert [answer.status for answer in answers] == [200] * 5
        first, probe, *others = asked
        assert probe - first >= 0.99 * pause_s
        assert len(others) == 4
        assert (await path.ledgers())["server"].sections[MODEL].circuit.open_until_ms == 0


async def test_another_project_answers_meanwhile() -> None:
    accounts = {"AQ.key-one": "one", "AQ.key-two": "two"}
    async with gemini(no_quota()) as (url, asked), whole_path(base_url=url, accounts=accounts) as path:
        for _ in range(3):
            text_of(await path.ask())
        assert len(asked) == 4


async def test_health_lists_the_stop_in_googles_words() -> None:
    async with gemini(no_quota()) as (url, _), whole_path(base_url=url) as path:
        await path.ask(timeout_s=3)
        (project,) = (await path.send("GET", "/health")).json()["ledger"]["projects"]
        stopped = project["models"][MODEL]["stopped"]
        assert (stopped["kind"], stopped["state"]) == ("zero", "open")
        assert stopped["message"].startswith(WORDS)


@pytest.mark.parametrize("fault", ["429-zero", "429-region-zero"])
async def test_a_zero_in_any_form_leads_to_no_quota(fault: str) -> None:
    async with whole_path(LEDGER_WINDOW_SECONDS=60) as path:
        for prompt in (f"[[fault:{fault}]]", "Hello"):
            answer = await path.ask(prompt)
            assert told(answer) == (503, "no_quota")
            assert "uota exceeded" in answer.error["message"] or WORDS in answer.error["message"]
            assert 880 <= retry_after_s(answer) <= 900
        assert path.sent == 1


@pytest.mark.parametrize(("key", "status"), [(None, 503), (OWN_KEY, 429)], ids=["server", "own key"])
async def test_a_stop_for_spend_stops_every_model_of_the_project(key: str | None, status: int) -> None:
    async with whole_path(LEDGER_WINDOW_SECONDS=60) as path:
        for prompt, model in (("[[fault:429-spend]]", MODEL), ("Hello", OTHER_MODEL), ("Hello", MODEL)):
            answer = await path.ask(prompt, key=key, model=model)
            assert told(answer) == (status, "no_quota")
            assert "spend-based rate limit" in answer.error["message"]
            assert 50 <= retry_after_s(answer) <= 60
            assert "x-should-retry" not in answer.headers
        assert path.sent == 1
        text_of(await path.ask(key=OWN_KEY if key is None else None))


async def test_health_lists_a_stop_for_spend_of_the_project() -> None:
    async with whole_path(LEDGER_WINDOW_SECONDS=60) as path:
        await path.ask("[[fault:429-spend]]")
        (project,) = (await path.send("GET", "/health")).json()["ledger"]["projects"]
        assert project["stopped"]["kind"] == "spend"
        assert "spend-based" in project["stopped"]["message"]


async def test_every_waiter_gets_the_reason_of_the_wait() -> None:
    """Google names neither a quota nor a time: a minute is waited for, and the callers read why."""
    async with whole_path(LEDGER_WINDOW_SECONDS=60) as path:
        for prompt in ("[[fault:429-plan]]", "Hello"):
            answer = await path.ask(prompt, timeout_s=1)
            assert told(answer) == (429, "queue_timeout")
            assert WORDS in answer.error["message"]
            assert 50 <= retry_after_s(answer) <= 62, "the pause, and half a second for the slot after it"
        assert path.sent == 1
