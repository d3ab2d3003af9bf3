"""Spans of a request: built when it is over, sent before its answer ends, and never a reason for it to fail."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from types import SimpleNamespace
from typing import Any, cast

import orjson
import pytest
from starlette.responses import Response

from shared.chat.chat import chat_events
from shared.clock import elapsed_s
from shared.errors import BadRequest, InvalidGeminiKey, UpstreamFailed
from shared.generation import UNKNOWN_USAGE, Attempt, JsonObject, Timeline, TimeSpan, Usage
from shared.http.endpoint import Call, EndpointApp
from shared.http.manifest import Manifest
from shared.settings.settings import Settings
from shared.telemetry import spans as tracing
from shared.telemetry.record import RequestRecord, Trace
from shared.telemetry.spans import Tracer, _set_usage
from tests.support.edge import ADMIN, Answer, FakeGateway, FakeServices, ask, native
from tests.support.otlp import Receiver, receiver
from tests.support.processes import ROOT
from tests.support.tied import free_port

TRACE, SPAN = "0123456789abcdef0123456789abcdef", "00f067aa0ba902b7"
SAMPLED = {"traceparent": f"00-{TRACE}-{SPAN}-01"}
NOT_SAMPLED = {"traceparent": f"00-{TRACE}-{SPAN}-00"}
API_KEY = "key-of-the-receiver"
TALKS: list[tuple[float, float, bool]] = []
Edges = tuple[EndpointApp, Receiver]


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracing, "EXPORT_S", 20.0)


def tracer(url: str, ratio: str = "1", talks: list[tuple[float, float, bool]] = TALKS) -> Tracer:
    env = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": url,
        "OTEL_EXPORTER_OTLP_HEADERS": f"x-api-key={API_KEY}",
        "OTEL_SERVICE_NAME": "of-the-tests",
        "OTEL_TRACES_SAMPLER_ARG": ratio,
    }
    config = Settings.from_environment(env).tracing
    assert config is not None
    return Tracer(config, "1.2.3", "https://upstream.example", lambda since_s: [t for t in talks if t[1] >= since_s])


async def generating(call: Call) -> JsonObject:
    return {"text": (await call.generate("some-model", await call.json())).model_used}


async def streaming(call: Call) -> Response:
    return call.stream("some-model", await call.json(), partial(chat_events, request_id=call.request_id))


@asynccontextmanager
async def traced(
    url: str | None = None, *, ratio: str = "1", says: Any = "Hello", handler: Any = generating
) -> AsyncIterator[Edges]:
    """A function whose spans go to the receiver, or to `url`."""
    async with receiver() as received:
        services = FakeServices(FakeGateway(says))
        services.tracer = made = tracer(url or received.url, ratio)
        manifest = Manifest("thing", "A thing.", {"/thing": ("POST",)}, "credential", 512, 1, 80, 60, ())
        try:
            yield EndpointApp(handler, manifest, services=lambda: services), received
        finally:
            await made.aclose()


async def post(edge: EndpointApp, headers: dict[str, str] | None = None, **rest: Any) -> Answer:
    given = {**ADMIN, **(headers or {})}
    return await asyncio.wait_for(ask(edge.answer, path="/thing", json={"prompt": "x"}, headers=given, **rest), 20)


def warnings(output: str) -> list[str]:
    records = [orjson.loads(line) for line in output.splitlines()]
    return [record["message"] for record in records if record["severity"] == "WARNING"]


class TestTree:
    """A request that waited, failed at one account, waited again, and was answered by another."""

    @pytest.fixture
    async def tree(self) -> AsyncIterator[tuple[Receiver, RequestRecord, float]]:
        began_s = elapsed_s() - 10
        timeline = Timeline(
            "some-model",
            [TimeSpan(began_s + 1, began_s + 3), TimeSpan(began_s + 4, began_s + 5)],
            [
                Attempt(began_s + 3, began_s + 4, "account-1", failure="unavailable"),
                Attempt(began_s + 5, began_s + 8, "account-2", "some-model-001", Usage(5, 7, 2, 14)),
            ],
        )
        record = RequestRecord("chat", "POST", "id-1", began_s, began_s + 9, "/chat", 200, timeline=timeline)
        record.trace = Trace(TRACE, SPAN, True)
        talks = [
            (began_s + 0.2, began_s + 0.5, True),
            (began_s + 1.5, began_s + 2, True),
            (began_s + 4.5, began_s + 4.75, False),
            (began_s + 6, began_s + 7, True),
        ]
        async with receiver() as received:
            made = tracer(received.url, talks=talks)
            await made.export(made.spans(record))
            await made.aclose()
            yield received, record, began_s

    async def test_every_span_has_its_parent_and_its_time(self, tree: tuple[Receiver, RequestRecord, float]) -> None:
        received, _, _ = tree
        root = received.one("POST /chat")
        by_id = {span.span_id: span for span in received.spans}
        seen = sorted(
            (
                span.name,
                by_id[span.parent].name if span.parent in by_id else span.parent,
                round((span.began_ns - root.began_ns) / 1e9, 5),
                round(span.took_s, 5),
            )
            for span in received.spans
        )
        assert seen == [
            ("POST /chat", SPAN, 0, 9),
            ("generate_content some-model", "POST /chat", 3, 1),
            ("generate_content some-model", "POST /chat", 5, 3),
            ("ledger", "queue", 1.5, 0.5),
            ("ledger", "queue", 4.5, 0.25),
            ("queue", "POST /chat", 1, 2),
            ("queue", "POST /chat", 4, 1),
        ]
        assert {span.trace_id for span in received.spans} == {TRACE}
        assert len(by_id) == len(seen)

    async def test_times_are_the_wall_clocks(self, tree: tuple[Receiver, RequestRecord, float]) -> None:
        received, _, began_s = tree
        ago_s = elapsed_s() - began_s
        assert received.one("POST /chat").began_ns / 1e9 == pytest.approx(time.time() - ago_s, abs=0.5)

    async def test_kinds_and_attributes_follow_the_conventions(
        self, tree: tuple[Receiver, RequestRecord, float]
    ) -> None:
        received, _, _ = tree
        root = received.one("POST /chat")
        failed, answered = sorted(received.named("generate_content some-model"), key=lambda span: span.began_ns)
        assert (root.kind, root.failed) == ("server", False)
        assert root.attributes == {
            "http.request.method": "POST",
            "http.route": "/chat",
            "http.response.status_code": 200,
            "faas.name": "chat",
            "gateway.request_id": "id-1",
            "gateway.outcome": "ok",
        }
        always = {
            "gen_ai.operation.name": "generate_content",
            "gen_ai.provider.name": "gcp.gemini",
            "gen_ai.request.model": "some-model",
            "server.address": "upstream.example",
            "server.port": 443,
        }
        assert (failed.kind, failed.failed) == ("client", True)
        assert failed.attributes == {**always, "gateway.account": "account-1", "error.type": "unavailable"}
        assert (answered.kind, answered.failed) == ("client", False)
        assert answered.attributes == {
            **always,
            "gateway.account": "account-2",
            "gen_ai.response.model": "some-model-001",
            "gen_ai.usage.input_tokens": 5,
            "gen_ai.usage.output_tokens": 9,
        }
        assert [span.attributes for span in received.named("ledger")] == [
            {"gateway.ledger_wrote": True},
            {"gateway.ledger_wrote": False},
        ]
        assert received.resource == {"service.name": "of-the-tests", "service.version": "1.2.3"}

    async def test_the_record_is_tied_to_the_server_span(self, tree: tuple[Receiver, RequestRecord, float]) -> None:
        received, record, _ = tree
        assert record.trace == Trace(TRACE, received.one("POST /chat").span_id, True)

    async def test_the_receiver_gets_its_credential(self, tree: tuple[Receiver, RequestRecord, float]) -> None:
        received, _, _ = tree
        (headers,) = received.headers
        assert (headers["x-api-key"], headers["Content-Type"]) == (API_KEY, "application/x-protobuf")

    async def test_a_request_of_very_many_spans_sends_a_bounded_number(self) -> None:
        timeline = Timeline("m", [TimeSpan(0, 1)] * 1000, [Attempt(0, 1, "a")] * 1000)
        record = RequestRecord("batch", "POST", "id-1", 0, 1, "/batch", 200, timeline=timeline)
        made = tracer("http://127.0.0.1:1")
        assert len(made.spans(record)) == 1 + 2 * tracing.MAX_TIME_SPANS

    async def test_a_request_without_a_route_has_no_path_in_its_name(self) -> None:
        record = RequestRecord("chat", "POST", "id-1", 0, 1, status=404)
        (span,) = tracer("http://127.0.0.1:1").spans(record)
        assert span.name == "POST"


class TestSampling:
    @pytest.mark.parametrize(
        ("ratio", "headers"),
        [("0", {}), ("1", NOT_SAMPLED), ("0", {"x-cloud-trace-context": f"{TRACE}/1"})],
        ids=["ratio", "flag", "undecided"],
    )
    async def test_what_is_sampled_out_sends_nothing(self, ratio: str, headers: dict[str, str]) -> None:
        async with traced(ratio=ratio) as (edge, received):
            assert (await post(edge, headers)).status == 200
            assert received.bodies == []

    @pytest.mark.parametrize(
        ("ratio", "headers"),
        [
            ("1", {}),
            ("0", SAMPLED),
            ("0", {"x-cloud-trace-context": f"{TRACE}/1;o=1"}),
            ("1", {"x-cloud-trace-context": f"{TRACE}/1"}),
        ],
        ids=["ratio", "flag", "google's flag", "undecided"],
    )
    async def test_incoming_sampling_decision_precedes_the_ratio(self, ratio: str, headers: dict[str, str]) -> None:
        async with traced(ratio=ratio) as (edge, received):
            await post(edge, headers)
            assert len(received.named("POST /thing")) == 1

    async def test_sampling_depends_only_on_the_trace_id(self) -> None:
        async with traced(ratio="0.5") as (edge, received):
            for digit in "07f":
                await post(edge, {"x-cloud-trace-context": f"{'1' * 16}{digit * 16}/1"})
            assert [span.trace_id[-1] for span in received.named("POST /thing")] == ["0", "7"]

    @pytest.mark.parametrize("google", [False, True])
    @pytest.mark.parametrize(
        ("headers", "body", "says"),
        [
            ({}, {}, "Hello"),
            ({"admin-api-key": "wrong"}, {}, "Hello"),
            ({"x-goog-api-key": "made-up-key"}, {}, InvalidGeminiKey("x")),
            ({}, {"credentials": {"gemini_api_key": "made-up-key"}}, InvalidGeminiKey("x")),
            ({"x-goog-api-key": "made-up-key"}, {"prompt": 1}, BadRequest("x")),
        ],
        ids=["none", "wrong", "made up", "made up in the body", "not tried"],
    )
    async def test_a_stranger_cannot_force_a_trace(
        self, headers: dict[str, str], body: JsonObject, says: Any, google: bool
    ) -> None:
        sampled = {"x-cloud-trace-context": f"{TRACE}/1;o=1"} if google else SAMPLED
        async with traced(ratio="0", says=says) as (edge, received):
            await ask(edge.answer, path="/thing", json={"prompt": "x", **body}, headers={**headers, **sampled})
            assert received.bodies == []

    async def test_a_key_that_gemini_accepted_decides_about_its_trace(self) -> None:
        async with traced(ratio="0") as (edge, received):
            await ask(
                edge.answer, path="/thing", json={"prompt": "x"}, headers={"x-goog-api-key": "good-key-1", **SAMPLED}
            )
            assert received.one("POST /thing").trace_id == TRACE

    async def test_a_stranger_cannot_choose_an_id_that_is_sampled(self) -> None:
        """The ratio takes the ids whose last 64 bits are small."""
        small = {"x-cloud-trace-context": f"{'1' * 16}{'0' * 15}1/1"}
        async with traced(ratio="0.0000001") as (edge, received):
            for _ in range(10):
                await ask(edge.answer, path="/thing", json={"prompt": "x"}, headers=small)
            assert len(received.bodies) < 3
            await post(edge, small)
            assert received.one("POST /thing").trace_id == f"{'1' * 16}{'0' * 15}1"


class TestOfARequest:
    async def test_spans_and_record_tell_the_same_trace(self, capsys: pytest.CaptureFixture[str]) -> None:
        async with traced() as (edge, received):
            await post(edge, SAMPLED)
        record = orjson.loads(capsys.readouterr().out)
        root = received.one("POST /thing")
        assert (root.trace_id, root.parent) == (TRACE, SPAN)
        assert record["logging.googleapis.com/trace"] == TRACE
        assert record["logging.googleapis.com/spanId"] == root.span_id
        assert {span.name for span in received.spans} == {"POST /thing", "queue", "generate_content some-model"}

    async def test_a_trace_that_begins_here_is_in_the_record_too(self, capsys: pytest.CaptureFixture[str]) -> None:
        async with traced() as (edge, received):
            await post(edge)
        record = orjson.loads(capsys.readouterr().out)
        root = received.one("POST /thing")
        assert (root.parent, record["logging.googleapis.com/trace"]) == ("", root.trace_id)

    async def test_they_are_sent_before_the_answer_begins(self) -> None:
        async with traced() as (edge, received):
            had: list[int] = []
            await post(edge, seen=lambda _: had.append(len(received.spans)))
            assert had == [3, 3]

    async def test_a_streams_are_sent_before_its_last_byte(self) -> None:
        async with traced(says=[native("Hel"), native("lo")], handler=streaming) as (edge, received):
            had: list[int] = []
            await post(edge, seen=lambda _: had.append(len(received.spans)))
            assert (had[0], had[-2], had[-1]) == (0, 0, 3)

    @pytest.mark.parametrize("broken", [False, True], ids=["failed", "broken stream"])
    async def test_a_failure_is_one_in_the_spans(self, broken: bool) -> None:
        error = UpstreamFailed("x")
        says, handler = ([native("Hel"), error], streaming) if broken else (error, generating)
        async with traced(says=says, handler=handler) as (edge, received):
            await post(edge)
            root = received.one("POST /thing")
        assert (root.failed, root.attributes["error.type"]) == (True, "upstream_failed")
        assert root.attributes["http.response.status_code"] == (200 if broken else 502)

    async def test_neither_prompt_nor_answer_nor_key_is_in_them(self) -> None:
        async with traced(says="canary of the answer") as (edge, received):
            body = {"prompt": "canary of the prompt", "credentials": {"gemini_api_key": "canary-of-the-key"}}
            await ask(edge.answer, path="/thing", json=body, headers=SAMPLED)
            (sent,) = received.bodies
        assert b"canary" not in sent


class TestReceiverInTrouble:
    async def test_when_it_is_down_the_answer_still_comes(self, capsys: pytest.CaptureFixture[str]) -> None:
        url = f"http://127.0.0.1:{free_port()}"
        async with traced(url) as (edge, _):
            assert (await post(edge)).status == 200
        (warning,) = warnings(capsys.readouterr().out)
        assert warning.startswith(f"Spans could not be sent to {url} (ClientConnectorError)")
        assert API_KEY not in warning

    async def test_while_it_takes_its_time_other_requests_go_on(self) -> None:
        async with traced() as (edge, received):
            received.hold = asyncio.Event()
            asking = asyncio.create_task(post(edge, SAMPLED))
            await asyncio.wait_for(received.arrived.wait(), 20)
            assert (await post(edge, NOT_SAMPLED)).status == 200
            assert not asking.done()
            received.hold.set()
            assert (await asking).status == 200

    async def test_when_it_hangs_the_answer_waits_for_a_bounded_time(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setattr(tracing, "EXPORT_S", 0.2)
        async with traced() as (edge, received):
            received.hold = asyncio.Event()
            assert (await post(edge)).status == 200
            received.hold.set()
        assert "(TimeoutError)" in warnings(capsys.readouterr().out)[0]

    @pytest.mark.parametrize("status", [302, 401, 503])
    async def test_rejected_spans_are_logged(self, status: int, capsys: pytest.CaptureFixture[str]) -> None:
        async with traced() as (edge, received):
            received.status = status
            assert (await post(edge)).status == 200
            assert len(received.bodies) == 1
        assert f"(HTTP {status})" in warnings(capsys.readouterr().out)[0]

    async def test_export_pauses_after_a_failure(self, monkeypatch: pytest.MonkeyPatch) -> None:
        async with traced() as (edge, received):
            received.status = 503
            for _ in range(3):
                await post(edge)
            assert len(received.bodies) == 1
            received.status = 200
            later_s = elapsed_s() + tracing.PAUSE_S
            monkeypatch.setattr(tracing, "elapsed_s", lambda: later_s)
            await post(edge)
            await post(edge)
            assert len(received.bodies) == 3

    @pytest.mark.parametrize("uptime_s", [1000.1, 0.1, 10_000_000.1])
    async def test_losses_are_reported_once_a_minute(
        self, uptime_s: float, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """Whatever the machine's uptime: 1000.1 + 60 - 1000.1 is less than 60 in floating point."""
        async with traced() as (edge, received):
            received.status = 503
            for after_s in (0, 1, tracing.WARNING_S / 2, tracing.WARNING_S):
                monkeypatch.setattr(tracing, "elapsed_s", lambda after_s=after_s: uptime_s + after_s)
                await post(edge)
        first, second = warnings(capsys.readouterr().out)
        assert "spans of 1 requests are lost" in first
        assert "spans of 3 requests are lost" in second


@pytest.mark.parametrize(
    ("env", "loaded"), [({}, False), ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}, True)]
)
def test_opentelemetry_is_loaded_only_where_an_endpoint_is_set(env: dict[str, str], loaded: bool) -> None:
    code = (
        "import asyncio, sys, functions.chat.main, shared.bootstrap as b\n"
        "before = 'opentelemetry.sdk' in sys.modules\n"
        "async def main():\n"
        f"    made = b.Services(b.Settings.from_environment({{'LEDGER_URL': 'memory://', **{env!r}}}))\n"
        "    print(before, 'opentelemetry.sdk' in sys.modules)\n"
        "    await made.aclose()\n"
        "asyncio.run(main())\n"
    )
    said = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60
    )
    assert said.stdout.split() == ["False", str(loaded)]


@pytest.mark.parametrize(
    ("usage", "attributes"),
    [
        (Usage(5, 7, 2, 14), {"gen_ai.usage.input_tokens": 5, "gen_ai.usage.output_tokens": 9}),
        (Usage(5, 0, 0, 5), {"gen_ai.usage.input_tokens": 5, "gen_ai.usage.output_tokens": 0}),
        (Usage(5, None, 2, None), {"gen_ai.usage.input_tokens": 5}),
        (Usage(None, 7, 2, 14), {"gen_ai.usage.output_tokens": 9}),
        (UNKNOWN_USAGE, {}),
    ],
)
def test_unknown_counts_are_left_out(usage: Usage, attributes: dict[str, int]) -> None:
    seen: dict[str, int] = {}
    _set_usage(cast(Any, SimpleNamespace(set_attribute=seen.__setitem__)), usage)
    assert seen == attributes
