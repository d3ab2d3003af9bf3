"""POST /batch over the whole path: results as they finish, stored before they are sent, and carried on by another request."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import orjson
import pytest

from functions.batch import carrying
from shared.batch.record import BatchRecord
from shared.batch.stored import StoredBatches
from shared.errors import LedgerUnavailable
from tests.support.edge import ADMIN, Answer
from tests.support.whole_path import MODEL, OWN_KEY, WholePath, eventually, whole_path

Lines = list[dict[str, Any]]


def prompts(count: int) -> list[dict[str, Any]]:
    return [{"id": f"p{number}", "prompt": f"number {number}", "metadata": number} for number in range(count)]


def lines_of(answer: Answer) -> Lines:
    return [orjson.loads(line) for line in answer.body.splitlines() if line.strip()]


def results_of(lines: Lines) -> Lines:
    return [line for line in lines if line["type"] == "result"]


async def send(path: WholePath, items: Sequence[Any], **fields: Any) -> Answer:
    return await path.send("POST", "/batch", orjson.dumps({"items": items, **fields}))


async def follow(path: WholePath, url: str, most: int = 50) -> Lines:
    """The results of the following requests, until the batch is done."""
    found: Lines = []
    for _ in range(most):
        lines = lines_of(await path.send("POST", url))
        found += results_of(lines)
        if lines[-1]["type"] == "done":
            return found
        url = lines[-1]["url"]
    raise AssertionError("the batch does not end")


async def test_every_item_has_a_result() -> None:
    async with whole_path() as path:
        answer = await send(path, [*prompts(20), {"prompt": 1}, "x", {"prompt": "y", "audio_path": "/etc/passwd"}])
        lines = lines_of(answer)
        assert answer.headers["content-type"].startswith("application/x-ndjson")
        assert (lines[0]["type"], lines[0]["total"], lines[-1]) == (
            "batch",
            23,
            {"type": "done", "total": 23, "failed": 3},
        )
        by_index = {line["index"]: line for line in results_of(lines)}
        assert sorted(by_index) == list(range(23))
        assert [(by_index[n]["id"], by_index[n]["metadata"]) for n in range(20)] == [(f"p{n}", n) for n in range(20)]
        assert all(f"number {n}”" in by_index[n]["response"] for n in range(20))
        assert by_index[0]["usage"]["total_tokens"] > 0
        assert {by_index[n]["error"]["code"] for n in (20, 21, 22)} == {"invalid_request"}
        assert "send its bytes in base64, or a URL" in by_index[22]["error"]["message"]
        assert path.sent == 20


async def test_a_jsonl_body_is_taken() -> None:
    async with whole_path() as path:
        body = b'{"prompt": "a"}\n\n{bad\n{"prompt": "b", "id": 7}'
        headers = {"content-type": "application/jsonl"}
        answer = await path.send("POST", "/batch?max_workers=2&batch_id=lines", body, {**ADMIN, **headers})
        lines = lines_of(answer)
        assert lines[0]["batch_id"] == "lines" and lines[-1] == {"type": "done", "total": 3, "failed": 1}
        wrong = next(line for line in results_of(lines) if line["error"] is not None)
        assert wrong["index"] == 1 and wrong["error"]["message"].startswith("Line 2 is not JSON")


async def test_the_same_request_again_generates_nothing() -> None:
    async with whole_path() as path:
        first = results_of(lines_of(await send(path, prompts(5), batch_id="again")))
        second = results_of(lines_of(await send(path, prompts(5), batch_id="again")))
        assert second == first and path.sent == 5
        other = await send(path, prompts(6), batch_id="again")
        assert (other.status, other.error["code"]) == (409, "batch_differs")
        rest = results_of(lines_of(await path.send("POST", "/batch/again?after=3")))
        assert rest == first[3:]


async def test_a_long_batch_links_to_its_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the size of the response and by its time; no result twice, none lost, none generated again."""
    monkeypatch.setattr(carrying, "MAX_SENT_BYTES", 1500)
    async with whole_path() as path:
        lines = lines_of(await send(path, prompts(40), batch_id="long"))
        assert lines[-1]["type"] == "continue" and len(results_of(lines)) < 40
        found = results_of(lines) + await follow(path, lines[-1]["url"])
        assert sorted(line["index"] for line in found) == list(range(40))
        assert path.sent == 40
        monkeypatch.setattr(carrying, "MAX_SENT_BYTES", 1 << 20)
        everything = results_of(lines_of(await path.send("POST", "/batch/long")))
        assert sorted(line["index"] for line in everything) == list(range(40))


async def test_the_callers_time_ends_a_response() -> None:
    async with whole_path(upstream=None, GEMINI_RPM=6, REQUEST_TIMEOUT_SECONDS=30) as path:
        headers = {**ADMIN, "x-request-timeout": "2"}
        body = orjson.dumps({"items": prompts(9), "batch_id": "slow"})
        lines = lines_of(await path.send("POST", "/batch", body, headers))
        assert lines[-1]["type"] == "continue" and 0 < len(results_of(lines)) < 9
        state = orjson.loads((await path.send("GET", "/batch/slow")).body)
        assert (state["state"], state["total"], state["done"]) == ("open", 9, len(results_of(lines)))
        found = results_of(lines) + await follow(path, lines[-1]["url"])
        assert sorted(line["index"] for line in found) == list(range(9)) and path.sent == 9


async def test_one_request_at_a_time_carries_a_batch_on() -> None:
    async with whole_path(GEMINI_RPM=6) as path:
        running = asyncio.create_task(send(path, prompts(8), batch_id="one"))
        await eventually(lambda: path.sent >= 1)
        second = await path.send("POST", "/batch/one")
        assert (second.status, second.error["code"]) == (409, "batch_busy")
        assert 0 < int(second.headers["retry-after"]) <= 5
        assert orjson.loads((await path.send("GET", "/batch/one")).body)["state"] == "running"
        assert lines_of(await running)[-1]["type"] == "done" and path.sent == 8


async def test_a_caller_who_leaves_gets_the_results_later() -> None:
    async with whole_path() as path:
        path.gemini.inject("slow", 4)
        answer = Answer()
        body = orjson.dumps({"items": prompts(4), "batch_id": "left"})
        asking = asyncio.create_task(path.send("POST", "/batch", body, into=answer))
        await eventually(lambda: path.sent == 4)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        await path.quiet()
        found = await follow(path, "/batch/left")
        assert sorted(line["index"] for line in found) == list(range(4))
        assert path.sent == 4


async def test_a_spent_day_leaves_items_open() -> None:
    async with whole_path(GEMINI_RPD=3) as path:
        lines = lines_of(await send(path, prompts(6), batch_id="day"))
        last = lines[-1]
        assert last["type"] == "continue" and len(results_of(lines)) == 3
        assert last["error"]["code"] == "daily_quota_exhausted" and last["retry_after"] > 0
        assert last["error"]["message"].startswith("All keys exhausted until ")
        again = await path.send("POST", last["url"])
        assert (again.status, again.error["code"]) == (429, "daily_quota_exhausted")
        assert int(again.headers["retry-after"]) > 0
        assert orjson.loads((await path.send("GET", "/batch/day")).body)["done"] == 3


@pytest.mark.parametrize(
    ("fields", "status", "code"),
    [
        ({"model": "gemini-99-ultra"}, 404, "model_not_found"),
        ({"items": []}, 400, "invalid_request"),
        ({"batch_id": "a/b"}, 400, "invalid_request"),
        ({"max_workers": 65}, 400, "invalid_request"),
        ({"nothing_known": 1}, 400, "invalid_request"),
    ],
)
async def test_what_concerns_every_item_is_the_response(fields: dict[str, Any], status: int, code: str) -> None:
    async with whole_path() as path:
        answer = await path.send("POST", "/batch", orjson.dumps({"items": prompts(3), **fields}))
        assert (answer.status, answer.error["code"]) == (status, code)


async def test_a_batch_belongs_to_its_key() -> None:
    own = {"x-goog-api-key": OWN_KEY}
    async with whole_path() as path:
        body = orjson.dumps({"items": prompts(2), "batch_id": "mine"})
        assert lines_of(await path.send("POST", "/batch", body, own))[-1]["type"] == "done"
        for method in ("GET", "POST"):
            answer = await path.send(method, "/batch/mine")
            assert (answer.status, answer.error["code"]) == (404, "not_found")
        assert (await path.send("GET", "/batch/mine", headers=own)).status == 200
        assert (await path.send("GET", "/batch/mine", headers={})).status == 401


async def test_a_batch_outlives_a_change_of_the_default_model() -> None:
    """The same request carries it on, with the model that it was made with."""
    async with whole_path() as path:
        body = {"items": prompts(2), "batch_id": "steady"}
        assert results_of(lines_of(await path.send("POST", "/batch", orjson.dumps(body))))[0]["model"] == MODEL
        path.services.settings = replace(path.services.settings, model_override="gemini-3.8-pro")
        again = results_of(lines_of(await path.send("POST", "/batch", orjson.dumps(body))))
        assert [line["model"] for line in again] == [MODEL] * 2 and path.sent == 2


async def test_a_long_system_prompt_is_stored_with_the_items() -> None:
    async with whole_path() as path:
        lines = lines_of(await send(path, prompts(2), system_prompt="Be brief. " * 120_000))
        assert lines[-1] == {"type": "done", "total": 2, "failed": 0}


async def test_lines_with_too_many_values_are_rejected() -> None:
    """Parsed, they would take twenty times their bytes."""
    line = b'{"prompt": "a", "metadata": [' + b"{}," * 20_000 + b"{}]}"
    async with whole_path() as path:
        headers = {**ADMIN, "content-type": "application/jsonl"}
        answer = await path.send("POST", "/batch", b"\n".join([line] * 30), headers)
        assert (answer.status, answer.error["details"]["limit_values"]) == (400, 500_000)
        assert (await path.send("POST", "/batch", b"\n".join([line] * 10), headers)).status == 200


async def test_metadata_that_no_response_can_carry_is_an_error() -> None:
    async with whole_path() as path:
        items = [{"prompt": "a", "metadata": "x" * 1_100_000}, {"prompt": "b", "metadata": "x" * 1_000_000}]
        by_index = {line["index"]: line for line in results_of(lines_of(await send(path, items)))}
        assert by_index[0]["error"]["message"].startswith("metadata has more than 1 MB")
        assert by_index[1]["error"] is None and path.sent == 1


async def test_files_of_items_are_sent_inside() -> None:
    data = base64.b64encode(b"sound").decode()
    async with whole_path() as path:
        lines = lines_of(await send(path, [{"prompt": "Listen: <audio>", "audio_bytes": data}]))
        assert lines[-1] == {"type": "done", "total": 1, "failed": 0}
        assert results_of(lines)[0]["usage"]["prompt_tokens"] > 0


async def test_a_schema_and_a_system_prompt_are_for_all_items() -> None:
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    async with whole_path() as path:
        lines = lines_of(await send(path, prompts(2), response_schema=schema, system_prompt="Be brief."))
        assert all("n" in orjson.loads(line["response"]) for line in results_of(lines))


async def test_results_are_stored_when_the_store_is_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are paid for."""
    failures = 2
    plain = StoredBatches.add

    async def add(self: StoredBatches, *arguments: Any) -> BatchRecord:
        nonlocal failures
        if failures:
            failures -= 1
            raise LedgerUnavailable("The store is away.", retry_after_s=1)
        return await plain(self, *arguments)

    monkeypatch.setattr(StoredBatches, "add", add)
    async with whole_path() as path:
        lines = lines_of(await send(path, prompts(5), batch_id="away"))
        found = results_of(lines) + ([] if lines[-1]["type"] == "done" else await follow(path, lines[-1]["url"]))
        assert sorted(line["index"] for line in found) == list(range(5)) and path.sent == 5
