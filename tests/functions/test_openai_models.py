"""GET /v1/models and /v1/status: what is served, within which limits, and how much of them is used."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from unittest.mock import patch

import jsonschema
import pytest

from functions.openai_api.main import openai_api
from shared.bootstrap import Services
from shared.gemini.models import MODELS
from shared.generation import Cost, JsonObject
from shared.ledger.grid import Grid, pacific_day
from shared.ledger.packing import pack
from shared.ledger.state import Circuit, InstanceLease, ModelState, State
from shared.openai_api.projects import MAX_READS_AT_ONCE
from shared.openai_format.model_bodies import Model, ModelList
from shared.openai_format.status_body import Status
from shared.secret import Secret
from shared.settings.settings import Settings
from shared.stores.port import Change, Put, Reading, StoreUnavailable
from tests.support.edge import ADMIN, ENVIRONMENT, Answer, ask

MODEL = "gemini-3.8-flash"
KEYS = {"GEMINI_API_KEY_1": "AQ.first-key", "GEMINI_API_KEY_2": "AQ.second-key"}
OWN_KEY = "AQ.a-callers-own-key"
OWN = {"authorization": f"Bearer {OWN_KEY}"}
UNKNOWN = {"rpm": None, "tpm": None, "ipm": None, "rpd": None}
NOTHING = dict.fromkeys(UNKNOWN, 0)


@asynccontextmanager
async def gateway(**environment: str) -> AsyncIterator[Services]:
    services = Services(Settings.from_environment({**ENVIRONMENT, **KEYS, **environment}))
    try:
        with patch("shared.bootstrap.services", lambda: services):
            yield services
    finally:
        await services.aclose()


async def get(path: str, headers: dict[str, str] = ADMIN, method: str = "GET", **rest: Any) -> Answer:
    return await ask(openai_api, method, path, headers=headers, **rest)


def matches(body: JsonObject, model: Any) -> None:
    jsonschema.validate(body, {**model.model_json_schema(), "additionalProperties": False})


async def dispatched(services: Services, ledger_id: str, requests: int, day: int) -> None:
    """Makes the ledger of a project say that so much was dispatched to MODEL, and that an instance holds three slots."""
    key = f"ledger/{ledger_id}"
    now_ms = int((await services.store.read(key)).sample.server_ms)
    ring = {Grid.of(60.0).slot(now_ms): Cost(requests, 100 * requests, 0)}
    section = ModelState(ring=ring, days={pacific_day(now_ms).ordinal: day})
    lease = InstanceLease(seen_ms=now_ms, slots=3, reuse_ms=now_ms + 60_000)
    blob = pack(State(60_000, now_ms, {"instance": lease}, {MODEL: section}))
    await services.store.transact([key], lambda *_: Change(None, {key: Put(blob)}))


def ledger_ids(services: Services) -> list[str]:
    return [account.ledger_id for account in services.pool.server]


def own_ledger(services: Services) -> str:
    return services.pool._own(Secret(OWN_KEY)).ledger_id


async def test_models_have_limits_and_use_over_all_projects() -> None:
    async with gateway(GEMINI_RPM="60") as services:
        first, second = ledger_ids(services)
        await dispatched(services, first, 3, 40)
        await dispatched(services, second, 2, 30)
        body = (await get("/v1/models")).json()
        matches(body, ModelList)
        assert [one["id"] for one in body["data"]] == sorted(MODELS)
        by_id = {one["id"]: one for one in body["data"]}
        assert by_id[MODEL]["limits"] == {"rpm": 120, "tpm": 2_000_000, "ipm": None, "rpd": 2_000}
        assert by_id[MODEL]["used"] == {"rpm": 5, "tpm": 500, "ipm": 0, "rpd": 70}
        assert by_id["gemini-4-argon"]["used"] == NOTHING


@pytest.mark.parametrize(
    ("path", "raw_path"),
    [
        (MODEL, None),
        (f"models/{MODEL}", None),
        (f"models/{MODEL}", f"/v1/models/models%2F{MODEL}"),
        (MODEL, "/v1/models/gemini%2D3.8%2Dflash"),
    ],
)
async def test_a_model_is_found_by_each_of_its_names(path: str, raw_path: str | None) -> None:
    async with gateway():
        answer = await get(f"/v1/models/{path}", raw_path=raw_path)
        assert answer.status == 200, answer.body
        matches(answer.json(), Model)
        assert (answer.json()["id"], answer.json()["used"]) == (MODEL, NOTHING)


async def test_a_retired_id_names_the_model_that_serves_it() -> None:
    async with gateway() as services:
        await dispatched(services, ledger_ids(services)[0], 3, 40)
        found = (await get("/v1/models/gemini-1.5-flash-latest")).json()
        assert (found["id"], found["served_by"], found["used"]["rpm"]) == ("gemini-1.5-flash-latest", MODEL, 3)


@pytest.mark.parametrize("path", ["gpt-5", "Not%20A%20Model", "models/gpt-5"])
async def test_an_unknown_model_is_404(path: str) -> None:
    async with gateway():
        answer = await get(f"/v1/models/{path}")
        assert (answer.status, answer.error["code"]) == (404, "model_not_found")


async def test_head_needs_a_credential_as_get_does() -> None:
    async with gateway():
        assert (await get("/v1/models", method="HEAD")).status == 200
        assert (await get("/v1/models", {}, "HEAD")).status == 401
        assert (await get("/v1/status", {})).status == 401


async def test_an_own_key_sees_its_own_project() -> None:
    async with gateway(GEMINI_RPM="60") as services:
        await dispatched(services, ledger_ids(services)[0], 3, 40)
        await dispatched(services, own_ledger(services), 7, 9)
        found = (await get(f"/v1/models/{MODEL}", OWN)).json()
        assert (found["limits"]["rpm"], found["used"]["rpm"], found["used"]["rpd"]) == (60, 7, 9)
        status = (await get("/v1/status", OWN)).json()
        matches(status, Status)
        assert status["accounts"] == {"configured": 1, "states": {"AVAILABLE": 1}, "models": {}}
        assert status["concurrency"] == {"limit": 15, "held": 3}
        assert status["models"][MODEL]["used"]["rpm"] == 7


async def test_a_rejected_key_is_401() -> None:
    async with gateway() as services:
        services.pool.disable(services.pool._own(Secret(OWN_KEY)), "key_invalid")
        for path in ("/v1/models", f"/v1/models/{MODEL}", "/v1/status"):
            answer = await get(path, OWN)
            assert answer.status == 401, path
            assert OWN_KEY not in answer.body.decode()


async def test_a_ledger_that_cannot_be_read_is_unknown_use(monkeypatch: pytest.MonkeyPatch) -> None:
    async with gateway(GEMINI_RPM="60") as services:
        read = services.store.read

        async def fail(key: str, **rest: Any) -> Reading:
            if key.startswith("ledger/"):
                raise StoreUnavailable("no answer came in time")
            return await read(key, **rest)

        monkeypatch.setattr(services.store, "read", fail)
        for headers, limit in ((ADMIN, 120), (OWN, 60)):
            found = (await get(f"/v1/models/{MODEL}", headers)).json()
            assert (found["limits"]["rpm"], found["used"]) == (limit, UNKNOWN)
        own = (await get("/v1/status", OWN)).json()
        assert own["accounts"]["states"] == {"UNKNOWN": 1}
        assert own["concurrency"] == {"limit": 15, "held": None}


async def test_reads_of_ledgers_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server's are read every few seconds; of invented keys' ledgers only a few at once."""
    async with gateway() as services:
        reads: list[str] = []
        read = services.store.read

        async def counted(key: str, **rest: Any) -> Reading:
            reads.append(key)
            return await read(key, **rest)

        monkeypatch.setattr(services.store, "read", counted)
        for headers in (ADMIN, OWN) * 5:
            await get("/v1/models", headers)
        assert sorted(key for key in reads if key.startswith("ledger/")) == sorted(
            f"ledger/{one}" for one in (*ledger_ids(services), own_ledger(services))
        )


async def test_of_many_own_keys_a_few_are_read_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    async with gateway() as services:
        going_on, most, release = 0, 0, asyncio.Event()
        read = services.store.read

        async def slow(key: str, **rest: Any) -> Reading:
            nonlocal going_on, most
            if key.startswith("ledger/"):
                going_on += 1
                most = max(most, going_on)
                await release.wait()
                going_on -= 1
            return await read(key, **rest)

        monkeypatch.setattr(services.store, "read", slow)
        asked = [
            asyncio.create_task(get(f"/v1/models/{MODEL}", {"authorization": f"Bearer AQ.invented-key-{number}"}))
            for number in range(MAX_READS_AT_ONCE + 3)
        ]
        async with asyncio.timeout(30):
            finished: set[asyncio.Task[Answer]] = set()
            while len(finished) < 3:
                finished |= (await asyncio.wait(set(asked) - finished, return_when=asyncio.FIRST_COMPLETED))[0]
            release.set()
            answers = [(await task).json()["used"] for task in asked]
        assert [task.result().json()["used"] for task in finished] == [UNKNOWN] * 3
        assert most == MAX_READS_AT_ONCE
        assert answers.count(NOTHING) == MAX_READS_AT_ONCE


async def test_status_counts_accounts_by_state() -> None:
    async with gateway() as services:
        first, second = services.pool.server
        await dispatched(services, first.ledger_id, 3, 1_000)
        services.pool.disable(second, "key_invalid", "API key not valid.")
        body = (await get("/v1/status")).json()
        matches(body, Status)
        assert body["status"] == "healthy"
        assert body["accounts"] == {
            "configured": 2,
            "states": {"AVAILABLE": 1, "FAILED_INIT": 1},
            "models": {MODEL: {"FULLY_EXHAUSTED": 1}},
            "out": {second.id: "key_invalid"},
        }
        assert body["concurrency"] == {"limit": 30, "held": 3}
        assert list(body["models"]) == [MODEL]
        assert body["queue"] == {"interactive": 0, "batch": 0}


async def test_only_the_operator_sees_names_of_accounts() -> None:
    async with gateway(ALLOW_ANONYMOUS="openai_api") as services:
        first, second = services.pool.server
        services.pool.disable(second, "key_invalid", "API key not valid.")
        for headers in ({}, OWN):
            answer = await get("/v1/status", headers)
            matches(answer.json(), Status)
            shown = answer.body.decode()
            assert not [name for name in (first.id, second.id, first.ledger_id, *KEYS.values()) if name in shown]
        assert second.id in (await get("/v1/status")).body.decode()


async def test_an_own_key_sees_which_models_it_cannot_use() -> None:
    async with gateway() as services:
        key = f"ledger/{own_ledger(services)}"
        now_ms = int((await services.store.read(key)).sample.server_ms)
        spent = ModelState(circuit=Circuit("day", "Quota exceeded.", open_until_ms=now_ms + 3_600_000))
        blob = pack(State(60_000, now_ms, {}, {MODEL: spent, "gemini-4-argon": ModelState(days={1: 1})}))
        await services.store.transact([key], lambda *_: Change(None, {key: Put(blob)}))
        accounts = (await get("/v1/status", OWN)).json()["accounts"]
        assert accounts == {
            "configured": 1,
            "states": {"AVAILABLE": 1},
            "models": {MODEL: {"FULLY_EXHAUSTED": 1}},
        }


async def test_paths_that_are_not_built_say_what_to_use() -> None:
    async with gateway():
        for method, path in (("POST", "/v1/completions"), ("POST", "/v1/responses"), ("GET", "/v1/batches/b")):
            answer = await get(path, method=method, json=None if method == "GET" else {"model": MODEL})
            assert answer.status == 404, path
            assert answer.json()["error"]["message"].startswith(
                f"{method} {path} is not part of this server's API. Use "
            )


async def test_a_wrong_method_is_405_with_allow() -> None:
    async with gateway():
        answer = await get("/v1/models", method="DELETE")
        assert (answer.status, answer.headers["allow"]) == (405, "GET, HEAD, OPTIONS")
        assert answer.error["message"]
