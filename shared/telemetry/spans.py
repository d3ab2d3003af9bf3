"""OpenTelemetry spans of finished requests, built from their timelines: server -> queue -> ledger, and upstream.

Imported only where an endpoint is set. Names follow the semantic conventions for HTTP and for generative AI
(opentelemetry.io/docs/specs/semconv/gen-ai/gen-ai-spans). Attributes never contain a prompt, an answer or a key.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Sequence
from urllib.parse import urlsplit

import aiohttp
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.sampling import Decision, ParentBased, TraceIdRatioBased
from opentelemetry.trace import (
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    format_span_id,
    format_trace_id,
    set_span_in_context,
)

from shared.clock import elapsed_s
from shared.generation import Attempt, TimeSpan, Usage
from shared.settings.tracing import Tracing
from shared.telemetry.record import NO_ROUTE, RequestRecord, Trace, log_problem

EXPORT_S = 2.0
"""Maximum time that a response is delayed for the export of its spans."""
PAUSE_S = 10.0
"""Pause after a failed export, so that a receiver that hangs does not delay every request by EXPORT_S."""
WARNING_S = 60.0
MAX_TIME_SPANS = 100
"""Maximum spans of one kind for one request; later ones are omitted."""
_CONNECTIONS = 8
_ROOT = Context()


Conversations = Callable[[float], Sequence[tuple[float, float, bool]]]
"""The ledger calls that ended since a time: start and end of each, on `clock.elapsed_s()`, and whether it wrote."""


class Tracer:
    """Bound to one event loop. Failures of the receiver are logged and never fail a request."""

    def __init__(
        self,
        config: Tracing,
        version: str,
        upstream_url: str,
        conversations: Conversations,
        *,
        proxy: str | None = None,
    ) -> None:
        self._config, self._conversations, self._proxy = config, conversations, proxy
        self._ratio = TraceIdRatioBased(config.ratio)
        self._ended = _Ended()
        provider = TracerProvider(
            sampler=ParentBased(self._ratio),
            resource=Resource({"service.name": config.service_name, "service.version": version}),
            shutdown_on_exit=False,
        )
        provider.add_span_processor(self._ended)
        self._tracer = provider.get_tracer("gemini-concurrent-generation", version)
        upstream = urlsplit(upstream_url)
        self._upstream: dict[str, str | int] = {
            "gen_ai.operation.name": "generate_content",
            "gen_ai.provider.name": "gcp.gemini",
            "server.address": upstream.hostname or "",
            "server.port": upstream.port or (443 if upstream.scheme == "https" else 80),
        }
        self._session: aiohttp.ClientSession | None = None
        self._resume_s = self._warn_again_s = float("-inf")
        self._lost = 0

    def spans(self, record: RequestRecord) -> Sequence[ReadableSpan]:
        """The spans of a finished request; none if it is not sampled. Sets the record's trace to that of the server span."""
        clock = _Clock()
        name = record.method if record.route == NO_ROUTE else f"{record.method} {record.route}"
        root = self._tracer.start_span(
            name, self._parent(record), SpanKind.SERVER, start_time=clock.unix_ns(record.began_s)
        )
        if not root.is_recording():
            return ()
        self._describe(root, record)
        inside = set_span_in_context(root, _ROOT)
        self._add_waits(record.timeline.waits[:MAX_TIME_SPANS], inside, clock)
        for attempt in record.timeline.attempts[:MAX_TIME_SPANS]:
            self._add_attempt(attempt, record.timeline.model or "", inside, clock)
        root.end(clock.unix_ns(record.ended_s))
        return self._ended.take()

    async def export(self, spans: Sequence[ReadableSpan]) -> None:
        """Returns when the receiver has the spans, or after at most EXPORT_S."""
        if elapsed_s() < self._resume_s:
            self._lost += 1
            return
        body = encode_spans(spans).SerializeToString()
        try:
            async with asyncio.timeout(EXPORT_S):
                async with self._open().post(self._config.url, data=body, allow_redirects=False) as response:
                    await response.read()
            if response.status // 100 != 2:
                self._failed(f"HTTP {response.status}")
        except (aiohttp.ClientError, OSError) as error:  # Its text is not logged: it can contain addresses and headers.
            self._failed(type(error).__name__)

    async def aclose(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    def _parent(self, record: RequestRecord) -> Context:
        """The trace that the request names. Its decision not to sample always holds; its decision to sample holds if the
        caller is known. Otherwise the ratio decides: by a random number for an unknown caller, which chose the trace id."""
        given = record.trace
        if given is None:
            return _ROOT
        trace_id = int(given.trace_id, 16)
        sampled, known = given.sampled, record.may_force_trace
        if sampled is None or (sampled and not known):
            drawn = trace_id if known else random.getrandbits(128)
            sampled = self._ratio.should_sample(None, drawn, "").decision == Decision.RECORD_AND_SAMPLE
        flags = TraceFlags(TraceFlags.SAMPLED if sampled else TraceFlags.DEFAULT)
        # A parent without a span id would be ignored, and a new trace would start.
        span_id = int(given.span_id or "1", 16)
        return set_span_in_context(NonRecordingSpan(SpanContext(trace_id, span_id, True, flags)), _ROOT)

    def _describe(self, root: Span, record: RequestRecord) -> None:
        context = root.get_span_context()
        record.trace = Trace(format_trace_id(context.trace_id), format_span_id(context.span_id), True)
        root.set_attribute("http.request.method", record.method)
        root.set_attribute("faas.name", record.function)
        root.set_attribute("gateway.request_id", record.request_id)
        root.set_attribute("gateway.outcome", record.outcome)
        if record.route != NO_ROUTE:
            root.set_attribute("http.route", record.route)
        if record.status:
            root.set_attribute("http.response.status_code", record.status)
        if record.error_status >= 500:
            root.set_attribute("error.type", record.outcome)
            root.set_status(Status(StatusCode.ERROR))

    def _add_waits(self, waits: Sequence[TimeSpan], inside: Context, clock: _Clock) -> None:
        if not waits:
            return
        conversations = self._conversations(waits[0].began_s)
        for wait in waits:
            queue = self._tracer.start_span("queue", inside, start_time=clock.unix_ns(wait.began_s))
            within = set_span_in_context(queue, _ROOT)
            ended_within = [each for each in conversations if wait.began_s <= each[1] <= wait.ended_s]
            for began_s, ended_s, wrote in ended_within[:MAX_TIME_SPANS]:
                ledger = self._tracer.start_span("ledger", within, start_time=clock.unix_ns(began_s))
                ledger.set_attribute("gateway.ledger_wrote", wrote)
                ledger.end(clock.unix_ns(ended_s))
            queue.end(clock.unix_ns(wait.ended_s))

    def _add_attempt(self, attempt: Attempt, model: str, inside: Context, clock: _Clock) -> None:
        span = self._tracer.start_span(
            f"generate_content {model}", inside, SpanKind.CLIENT, start_time=clock.unix_ns(attempt.began_s)
        )
        span.set_attributes({**self._upstream, "gen_ai.request.model": model, "gateway.account": attempt.account_id})
        if attempt.model_used is not None:
            span.set_attribute("gen_ai.response.model", attempt.model_used)
        if attempt.usage is not None:
            _set_usage(span, attempt.usage)
        if attempt.failure is not None:
            span.set_attribute("error.type", attempt.failure)
            span.set_status(Status(StatusCode.ERROR))
        span.end(clock.unix_ns(attempt.ended_s))

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            headers = {name: value.reveal() for name, value in self._config.headers}
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=_CONNECTIONS),
                cookie_jar=aiohttp.DummyCookieJar(),
                headers={**headers, "Content-Type": "application/x-protobuf"},
                proxy=self._proxy,
            )
        return self._session

    def _failed(self, reason: str) -> None:
        now_s = elapsed_s()
        self._resume_s = now_s + PAUSE_S
        self._lost += 1
        if now_s >= self._warn_again_s:
            to = urlsplit(self._config.url)
            log_problem(
                f"Spans could not be sent to {to.scheme}://{to.netloc} ({reason}); spans of {self._lost} requests are lost.",
                "WARNING",
            )
            self._warn_again_s, self._lost = now_s + WARNING_S, 0


def _set_usage(span: Span, usage: Usage) -> None:
    """Unknown token counts are omitted: the conventions have no value for them."""
    if usage.prompt_tokens is not None:
        span.set_attribute("gen_ai.usage.input_tokens", usage.prompt_tokens)
    if usage.output_tokens is not None and usage.thinking_tokens is not None:
        span.set_attribute("gen_ai.usage.output_tokens", usage.output_tokens + usage.thinking_tokens)


class _Ended(SpanProcessor):
    """Collects the spans of the request whose tree is being built."""

    def __init__(self) -> None:
        self._spans: list[ReadableSpan] = []

    def on_end(self, span: ReadableSpan) -> None:
        self._spans.append(span)

    def take(self) -> Sequence[ReadableSpan]:
        spans, self._spans = self._spans, []
        return spans


class _Clock:
    """Converts `clock.elapsed_s()` to wall clock time, with one offset for all spans of a request."""

    def __init__(self) -> None:
        self._offset_ns = time.time_ns() - round(elapsed_s() * 1e9)

    def unix_ns(self, at_s: float) -> int:
        return round(at_s * 1e9) + self._offset_ns
