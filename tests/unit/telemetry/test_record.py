"""One record per request, in Cloud Logging's shape, written before the answer is complete, whatever becomes of it."""

from __future__ import annotations

import asyncio
import sys
import unicodedata
from functools import partial
from typing import Any

import orjson
import pytest
from starlette.responses import Response, StreamingResponse

from shared.chat.chat import chat_events
from shared.errors import (
    BadRequest,
    GatewayError,
    LedgerUnavailable,
    QueueTimeout,
    UpstreamFailed,
    UpstreamTimeout,
)
from shared.generation import JsonObject
from shared.http.endpoint import Call, EndpointApp
from shared.http.manifest import Manifest
from shared.telemetry.record import Trace, log_problem, trace_of
from tests.support.edge import ADMIN, Answer, FakeGateway, FakeServices, ask, native

TRACE, SPAN = "0123456789abcdef0123456789abcdef", "00f067aa0ba902b7"
TRACEPARENT = f"00-{TRACE}-{SPAN}-01"
STRINGS = {"requestMethod", "requestUrl", "latency", "userAgent", "responseSize"}
FAILURES = [QueueTimeout("x", retry_after_s=1), UpstreamFailed("x"), LedgerUnavailable("x"), UpstreamTimeout("x")]


async def generating(call: Call) -> JsonObject:
    reply = await call.generate("some-model", await call.json())
    return {"text": reply.model_used}


async def streaming(call: Call) -> Response:
    return call.stream("some-model", await call.json(), partial(chat_events, request_id=call.request_id))


def edge(handler: Any = generating, services: FakeServices | None = None, access: Any = "credential") -> EndpointApp:
    made = services or FakeServices()
    manifest = Manifest("thing", "A thing.", {"/thing": ("POST",)}, access, 512, 1, 80, 60, ())
    return EndpointApp(handler, manifest, services=lambda: made)


async def post(edge: EndpointApp, **rest: Any) -> Answer:
    rest = {"json": {"prompt": "of the caller"}, "headers": ADMIN, **rest}
    return await ask(edge.answer, path="/thing", **rest)


def gateway(says: Any = "Hello", **services: Any) -> FakeServices:
    return FakeServices(FakeGateway(says), **services)


def parsed(line: str) -> JsonObject:
    """A record, if the line is one by Cloud Logging's rules."""
    record: JsonObject = orjson.loads(line)
    assert record["severity"] in ("INFO", "WARNING", "ERROR")
    assert isinstance(record["message"], str)
    request = record["httpRequest"]
    assert {"requestMethod", "requestUrl", "latency"} <= request.keys() <= {*STRINGS, "status"}
    assert all(isinstance(request[name], str) for name in STRINGS & request.keys())
    assert isinstance(request.get("status", 200), int)
    assert request["latency"].endswith("s")
    assert float(request["latency"][:-1]) >= 0
    labels = record["logging.googleapis.com/labels"]
    assert {"function", "request_id", "outcome"} <= labels.keys()
    assert all(isinstance(value, str) for value in labels.values())
    return record


def only_record(capsys: pytest.CaptureFixture[str]) -> JsonObject:
    (line,) = capsys.readouterr().out.splitlines()
    return parsed(line)


def labels(record: JsonObject) -> dict[str, str]:
    return record["logging.googleapis.com/labels"]


class TestTrace:
    @pytest.mark.parametrize(
        ("headers", "trace"),
        [
            ({"traceparent": TRACEPARENT}, Trace(TRACE, SPAN, True)),
            ({"traceparent": f"00-{TRACE}-{SPAN}-00"}, Trace(TRACE, SPAN, False)),
            ({"traceparent": f"00-{TRACE}-{SPAN}-03"}, Trace(TRACE, SPAN, True)),
            ({"traceparent": f"01-{TRACE}-{SPAN}-01-of-the-future"}, Trace(TRACE, SPAN, True)),
            ({"x-cloud-trace-context": f"{TRACE}/74;o=1"}, Trace(TRACE, "000000000000004a", True)),
            ({"x-cloud-trace-context": f"{TRACE}/74;o=0"}, Trace(TRACE, "000000000000004a", False)),
            ({"x-cloud-trace-context": f"{TRACE.upper()}/74"}, Trace(TRACE, "000000000000004a", None)),
            ({"x-cloud-trace-context": f"{TRACE}/18446744073709551615"}, Trace(TRACE, "f" * 16, None)),
            ({"x-cloud-trace-context": f"{TRACE}/0;o=1"}, Trace(TRACE, None, True)),
            ({"x-cloud-trace-context": TRACE}, Trace(TRACE, None, None)),
        ],
    )
    def test_each_header_is_understood(self, headers: dict[str, str], trace: Trace) -> None:
        assert trace_of(headers) == trace

    def test_traceparent_has_precedence_unless_malformed(self) -> None:
        other = "f" * 32
        assert trace_of({"traceparent": TRACEPARENT, "x-cloud-trace-context": f"{other}/1"}) == (TRACE, SPAN, True)
        assert trace_of({"traceparent": "00-x", "x-cloud-trace-context": f"{other}/1"}) == (other, f"{1:016x}", None)

    @pytest.mark.parametrize(
        "text",
        [
            "",
            TRACE,
            f"00-{TRACE}-{SPAN}",
            f"00-{TRACE}-{SPAN}-1",
            f"00-{TRACE}-{SPAN}-01-more",
            f"ff-{TRACE}-{SPAN}-01",
            f"00-{TRACE.upper()}-{SPAN}-01",
            f"00-{'0' * 32}-{SPAN}-01",
            f"00-{TRACE}-{'0' * 16}-01",
            f"00-{TRACE}-{SPAN}-01\n",
        ],
    )
    def test_a_malformed_traceparent_is_ignored(self, text: str) -> None:
        assert trace_of({"traceparent": text}) is None

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "1234/1;o=1",
            f"{TRACE}/x",
            f"{TRACE}/1;o=2",
            f"{TRACE}/18446744073709551616",
            f"{'0' * 32}/1",
            f"{TRACE}1/1",
        ],
    )
    def test_a_malformed_cloud_trace_context_is_ignored(self, text: str) -> None:
        assert trace_of({"x-cloud-trace-context": text}) is None


class TestShape:
    async def test_request_is_one_record_without_content(self, capsys: pytest.CaptureFixture[str]) -> None:
        services = FakeServices(environment={"GOOGLE_CLOUD_PROJECT": "p"})
        services.written = 2
        given = {"x-request-id": "id-1", "x-caller-id": "team", "user-agent": "curl/8", "traceparent": TRACEPARENT}
        answer = await post(edge(services=services), headers={**ADMIN, **given})
        record = only_record(capsys)
        del record["httpRequest"]["latency"]
        assert record == {
            "severity": "INFO",
            "message": "POST /thing 200 ok",
            "httpRequest": {
                "requestMethod": "POST",
                "requestUrl": "/thing",
                "status": 200,
                "responseSize": str(len(answer.body)),
                "userAgent": "curl/8",
            },
            "logging.googleapis.com/labels": {
                "function": "thing",
                "request_id": "id-1",
                "outcome": "ok",
                "caller": "name:team",
                "model": "some-model",
                "account": "account-1",
                "queue_ms": "250.000",
                "upstream_ms": "500.000",
                "attempts": "1",
                "prompt_tokens": "3",
                "output_tokens": "2",
                "thinking_tokens": "1",
                "total_tokens": "6",
                "ledger_writes": "2",
            },
            "logging.googleapis.com/trace": f"projects/p/traces/{TRACE}",
            "logging.googleapis.com/spanId": SPAN,
            "logging.googleapis.com/trace_sampled": True,
        }

    async def test_without_a_project_the_trace_is_the_bare_id(self, capsys: pytest.CaptureFixture[str]) -> None:
        await post(edge(), headers={**ADMIN, "x-cloud-trace-context": TRACE})
        record = only_record(capsys)
        assert record["logging.googleapis.com/trace"] == TRACE
        assert not record.keys() & {"logging.googleapis.com/spanId", "logging.googleapis.com/trace_sampled"}

    async def test_what_is_not_known_is_not_there(self, capsys: pytest.CaptureFixture[str]) -> None:
        async def run(call: Call) -> Response:
            return StreamingResponse(iter([b"x"]))

        await post(edge(run, access="public"))
        record = only_record(capsys)
        assert labels(record).keys() == {"function", "request_id", "outcome", "ledger_writes"}
        assert record["httpRequest"].keys() == {"requestMethod", "requestUrl", "latency", "status"}

    async def test_generations_of_one_request_add_up(self, capsys: pytest.CaptureFixture[str]) -> None:
        async def run(call: Call) -> JsonObject:
            for model in ("first", "second"):
                await call.generate(model, {})
            return {}

        answer = await post(edge(run))
        told = labels(only_record(capsys))
        assert (told["queue_ms"], told["upstream_ms"], told["attempts"]) == ("500.000", "1000.000", "2")
        assert (told["prompt_tokens"], told["total_tokens"], told["model"]) == ("6", "12", "second")
        assert answer.headers["server-timing"].startswith("queue;dur=500.0, upstream;dur=1000.0, total;dur=")

    async def test_anonymous_address_is_not_logged(self, capsys: pytest.CaptureFixture[str]) -> None:
        services = FakeServices(environment={"ALLOW_ANONYMOUS": "thing"})
        await post(edge(services=services, access="anonymous"), headers={}, client=("192.0.2.77", 1))
        line = capsys.readouterr().out
        assert labels(parsed(line))["caller"] == "anonymous"
        assert "192.0.2.77" not in line

    async def test_a_user_agent_is_cut(self, capsys: pytest.CaptureFixture[str]) -> None:
        await post(edge(), headers={**ADMIN, "user-agent": "é" * 1000})
        assert only_record(capsys)["httpRequest"]["userAgent"] == "é" * 256

    async def test_control_characters_are_escaped(self, capsys: pytest.CaptureFixture[str]) -> None:
        """What ends a line for some readers, or steers a terminal."""
        agent = "".join(map(chr, range(256)))
        await post(edge(), headers={**ADMIN, "user-agent": agent})
        (line,) = capsys.readouterr().out.removesuffix("\n").splitlines()
        assert parsed(line)["httpRequest"]["userAgent"] == agent
        assert not [character for character in line if unicodedata.category(character) == "Cc"]
        assert "é" in line

    def test_format_characters_in_a_message_are_escaped(self, capsys: pytest.CaptureFixture[str]) -> None:
        log_problem("a\u2028b\u2029c\u202ed\u2066e\u200ff\ufeffg 月 😀")
        (line,) = capsys.readouterr().out.removesuffix("\n").splitlines()
        assert orjson.loads(line)["message"] == "a\u2028b\u2029c\u202ed\u2066e\u200ff\ufeffg 月 😀"
        assert "月 😀" in line
        assert not set("\u2028\u2029\u202e\u2066\u200f\ufeff") & set(line)


class TestLedgerWrites:
    async def test_they_add_up_over_the_records_that_are_written(self, capsys: pytest.CaptureFixture[str]) -> None:
        services = gateway(BadRequest("x"), environment={"LOG_LEVEL": "warning"})
        made = edge(services=services)
        services.written = 3
        await post(made)
        services.written += 4
        services.gateway.says = UpstreamFailed("x")
        await post(made)
        assert labels(only_record(capsys))["ledger_writes"] == "7"


class TestFailures:
    @pytest.mark.parametrize("error", FAILURES, ids=lambda error: error.code)
    async def test_failed_request_logs_its_usage(self, error: GatewayError, capsys: pytest.CaptureFixture[str]) -> None:
        answer = await post(edge(services=gateway(error)))
        record = only_record(capsys)
        assert (answer.status, record["httpRequest"]["status"]) == (error.status, error.status)
        assert labels(record)["outcome"] == error.code
        self.assert_spent(record)
        assert "prompt_tokens" not in labels(record)
        assert answer.headers["server-timing"].startswith("queue;dur=250.0, upstream;dur=500.0, total;dur=")

    @pytest.mark.parametrize("error", FAILURES, ids=lambda error: error.code)
    async def test_broken_stream_logs_its_error_and_sent_status(
        self, error: GatewayError, capsys: pytest.CaptureFixture[str]
    ) -> None:
        answer = await post(edge(streaming, gateway([native("Hel"), error])))
        record = only_record(capsys)
        assert (answer.status, answer.events()[-1][0]) == (200, "error")
        assert (record["httpRequest"]["status"], labels(record)["outcome"]) == (200, error.code)
        assert record["severity"] == ("WARNING" if error.status == 429 else "ERROR")
        self.assert_spent(record)

    async def test_disconnect_logs_its_usage(self, capsys: pytest.CaptureFixture[str]) -> None:
        services, gone = FakeServices(FakeGateway(hold=asyncio.Event())), asyncio.Event()
        asking = asyncio.create_task(post(edge(services=services), hang_up=gone))
        await services.gateway.began.wait()
        gone.set()
        await asyncio.wait_for(asking, 10)
        record = only_record(capsys)
        assert (record["severity"], labels(record)["outcome"]) == ("INFO", "caller_gone")
        self.assert_spent(record)

    async def test_disconnect_from_a_stream_is_logged(self, capsys: pytest.CaptureFixture[str]) -> None:
        gone, answer = asyncio.Event(), Answer()
        services = gateway([native("Hel"), asyncio.Event()])
        asking = asyncio.create_task(post(edge(streaming, services), hang_up=gone, into=answer))
        await asyncio.wait_for(answer.arrived.wait(), 10)
        gone.set()
        await asyncio.wait_for(asking, 10)
        record = only_record(capsys)
        assert (record["httpRequest"]["status"], labels(record)["outcome"]) == (200, "caller_gone")
        self.assert_spent(record)

    async def test_request_cut_off_by_shutdown_is_logged(self, capsys: pytest.CaptureFixture[str]) -> None:
        services = FakeServices(FakeGateway(hold=asyncio.Event()))
        asking = asyncio.create_task(post(edge(services=services)))
        await services.gateway.began.wait()
        await self.cancel(asking)
        record = only_record(capsys)
        assert (labels(record)["outcome"], "status" in record["httpRequest"]) == ("unavailable", False)
        self.assert_spent(record)

    async def test_stream_cut_off_by_shutdown_is_logged(self, capsys: pytest.CaptureFixture[str]) -> None:
        answer = Answer()
        asking = asyncio.create_task(post(edge(streaming, gateway([native("Hel"), asyncio.Event()])), into=answer))
        await asyncio.wait_for(answer.arrived.wait(), 10)
        await self.cancel(asking)
        record = only_record(capsys)
        assert (record["severity"], labels(record)["outcome"]) == ("ERROR", "unavailable")
        self.assert_spent(record)

    async def cancel(self, asking: asyncio.Task[Answer]) -> None:
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking

    def assert_spent(self, record: JsonObject) -> None:
        told = labels(record)
        assert (told["queue_ms"], told["upstream_ms"], told["attempts"]) == ("250.000", "500.000", "1")
        assert (told["account"], told["model"]) == ("account-1", "some-model")


class TestOrder:
    """What is written and what is sent, in the order in which it happens."""

    async def happened(self, edge: EndpointApp, monkeypatch: pytest.MonkeyPatch) -> list[str]:
        happened: list[str] = []

        class Output:
            def write(self, text: str) -> None:
                parsed(text)
                happened.append("written")

            def flush(self) -> None:
                happened.append("flushed")

        def seen(message: Any) -> None:
            more = message.get("more_body", False)
            happened.append("part" if more else message["type"].rpartition(".")[2])

        with monkeypatch.context() as patched:
            patched.setattr(sys, "stdout", Output())
            await post(edge, seen=seen)
        return happened

    @pytest.mark.parametrize("says", ["Hello", UpstreamFailed("x")], ids=["ok", "error"])
    async def test_an_answer_begins_when_its_record_is_out(self, says: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        happened = await self.happened(edge(services=gateway(says)), monkeypatch)
        assert happened == ["written", "flushed", "start", "body"]

    @pytest.mark.parametrize("last", [native("lo"), UpstreamFailed("x")], ids=["whole", "broken"])
    async def test_a_streams_last_byte_follows_its_record(self, last: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        happened = await self.happened(edge(streaming, gateway([native("Hel"), last])), monkeypatch)
        assert happened[0] == "start"
        assert happened[-3:] == ["written", "flushed", "body"]
        assert happened.count("written") == 1
