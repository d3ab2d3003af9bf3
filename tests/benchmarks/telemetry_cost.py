"""`python -m tests.benchmarks.telemetry_cost`: what a request's record and its spans cost, as Markdown.

A request runs through the edge of a function in process, with a gateway that answers at once; records go to /dev/null,
spans to a receiver in this process, whose own work is in the figure of sampled-in requests.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import statistics
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from shared.clock import elapsed_s
from shared.generation import Attempt, JsonObject, Timeline, TimeSpan, Usage
from shared.http.endpoint import Call, EndpointApp
from shared.http.manifest import Manifest
from shared.settings.settings import Settings
from shared.telemetry.record import RequestRecord, log_request, trace_of
from shared.telemetry.spans import Tracer
from tests.support.edge import ADMIN, FakeServices, ask
from tests.support.otlp import receiver

LIMIT_US = 50.0
"""What a request may cost more, at the most, when it is sampled out."""
ROUNDS, REQUESTS, SENT = 15, 500, 50
TRACE = "0123456789abcdef0123456789abcdef"
HEADERS = {"traceparent": f"00-{TRACE}-00f067aa0ba902b7-00", "user-agent": "benchmark"}


def main() -> int:
    with Path(os.devnull).open("w") as nowhere:
        rows = asyncio.run(_measure(lambda: contextlib.redirect_stdout(nowhere)))
    print("| per request, CPU | µs |\n| --- | --- |")
    for name, cost_us in rows.items():
        print(f"| {name} | {cost_us:.1f} |")
    added_us = rows["added by tracing, sampled out"]
    print(f"\nSampled out: {added_us:.1f} µs, limit {LIMIT_US:g} µs: {'met' if added_us < LIMIT_US else '**not met**'}")
    return 0 if added_us < LIMIT_US else 1


async def _measure(silently: Callable[[], contextlib.AbstractContextManager[object]]) -> dict[str, float]:
    async with receiver() as received, _tracer(received.url, "0") as out, _tracer(received.url, "1") as sampling:
        off, sampled_out = _edge(None), _edge(out)
        sampled_in = _edge(sampling)
        with silently():
            record_us = min(_record_us() for _ in range(ROUNDS))
            spans_us = min(_spans_us(out) for _ in range(ROUNDS))
            rounds = [
                (
                    await _request_us(off, REQUESTS),
                    await _request_us(sampled_out, REQUESTS),
                    await _request_us(sampled_in, SENT),
                )
                for _ in range(ROUNDS)
            ]
    off_us, out_us, in_us = (min(column) for column in zip(*rounds, strict=True))
    return {
        "the record (trace header, labels, JSON, write and flush)": record_us,
        "the decision not to sample": spans_us,
        "a whole request at the edge, tracing off": off_us,
        "a whole request at the edge, sampled out": out_us,
        "a whole request at the edge, sampled in (with the receiver's work)": in_us,
        "added by tracing, sampled out": statistics.median(two - one for one, two, _ in rounds),
        "added by tracing, sampled in": statistics.median(three - one for one, _, three in rounds),
    }


def _record_us() -> float:
    began_s = time.process_time()
    for _ in range(REQUESTS):
        record = _record()
        record.trace = trace_of(HEADERS)
        log_request(record, "INFO", "project", lambda: 1)
    return 1e6 * (time.process_time() - began_s) / REQUESTS


def _spans_us(tracer: Tracer) -> float:
    records = [_record() for _ in range(REQUESTS)]
    began_s = time.process_time()
    for record in records:
        if tracer.spans(record):
            raise AssertionError("a request was sampled")
    return 1e6 * (time.process_time() - began_s) / REQUESTS


def _record() -> RequestRecord:
    now_s = elapsed_s()
    attempt = Attempt(now_s, now_s + 1, "gemini-api-key-1", "gemini-3.8-flash", Usage(5, 7, 2, 14))
    timeline = Timeline("gemini-3.8-flash", [TimeSpan(now_s - 1, now_s)], [attempt])
    return RequestRecord(
        "chat",
        "POST",
        "req_0123456789abcdef01234567",
        now_s - 2,
        now_s + 2,
        "/chat",
        200,
        "ok",
        0,
        "team",
        "curl/8",
        512,
        timeline,
    )


async def _request_us(edge: EndpointApp, count: int) -> float:
    began_s = time.process_time()
    for _ in range(count):
        answer = await ask(edge.answer, path="/thing", json={"prompt": "Hello"}, headers=ADMIN)
        if answer.status != 200:
            raise AssertionError(f"a request was answered with {answer.status}")
    return 1e6 * (time.process_time() - began_s) / count


def _edge(tracer: Tracer | None) -> EndpointApp:
    services = FakeServices()
    services.tracer = tracer

    async def handle(call: Call) -> JsonObject:
        services.gateway.asked.clear()
        return {"model": (await call.generate("gemini-3.8-flash", await call.json())).model_used}

    manifest = Manifest("thing", "A thing.", {"/thing": ("POST",)}, "credential", 512, 1, 80, 60, ())
    return EndpointApp(handle, manifest, services=lambda: services)


@contextlib.asynccontextmanager
async def _tracer(url: str, ratio: str) -> AsyncIterator[Tracer]:
    env = {"OTEL_EXPORTER_OTLP_ENDPOINT": url, "OTEL_TRACES_SAMPLER_ARG": ratio}
    config = Settings.from_environment(env).tracing
    if config is None:
        raise AssertionError("an endpoint is set, and there is no tracing")
    made = Tracer(config, "0", "https://upstream.example", lambda _: [])
    try:
        yield made
    finally:
        await made.aclose()


if __name__ == "__main__":
    sys.exit(main())
