"""What a body may cost before anybody knows who sent it: bytes, time, values."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
import pytest

from shared.auth import credentials as auth
from shared.bounds.byte_budget import Bucket, ByteBudget
from shared.bounds.json_structure import MAX_VALUES
from shared.bounds.large_work import LARGE_BYTES
from shared.errors import BadRequest, CallerGone, PayloadTooLarge, QueueFull
from shared.generation import JsonObject
from shared.http import call
from shared.http import request_body as http_body
from shared.http.request_body import budgeted_bytes, parse_object, read_body
from tests.support.edge import ADMIN, FakeGateway, FakeServices
from tests.support.functions import called
from tests.unit.http.test_endpoint import OWN, thing

MB = 1 << 20
STRANGER = Bucket("ip:192.0.2.1", known=False)
JSON = {"content-type": "application/json"}


class Sender:
    """Chunks as an ASGI server hands them on; `pause_s` before each."""

    def __init__(self, chunks: list[bytes], *, ends: bool = True, pause_s: float = 0.0) -> None:
        self.chunks, self.ends, self.pause_s = list(chunks), ends, pause_s
        self.received = 0

    async def __call__(self) -> Any:
        await asyncio.sleep(self.pause_s)
        if not self.chunks:
            await asyncio.Event().wait()
        self.received += 1
        chunk = self.chunks.pop(0)
        return {"type": "http.request", "body": chunk, "more_body": bool(self.chunks) or not self.ends}


class TestReading:
    async def test_bytes_are_held_as_they_come(self) -> None:
        budget = ByteBudget(64 * MB)
        claim = budget.claim(STRANGER)
        headers = {"content-length": str(31 * MB)}
        reading = asyncio.create_task(read_body(headers, Sender([b"x" * MB], ends=False), 32 * MB, 60, claim))
        await asyncio.sleep(0.01)
        assert budget.used_bytes == MB
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        assert budget.used_bytes == 0

    async def test_bodies_in_flight_are_bounded(self) -> None:
        """Forty that never end: those that do not fit are rejected, and hold nothing then."""
        budget = ByteBudget(64 * MB, strangers_bytes=32 * MB)
        claims = [budget.claim(Bucket(f"ip:{n}", known=False)) for n in range(40)]
        reading = [
            asyncio.create_task(read_body({}, Sender([b"x" * MB] * 5, ends=False), 32 * MB, 60, claim))
            for claim in claims
        ]
        done, pending = await asyncio.wait(reading, timeout=0.5)
        assert {type(task.exception()) for task in done} == {QueueFull}
        assert budget.used_bytes == 5 * MB * len(pending) <= 32 * MB
        assert len(pending) >= 5
        for task in pending:
            task.cancel()
        await asyncio.wait(pending)
        assert budget.used_bytes == 0

    async def test_one_that_declares_more_than_fits_is_not_read(self) -> None:
        claim, sender = ByteBudget(MB).claim(STRANGER), Sender([b"x"])
        with pytest.raises(QueueFull):
            await read_body({"content-length": str(2 * MB)}, sender, 32 * MB, 60, claim)
        assert sender.received == 0

    @pytest.mark.parametrize("length", ["9" * 5_000, str(33 * MB)])
    async def test_a_declared_length_beyond_the_limit_is_rejected(self, length: str) -> None:
        with pytest.raises(PayloadTooLarge):
            await read_body({"content-length": length}, Sender([b"x"]), 32 * MB, 60, ByteBudget(MB).claim(STRANGER))

    async def test_slow_body_is_rejected_before_the_timeout(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(http_body, "GRACE_S", 0.2)
        claim = ByteBudget(MB).claim(STRANGER)
        with pytest.raises(BadRequest, match=r"arrives too slowly: .* 256 KB per second"):
            async with asyncio.timeout(20):
                await read_body({}, Sender([b"x"] * 10_000, pause_s=0.02), 32 * MB, 600, claim)
        assert claim.held_bytes == 0

    async def test_one_at_the_least_rate_is_read(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(http_body, "GRACE_S", 0.5)
        chunks = [b"x" * 256 * 1024] * 12
        body = await read_body({}, Sender(chunks, pause_s=0.1), 32 * MB, 600, ByteBudget(64 * MB).claim(STRANGER))
        assert body == b"".join(chunks)

    async def test_one_that_breaks_off_holds_nothing(self) -> None:
        claim = ByteBudget(MB).claim(STRANGER)

        async def receive() -> Any:
            return next(messages)

        messages = iter([{"type": "http.request", "body": b"x", "more_body": True}, {"type": "http.disconnect"}])
        with pytest.raises(CallerGone):
            await read_body({}, receive, MB, 60, claim)
        assert claim.held_bytes == 0

    @pytest.mark.parametrize("chunks", [[b""], [b"", b"ab"], [b"a", b"b"], [b"ab", b""], [b"", b"", b"a", b"b"]])
    async def test_the_body_is_its_chunks(self, chunks: list[bytes]) -> None:
        body = await read_body({}, Sender(chunks), MB, 60, ByteBudget(MB).claim(STRANGER))
        assert (type(body), body) == (bytes, b"".join(chunks))


class TestParsing:
    @pytest.mark.parametrize("unit", [b"[]", b"{}", b"1", b'""', b'{"a":1}', b"[[]]"])
    def test_too_many_values_are_rejected_with_the_number(self, unit: bytes) -> None:
        with pytest.raises(BadRequest, match="more than 500,000 values") as rejected:
            parse_object(b'{"prompt":"x","a":[' + b",".join([unit] * (MAX_VALUES + 1)) + b"]}")
        assert rejected.value.details == {"limit_values": MAX_VALUES}

    def test_prose_of_any_length_is_read(self) -> None:
        text = "one, two: [three], {four} " * 800_000
        assert parse_object(orjson.dumps({"prompt": text})) == {"prompt": text}

    @pytest.mark.parametrize(
        ("text", "factor"),
        [("a", 1), ("\n", 1), ("é", 1.5), ("漢", 1.5), ("\U0001f600", 2.5)],
    )
    def test_wide_characters_weigh_more(self, text: str, factor: float) -> None:
        for body in (f'{{"prompt":"{text}aaaa"}}'.encode(), orjson.dumps({"prompt": f"{text}aaaa"})):
            assert budgeted_bytes(body) == int(len(body) * factor)

    @pytest.mark.parametrize(("escape", "factor"), [(r"\u00e9", 1.5), (r"\ud83d\ude00", 2.5), (r"\uD83D\uDE00", 2.5)])
    def test_escaped_characters_weigh_as_much(self, escape: str, factor: float) -> None:
        body = f'{{"prompt":"{escape}aaaa"}}'.encode()
        assert budgeted_bytes(body) == int(len(body) * factor)


class TestWhoAsks:
    async def test_with_an_admin_key_no_key_is_looked_for_in_the_body(self) -> None:
        """Not even by parsing it: a function that reads it does that, and this one does not."""

        async def run(call: call.Call) -> JsonObject:
            return {"body": len(await call.body())}

        body = b"[" * 1000
        answer = await thing(run).ask(content=body, headers={**ADMIN, **JSON})
        assert (answer.status, answer.json()) == (200, {"body": 1000})

    async def test_a_key_in_a_large_body_is_found(self) -> None:
        asked = thing()
        answer = await asked.ask(json={**OWN, "image": "x" * 2_000_000}, headers={})
        assert answer.status == 200
        assert asked.calls[0].caller.kind == "caller_key"

    async def test_wrong_credentials_type_fails_with_an_admin_key(self) -> None:
        answer = await thing().ask(json={"credentials": 5})
        assert (answer.status, answer.error["details"]) == (400, {"field": "credentials"})

    async def test_unauthorized_explains_why_no_key_was_found(self) -> None:
        content = b'{"a":[' + b"1," * MAX_VALUES + b"1]}"
        answer = await thing().ask(content=content, headers=JSON)
        assert answer.status == 401
        assert "500,000 values" in answer.error["message"]

    async def test_a_body_that_is_rejected_is_parsed_once(self, monkeypatch: pytest.MonkeyPatch) -> None:
        parsed = []
        monkeypatch.setattr(call, "parse_object", lambda body: parsed.append(body) or parse_object(body))
        headers = {**JSON, "authorization": "Bearer AQ.callers-own-key"}
        answer = await thing().ask(content=b'{"a": [1}', headers=headers)
        assert (answer.status, answer.error["code"], len(parsed)) == (400, "invalid_request", 1)

    def test_any_admin_key_in_a_header_is_enough(self) -> None:
        settings = FakeServices().settings
        key = ADMIN["admin-api-key"]
        for headers, compatible in (
            ({"admin-api-key": key}, False),
            ({"authorization": f"Bearer {key}"}, True),
            ({"x-goog-api-key": key}, True),
        ):
            assert auth.has_admin_key(headers, settings, bearer_is_credential=compatible)
        assert not auth.has_admin_key({"authorization": f"Bearer {key}"}, settings)


class TestRequests:
    async def test_bytes_are_held_until_the_answer(self) -> None:
        services = FakeServices(FakeGateway(hold=asyncio.Event()))
        asking = asyncio.create_task(called("chat", {"prompt": "x" * 1000}, services=services))
        await services.gateway.began.wait()
        assert services.byte_budget.used_bytes > 1000
        assert services.gateway.asked[0].claim is not None
        assert services.gateway.hold is not None
        services.gateway.hold.set()
        assert (await asking).status == 200
        assert services.byte_budget.used_bytes == 0

    @pytest.mark.parametrize("body", [{"prompt": 5}, {"prompt": "x" * 1000, "stream": True}, {"prompt": "x"}])
    async def test_nothing_is_held_afterwards(self, body: JsonObject) -> None:
        services = FakeServices()
        if body.get("stream"):
            services.gateway.says = []
        await called("chat", body, services=services)
        assert services.byte_budget.used_bytes == 0

    async def test_a_full_process_rejects_with_a_time(self) -> None:
        services = FakeServices(environment={"QUEUE_MAX_MB": "1"})
        answer = await called("chat", {"prompt": "x" * (2 * MB)}, services=services)
        assert (answer.status, answer.error["code"], answer.headers["retry-after"]) == (503, "queue_full", "1")
        assert services.byte_budget.used_bytes == 0

    async def test_a_large_body_is_worked_on_in_a_thread(self) -> None:
        services, ran = FakeServices(), []
        run = services.large_work.run

        async def watched(work: Any, **rest: Any) -> Any:
            ran.append(work)
            return await run(work, **rest)

        services.large_work.run = watched  # type: ignore[method-assign]
        assert (await called("chat", {"prompt": "x" * 100}, services=services)).status == 200
        assert not ran
        assert (await called("chat", {"prompt": "x" * LARGE_BYTES}, services=services)).status == 200
        assert len(ran) == 3  # Its width, its values, and the request in it.
