"""One JSON record per request on standard output, in the shape that Cloud Logging reads.

A record never contains a prompt, an answer, a key, a query string, an address, or a path with a capability in it (the pattern
is logged instead). The special fields are those of cloud.google.com/logging/docs/structured-logging.
"""

from __future__ import annotations

import re
import sys
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import orjson
from starlette.responses import Response

from shared.errors import GatewayError
from shared.generation import Caller, Timeline

NO_ROUTE = "(none)"
_RANK = {"DEBUG": 0, "INFO": 1, "WARNING": 2, "ERROR": 3, "CRITICAL": 4}
_AGENT_CHARS = 256
_TRACEPARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_CLOUD_TRACE = re.compile(r"([0-9a-fA-F]{32})(?:/(\d{1,20}))?(?:;o=([01]))?")


_UNPRINTABLE = re.compile("[\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]")
"""Characters that JSON does not escape and that end a line (U+0085, U+2028), control a terminal (U+009B) or reorder text."""


class Trace(NamedTuple):
    """Ids in hexadecimal, as Cloud Logging expects them: 32 and 16 digits. None: not in the header."""

    trace_id: str
    span_id: str | None
    sampled: bool | None


@dataclass(slots=True)
class RequestRecord:
    """What is logged about one request. `route` is endpoint.json's pattern. `outcome` is `ok` or the error's code, also for
    an error after a 200 was sent."""

    function: str
    method: str
    request_id: str
    began_s: float
    """On `clock.elapsed_s()`, like `ended_s`."""
    ended_s: float = 0.0
    route: str = NO_ROUTE
    status: int = 0
    """The status that was sent; 0 if none was."""
    outcome: str = "ok"
    error_status: int = 0
    caller: str | None = None
    user_agent: str | None = None
    answer_bytes: int | None = None
    """The size of the response body; None for a stream."""
    timeline: Timeline = field(default_factory=Timeline)
    trace: Trace | None = None
    kind: str = "anonymous"
    """`Caller.kind` of the caller."""

    @property
    def severity(self) -> str:
        status = self.error_status or self.status
        if status >= 500:
            return "ERROR"
        return "WARNING" if status == 429 else "INFO"

    @property
    def may_force_trace(self) -> bool:
        """Whether the caller is known. A made-up key counts as a credential until Gemini rejects it."""
        return self.kind == "admin" or (
            self.kind == "caller_key" and self.outcome == "ok" and bool(self.timeline.attempts)
        )

    def asked_by(self, caller: Caller) -> None:
        self.kind = caller.kind
        self.caller = "anonymous" if caller.kind == "anonymous" else caller.id

    def answered(self, response: Response) -> None:
        body = getattr(response, "body", None)
        self.status, self.answer_bytes = response.status_code, None if body is None else len(body)

    def failed(self, error: GatewayError) -> None:
        self.outcome, self.error_status = error.code, error.status


def trace_of(headers: Mapping[str, str]) -> Trace | None:
    """The trace context from `traceparent` (w3.org/TR/trace-context), else from `X-Cloud-Trace-Context` (its span id is
    decimal). A malformed header is ignored."""
    text = headers.get("traceparent")
    if text is not None and (match := _TRACEPARENT.fullmatch(text)):
        version, trace, span, flags, rest = match.groups()
        if version != "ff" and not (version == "00" and rest) and trace.strip("0") and span.strip("0"):
            return Trace(trace, span, bool(int(flags, 16) & 1))
    text = headers.get("x-cloud-trace-context")
    if text is not None and (match := _CLOUD_TRACE.fullmatch(text)):
        trace, span, option = match.groups()
        number = int(span or 0)
        if trace.strip("0") and number < 1 << 64:
            return Trace(trace.lower(), f"{number:016x}" if number else None, None if option is None else option == "1")
    return None


def log_request(
    record: RequestRecord, level: str, project: str | None = None, ledger_writes: Callable[[], int] | None = None
) -> None:
    """Writes the record unless its severity is below `level`. `ledger_writes` returns the commits since its last call; it is
    called only for a record that is written, so that the numbers of a process's records add up at every level."""
    severity = record.severity
    if _RANK[severity] < _RANK[level]:
        return
    request: dict[str, Any] = {
        "requestMethod": record.method,
        "requestUrl": record.route,
        "latency": f"{record.ended_s - record.began_s:.6f}s",
    }
    if record.status:
        request["status"] = record.status
    if record.answer_bytes is not None:
        request["responseSize"] = str(record.answer_bytes)
    if record.user_agent is not None:
        request["userAgent"] = record.user_agent[:_AGENT_CHARS]
    labels = _labels(record)
    if ledger_writes is not None:
        labels["ledger_writes"] = str(ledger_writes())
    _write(
        {
            "severity": severity,
            "message": f"{record.method} {record.route} {record.status} {record.outcome}",
            "httpRequest": request,
            "logging.googleapis.com/labels": labels,
            **_trace_fields(record, project),
        }
    )


def _labels(record: RequestRecord) -> dict[str, str]:
    """Labels of Cloud Logging, which are strings. A label without a value is omitted; a token count that Gemini did not give
    is "unknown"."""
    labels = {"function": record.function, "request_id": record.request_id, "outcome": record.outcome}
    if record.caller is not None:
        labels["caller"] = record.caller
    timeline = record.timeline
    if timeline.model is not None:
        labels["model"] = timeline.model
    if timeline.waits:
        labels["queue_ms"] = f"{timeline.queue_s * 1000:.3f}"
        labels["upstream_ms"] = f"{timeline.upstream_s * 1000:.3f}"
        labels["attempts"] = str(len(timeline.attempts))
    if timeline.attempts:
        labels["account"] = timeline.attempts[-1].account_id
        usage = timeline.usage
        if usage is not None:
            for name, count in zip(usage._fields, usage, strict=True):
                labels[name] = "unknown" if count is None else str(count)
    return labels


def _trace_fields(record: RequestRecord, project: str | None) -> dict[str, Any]:
    """Fields that link the record to the platform's record of the same request, and to the spans."""
    trace = record.trace
    if trace is None:
        return {}
    name = trace.trace_id if project is None else f"projects/{project}/traces/{trace.trace_id}"
    fields: dict[str, Any] = {"logging.googleapis.com/trace": name}
    if trace.span_id is not None:
        fields["logging.googleapis.com/spanId"] = trace.span_id
    if trace.sampled is not None:
        fields["logging.googleapis.com/trace_sampled"] = trace.sampled
    return fields


def log_failure(error: Exception, record: RequestRecord) -> None:
    """Logs an internal error: the traceback only, never the message, which may contain a prompt or a key."""
    chain: list[str] = []
    current: BaseException | None = error
    while current is not None:
        chain.append(f"{type(current).__qualname__}\n{''.join(traceback.format_tb(current.__traceback__))}".rstrip())
        current = current.__cause__ or (None if current.__suppress_context__ else current.__context__)
    _write(
        {
            "severity": "ERROR",
            "message": f"Unexpected {type(error).__qualname__}",
            "logging.googleapis.com/labels": {"function": record.function, "request_id": record.request_id},
            "stack": "\ncaused by ".join(chain),
        }
    )


def told(error: Exception, record: RequestRecord) -> GatewayError:
    """The error that is returned to the caller. Any error but a GatewayError is logged, and the caller gets a general message."""
    if isinstance(error, GatewayError):
        return error
    log_failure(error, record)
    return GatewayError("The gateway failed. Its log has the details under this request id.")


def log_problem(message: str, severity: str = "CRITICAL") -> None:
    """Logs a sentence for the operator. CRITICAL: this process cannot serve."""
    _write({"severity": severity, "message": message})


def printable(json: str) -> str:
    """The same JSON with every control character as an escape."""
    if json.isascii() and "\x7f" not in json:
        return json
    return _UNPRINTABLE.sub(lambda found: f"\\u{ord(found[0]):04x}", json)


def _write(entry: dict[str, Any]) -> None:
    try:
        sys.stdout.write(printable(orjson.dumps(entry).decode()) + "\n")
        sys.stdout.flush()
    except OSError:
        return  # A closed standard output must not fail the request.
