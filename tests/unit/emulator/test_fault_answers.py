"""Each fault, as a client sees it."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import aiohttp
import pytest

from shared.emulator import EmulatorConfig, Project, create_app, running

from .conftest import MODEL, Asker

STREAM = "streamGenerateContent?alt=sse"


async def frames_of(response: aiohttp.ClientResponse) -> list[dict[str, Any]]:
    return [json.loads(event[6:]) for event in (await response.text()).split("\r\n\r\n") if event]


@pytest.mark.parametrize(
    ("fault", "status", "words"),
    [
        ("400", 400, "Request contains an invalid argument."),
        ("401", 401, "Request had invalid authentication credentials."),
        ("403", 403, "are blocked."),
        ("404", 404, "models/gemini-3.8-flash is not found for API version v1beta"),
        ("429", 429, "generate_requests_per_model, limit: 5, model: gemini-3.8-flash\nPlease retry in 30s."),
        ("429-day", 429, "generate_requests_per_model_per_day, limit: 20, model: gemini-3.8-flash\nPlease retry in "),
        ("429-tokens", 429, "generate_content_paid_tier_input_token_count, limit: 250000, model"),
        ("429-bare", 429, "Resource has been exhausted (e.g. check quota)."),
        ("429-depleted", 429, "Your prepayment credits are depleted."),
        ("429@2.5", 429, "Please retry in 2.5s."),
        ("500", 500, "An internal error has occurred."),
        ("503", 503, "This model is currently experiencing high demand."),
        ("504", 504, "Deadline expired before operation could complete."),
    ],
)
async def test_a_refusal_can_be_asked_for_in_the_prompt_or_by_header(
    ask: Asker, fault: str, status: int, words: str
) -> None:
    by_prompt = await ask.ask(f"Hello [[fault:{fault}]]")
    by_header = await ask.ask("Hello", headers={"x-emulator-fault": fault})
    for got, body in (by_prompt, by_header):
        assert (got, body["error"]["code"]) == (status, status)
        assert words in body["error"]["message"]
    assert ask.emulator.stats()["faults"] == {fault.partition("@")[0]: 2}


async def test_a_counted_fault_lets_the_third_try_through(ask: Asker) -> None:
    assert [await ask.status("try [[fault:503x2]]") for _ in range(3)] == [503, 503, 200]
    assert await ask.status("another try [[fault:503x2]]") == 503


async def test_ordered_fault_hits_the_next_requests_of_a_key(ask: Asker) -> None:
    url = f"{ask.emulator.url}/emulator/faults"
    async with ask.session.post(url, json={"fault": "503", "count": 2, "key": "k2"}) as response:
        assert await response.json() == {"faults": [{"fault": "503", "count": 2, "model": None}]}
    assert await ask.status(key="k1") == 200
    assert [await ask.status(key="k2") for _ in range(3)] == [503, 503, 200]
    ask.emulator.inject("500", model="gemini-4-argon")
    async with ask.session.delete(url) as response:
        assert await response.json() == {"faults": []}
    assert await ask.status(model="gemini-4-argon") == 200


@pytest.mark.parametrize(
    "order", ['{"fault": "teapot"}', "[]", "{", '{"fault": "500", "count": 0}', '{"fault": "500", "key": 5}']
)
async def test_an_order_that_makes_no_sense_is_refused(ask: Asker, order: str) -> None:
    async with ask.session.post(f"{ask.emulator.url}/emulator/faults", data=order) as response:
        assert response.status == 400


async def test_unknown_fault_is_rejected(ask: Asker) -> None:
    assert "Unknown emulator fault 'teapot'" in await ask.message("[[fault:teapot]]")


async def test_latency_delays_the_first_byte(ask: Asker) -> None:
    for method in ("generateContent", STREAM):
        began_s = time.monotonic()
        async with ask.post("[[latency:150]]", method=method) as response:
            assert time.monotonic() - began_s >= 0.149
            assert response.status == 200
            await response.read()


async def test_a_server_timeout_is_obeyed_before_and_within_an_answer(session: aiohttp.ClientSession) -> None:
    async with running(EmulatorConfig(chunk_delay_s=0.05)) as emulator:
        ask = Asker(emulator, session)
        began_s = time.monotonic()
        assert await ask.status("[[latency:5000]]", headers={"X-Server-Timeout": "0.1"}) == 504
        assert time.monotonic() - began_s < 3
        async with ask.post(method=STREAM, headers={"X-Server-Timeout": "0.12"}) as response:
            frames = await frames_of(response)
        assert response.status == 200
        assert frames[-1]["error"]["status"] == "DEADLINE_EXCEEDED"
        assert "finishReason" not in frames[-2]["candidates"][0]
        assert await ask.status(headers={"X-Server-Timeout": "5"}) == 200


async def test_a_hanging_request_holds_its_slot_until_the_client_goes(ask: Asker) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2):
            await ask.ask("[[fault:hang]]")
    await settled(ask)
    stats = ask.emulator.stats()
    assert stats["disconnects"] == 1
    assert stats["projects"]["k"] | {"models": None} == {"open": 0, "max_open": 1, "models": None}


async def test_a_hang_is_bounded(ask: Asker) -> None:
    with pytest.raises(aiohttp.ServerDisconnectedError):
        await ask.ask("[[fault:hang@0.1]]")
    assert ask.emulator.stats()["disconnects"] == 0


@pytest.mark.parametrize("method", ["generateContent", STREAM])
async def test_a_reset_gives_no_answer(ask: Asker, method: str) -> None:
    with pytest.raises((aiohttp.ClientOSError, aiohttp.ServerDisconnectedError)):
        await ask.ask("[[fault:reset]]", method=method)
    stats = ask.emulator.stats()
    assert (stats["answered"], stats["open"], stats["disconnects"]) == ({"aborted": 1}, 0, 0)


async def test_a_cut_body_ends_before_its_length(ask: Asker) -> None:
    async with ask.post("[[fault:cut]]") as response:
        assert response.status == 200
        with pytest.raises(aiohttp.ClientPayloadError):
            await response.read()


async def test_a_cut_stream_ends_midway_without_its_last_chunk(ask: Asker) -> None:
    received = b""
    async with ask.post("[[fault:cut]]", method=STREAM) as response:
        assert response.status == 200
        with pytest.raises(aiohttp.ClientPayloadError):
            async for chunk in response.content.iter_any():
                received += chunk
    frames = [json.loads(event[6:]) for event in received.decode().split("\r\n\r\n") if event]
    assert len(frames) >= 1
    assert all("finishReason" not in frame["candidates"][0] for frame in frames)
    assert ask.emulator.stats()["open"] == 0


async def test_a_slow_stream_leaves_a_gap_between_frames(ask: Asker) -> None:
    began_s = time.monotonic()
    async with ask.post("[[words:8]] [[fault:slow@0.1]]", method=STREAM) as response:
        frames = await frames_of(response)
    assert time.monotonic() - began_s >= 0.1 * (len(frames) - 1) > 0


@pytest.mark.parametrize("method", ["generateContent", STREAM, "streamGenerateContent"])
async def test_a_malformed_answer_is_a_200_that_is_not_json(ask: Asker, method: str) -> None:
    async with ask.post("[[fault:malformed]]", method=method) as response:
        body = (await response.text()).removeprefix("data: ")
    assert response.status == 200
    with pytest.raises(json.JSONDecodeError):
        json.loads(body)


@pytest.mark.parametrize("method", ["generateContent", "streamGenerateContent"])
async def test_blocked_answers_are_200_without_text(ask: Asker, method: str) -> None:
    async def document(fault: str) -> dict[str, Any]:
        status, body = await ask.ask(f"[[fault:{fault}]]", method=method)
        assert status == 200
        return body[0] if isinstance(body, list) else body

    blocked = await document("block")
    assert "candidates" not in blocked
    assert blocked["promptFeedback"]["blockReason"] == "SAFETY"
    assert blocked["usageMetadata"]["totalTokenCount"] == blocked["usageMetadata"]["promptTokenCount"]
    (withheld,) = (await document("safety"))["candidates"]
    assert (withheld["finishReason"], "content" in withheld) == ("SAFETY", False)
    (spent,) = (await document("max_tokens"))["candidates"]
    assert (spent["finishReason"], spent["content"]) == ("MAX_TOKENS", {"role": "model"})


async def test_json_can_be_of_a_wrong_type_or_in_prose(ask: Asker) -> None:
    listed: dict[str, Any] = {"type": "array", "items": {"type": "integer"}, "minItems": 1}
    config = {"responseMimeType": "application/json", "responseJsonSchema": listed}
    assert list(json.loads(await ask.text("[[fault:wrong_json]]", **config))) == ["wrapped"]
    config["responseJsonSchema"] = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
    (within,) = json.loads(await ask.text("[[fault:wrong_json]]", **config))
    assert isinstance(within["a"], int)
    with pytest.raises(json.JSONDecodeError):
        json.loads(await ask.text("[[fault:not_json]]", **config))


async def settled(ask: Asker, at_once: int = 0) -> None:
    """Waits until so many requests are open."""
    for _ in range(500):
        if ask.emulator.stats()["open"] == at_once:
            return
        await asyncio.sleep(0.01)
    pytest.fail(f"{ask.emulator.stats()['open']} requests stayed open")


async def test_disconnect_in_a_stream_frees_the_slot(session: aiohttp.ClientSession) -> None:
    async with running(EmulatorConfig(chunk_delay_s=0.1)) as emulator:
        ask = Asker(emulator, session)
        async with ask.post(method=STREAM) as response:
            await response.content.readany()
            assert emulator.stats()["open"] == 1
        await settled(ask)
        assert (emulator.stats()["disconnects"], emulator.stats()["answered"]) == (1, {"disconnected": 1})


async def test_disconnect_in_the_body_is_not_admitted(ask: Asker) -> None:
    host, port = ask.emulator.url.removeprefix("http://").split(":")
    _, writer = await asyncio.open_connection(host, int(port))
    writer.write(
        f"POST /v1/models/{MODEL}:generateContent HTTP/1.1\r\nHost: x\r\nx-goog-api-key: k\r\n"
        "Content-Length: 1000\r\n\r\n{".encode()
    )
    await settled(ask, at_once=1)
    writer.close()
    await writer.wait_closed()
    await settled(ask)
    stats = ask.emulator.stats()
    assert stats["disconnects"] == 1
    assert stats["keys"]["k"] == {"requests": 1, "admitted": 0, "answered": {"disconnected": 1}}


async def test_slot_is_free_after_a_disconnect(session: aiohttp.ClientSession) -> None:
    async with running(EmulatorConfig(default_project=Project(concurrency=1))) as emulator:
        ask = Asker(emulator, session)
        assert await ask.status() == 200
        for _ in range(20):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.01):
                    await ask.ask("[[fault:hang]]")
            assert await ask.status() == 200
        assert emulator.stats()["projects"]["k"]["max_open"] == 1


class _Silent(asyncio.Transport):
    """A transport that takes what is written and never answers."""

    def write(self, data: object) -> None: ...

    def close(self) -> None: ...

    def is_closing(self) -> bool:
        return False


async def test_lost_connection_frees_its_slot_first() -> None:
    app = create_app()
    protocol = app.server()()
    protocol.connection_made(_Silent())
    body = b'{"contents":[{"parts":[{"text":"[[fault:hang]]"}]}]}'
    head = f"POST /v1/models/{MODEL}:generateContent?key=k HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
    protocol.data_received(head.encode() + body)
    for _ in range(20):
        await asyncio.sleep(0)
    assert app.stats.snapshot()["open"] == 1
    protocol.connection_lost(None)
    assert app.stats.snapshot()["open"] == 0, "before the handler was given a turn"
    await asyncio.sleep(0.01)
    assert (app.stats.snapshot()["open"], app.stats.disconnects) == (0, 1)


async def test_a_body_over_the_limit_is_refused(session: aiohttp.ClientSession) -> None:
    async with running(EmulatorConfig(max_body_bytes=1000)) as emulator:
        ask = Asker(emulator, session)
        assert await ask.message("x" * 2000) == "Request payload size exceeds the limit: 1000 bytes."
        assert await ask.status("x" * 100) == 200
