"""What all callers share, over the whole path: one caller, or all strangers together, leave enough of it to the others."""

from __future__ import annotations

import asyncio
import socket
import threading
from pathlib import Path
from typing import Any

import orjson
import pytest

from shared.images.choices import MAX_INPUTS
from shared.settings.shares import MIN_FETCH_LIMIT
from tests.support.edge import ADMIN, Answer
from tests.support.whole_path import WholePath, eventually, told, whole_path

ANONYMOUS: dict[str, str] = {}
FEW_A_DAY = {
    "ALLOW_ANONYMOUS": "generate_text",
    "RATE_LIMIT_PER_MINUTE": "unlimited",
    "GEMINI_RPD": 8,
    "LEDGER_WINDOW_SECONDS": 6,
}


@pytest.fixture
def storage(tmp_path: Path) -> str:
    return f"file://{tmp_path}/storage"


async def text(path: WholePath, headers: Any = ANONYMOUS, **fields: Any) -> Answer:
    return await path.send("POST", "/generate_text", orjson.dumps({"prompt": "Hello", **fields}), headers)


async def image(path: WholePath, headers: Any = ADMIN, **fields: Any) -> Answer:
    return await path.send("POST", "/generate", orjson.dumps({"prompt": "A lighthouse"} | fields), headers)


def made_up(number: int) -> dict[str, Any]:
    return {"headers": {}, "credentials": {"gemini_api_key": f"AQ.made-up-key-{number}"}}


class TestRates:
    @pytest.mark.parametrize("function", ["generate_text", "generate"])
    async def test_every_anonymous_endpoint_has_the_rate(self, storage: str, function: str) -> None:
        given = {"ALLOW_ANONYMOUS": function, "RATE_LIMIT_PER_MINUTE": 2, "LEDGER_WINDOW_SECONDS": 60}
        async with whole_path(STORAGE_URL=storage, **given) as path:
            send = text if function == "generate_text" else image
            answers = [await send(path, ANONYMOUS) for _ in range(3)]
            assert [answer.status for answer in answers] == [200, 200, 429]
            assert told(answers[2]) == (429, "rate_limited")
            assert 1 <= int(answers[2].headers["retry-after"]) <= 60
            assert (await send(path, ADMIN)).status == 200

    async def test_a_name_cannot_use_up_an_address_s_rate(self, storage: str) -> None:
        given = {"ALLOW_ANONYMOUS": "generate", "RATE_LIMIT_PER_MINUTE": 2, "LEDGER_WINDOW_SECONDS": 60}
        async with whole_path(STORAGE_URL=storage, **given) as path:
            for _ in range(2):
                assert (await image(path, {**ADMIN, "x-caller-id": "ip:127.0.0.1"})).status == 200
            assert (await image(path, ANONYMOUS)).status == 200

    async def test_made_up_keys_share_their_address_s_rate(self, storage: str) -> None:
        async with whole_path(STORAGE_URL=storage, RATE_LIMIT_PER_MINUTE=2, LEDGER_WINDOW_SECONDS=60) as path:
            answers = [await image(path, **made_up(number), prompt="[[fault:401]]") for number in range(6)]
            assert [answer.status for answer in answers] == [401, 401, 429, 429, 429, 429]

    async def test_accepted_keys_behind_one_address_have_a_rate_each(self, storage: str) -> None:
        keys = [made_up(number)["credentials"]["gemini_api_key"] for number in range(2)]
        given = {"RATE_LIMIT_PER_MINUTE": 2, "LEDGER_WINDOW_SECONDS": 60}
        async with whole_path(STORAGE_URL=storage, callers=keys, **given) as path:
            answers = [await image(path, **made_up(number % 2)) for number in range(5)]
            assert [answer.status for answer in answers] == [200, 200, 200, 200, 429]


class TestFetches:
    async def test_each_fetched_address_counts(self, storage: str) -> None:
        """Those of made-up keys count for their address together, and nothing is fetched beyond it."""
        urls = [f"https://192.0.2.{number}/a.png" for number in range(MAX_INPUTS)]
        async with whole_path(STORAGE_URL=storage, RATE_LIMIT_PER_MINUTE=20, LEDGER_WINDOW_SECONDS=60) as path:
            first = await image(path, **made_up(1), input_images=urls)
            assert told(first) == (400, "invalid_request")
            second = await image(path, **made_up(2), input_images=urls)
            assert told(second) == (429, "rate_limited")
            assert "20 fetched addresses" in second.error["message"]
            assert (await image(path)).status == 200, "a request without addresses"

    def test_one_request_may_always_name_as_many_as_it_takes(self) -> None:
        assert MIN_FETCH_LIMIT >= MAX_INPUTS

    async def test_silent_name_servers_of_made_up_keys_hold_nobody_up(
        self, storage: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Their address has two look-ups at once, so that its other requests wait and the known caller's does not."""
        answered, real, asked = threading.Event(), socket.getaddrinfo, list[str]()

        def getaddrinfo(host: Any, *rest: Any, **named: Any) -> Any:
            if str(host).endswith(".silent"):
                asked.append(host)
                answered.wait(60)
            return real("192.0.2.1" if str(host).endswith((".silent", ".example")) else host, *rest, **named)

        monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
        async with whole_path(STORAGE_URL=storage, RATE_LIMIT_PER_MINUTE="unlimited") as path:
            silent = [
                asyncio.create_task(image(path, **made_up(number), input_images=[f"https://{number}.silent/a.png"]))
                for number in range(24)
            ]
            await eventually(lambda: len(asked) == 2)
            innocent = await asyncio.wait_for(image(path, input_images=["https://images.example/a.png"]), 10)
            assert "not at a public address" in innocent.error["message"], "it was looked up"
            assert len(asked) == 2
            answered.set()
            assert {(await task).status for task in silent} == {400}


class TestConnections:
    async def test_own_keys_leave_half_of_the_connections(self) -> None:
        """Three keys with slow answers: without a share they had all four connections, and permits ran out waiting."""
        keys = [made_up(number)["credentials"]["gemini_api_key"] for number in range(3)]
        async with whole_path(callers=keys, MAX_CONNECTIONS=4, REQUEST_TIMEOUT_SECONDS=20) as path:
            slow = [asyncio.create_task(path.ask("[[latency:1500]]", key=keys[number % 3])) for number in range(6)]
            await eventually(lambda: path.open_upstream == 2)
            innocent = await asyncio.gather(*(path.ask() for _ in range(8)))
            assert {answer.status for answer in innocent} == {200}
            assert not any(task.done() for task in slow)
            assert {(await task).status for task in slow} == {200}
            connections = path.services.admission.connections
            assert (connections.held, path.gemini.stats()["refused"]) == (0, {})

    async def test_without_keys_of_its_own_the_server_gives_them_all(self) -> None:
        keys = [made_up(number)["credentials"]["gemini_api_key"] for number in range(4)]
        async with whole_path(accounts={}, callers=keys, MAX_CONNECTIONS=4) as path:
            slow = [asyncio.create_task(path.ask("[[latency:500]]", key=key)) for key in keys]
            await eventually(lambda: path.open_upstream == 4)
            assert {(await task).status for task in slow} == {200}

    async def test_a_stream_holds_its_connection_to_its_end(self) -> None:
        keys = [made_up(number)["credentials"]["gemini_api_key"] for number in range(2)]
        async with whole_path(callers=keys, MAX_CONNECTIONS=2) as path:
            answer = Answer()
            stream = asyncio.create_task(
                path.ask("[[fault:slow@1]] [[words:60]]", way="stream", key=keys[0], into=answer)
            )
            await asyncio.wait_for(answer.arrived.wait(), 10)
            assert path.services.admission.connections.held_by_guests == 1
            late = await path.ask(key=keys[1], timeout_s=1.2)
            assert (late.status, late.error["code"]) == (429, "queue_timeout")
            assert "with callers' own keys are open" in late.error["message"]
            await stream
            assert (await path.ask(key=keys[1])).status == 200


class TestDay:
    async def test_anonymous_callers_have_at_most_half_of_the_day(self) -> None:
        async with whole_path(HOST="0.0.0.0", **FEW_A_DAY) as path:
            answers = [await text(path) for _ in range(6)]
            assert [answer.status for answer in answers] == [200, 200, 200, 200, 429, 429]
            assert told(answers[5]) == (429, "daily_quota_exhausted")
            assert answers[5].headers["x-should-retry"] == "false"
            assert "callers without a credential (4 requests)" in answers[5].error["message"]
            assert [(await text(path, ADMIN)).status for _ in range(5)] == [200, 200, 200, 200, 429]
            assert await path.dispatched() == 8

    async def test_it_holds_over_instances_and_retries(self, tmp_path: Path) -> None:
        """Each dispatch counts, also one that fails."""
        given = {"LEDGER_URL": f"sqlite:///{tmp_path}/ledger.db", "HOST": "0.0.0.0", **FEW_A_DAY}
        async with whole_path(**given) as one, whole_path(**given) as other:
            assert (await text(one, prompt="[[fault:500x1]]")).status == 200
            answers = await asyncio.gather(*(text(path) for path in (one, other) * 4))
            assert sorted(answer.status for answer in answers) == [200] * 2 + [429] * 6
            assert await one.dispatched() == 4

    async def test_a_request_that_is_not_sent_leaves_its_part(self) -> None:
        async with whole_path(HOST="0.0.0.0", GEMINI_CONCURRENCY_LIMIT=1, **FEW_A_DAY) as path:
            async with path.asking("[[latency:2000]]", way="generate_text"):
                await eventually(lambda: path.open_upstream == 1)
                headers = {"x-request-timeout": "0.5"}
                late = await asyncio.gather(*(text(path, headers) for _ in range(6)))
                assert {answer.error["code"] for answer in late} <= {"queue_timeout", "daily_quota_exhausted"}
            await path.quiet()
            assert [(await text(path)).status for _ in range(5)] == [200, 200, 200, 200, 429]

    @pytest.mark.parametrize("alone", [{"HOST": "127.0.0.1"}, {"HOST": "0.0.0.0", "ADMIN_API_KEY": ""}])
    async def test_it_does_not_bind_where_nobody_else_is(self, alone: dict[str, str]) -> None:
        async with whole_path(**{**FEW_A_DAY, **alone}) as path:
            assert [(await text(path)).status for _ in range(9)] == [200] * 8 + [429]
