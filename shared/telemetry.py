"""One JSON record per request on standard output, in the shape that Cloud Logging reads.

Never in a record: a prompt, an answer, a key, a query string, or a path with a capability in it (patterns are logged).
"""

from __future__ import annotations

import contextlib
import sys
import traceback
from dataclasses import dataclass
from typing import Any

import orjson

from shared.generation import Timing

_RANK = {"DEBUG": 0, "INFO": 1, "WARNING": 2, "ERROR": 3, "CRITICAL": 4}


@dataclass(slots=True)
class RequestRecord:
    """What is told of one request. `route` is endpoint.json's pattern; `outcome` is `ok` or the error's code."""

    function: str
    method: str
    route: str
    request_id: str
    status: int = 0
    outcome: str = "ok"
    total_s: float = 0.0
    caller: str | None = None
    model: str | None = None
    account: str | None = None
    timing: Timing | None = None
    trace: str | None = None
    """`projects/<project>/traces/<id>`: ties the record to the platform's own of the same request."""

    @property
    def severity(self) -> str:
        if self.status >= 500:
            return "ERROR"
        return "WARNING" if self.status == 429 else "INFO"


def log_request(record: RequestRecord, level: str) -> None:
    """Cloud Logging's special fields: cloud.google.com/logging/docs/structured-logging."""
    if _RANK[record.severity] < _RANK[level]:
        return
    entry: dict[str, Any] = {
        "severity": record.severity,
        "message": f"{record.method} {record.route} {record.status} {record.outcome}",
        "httpRequest": {
            "requestMethod": record.method,
            "requestUrl": record.route,
            "status": record.status,
            "latency": f"{record.total_s:.6f}s",
        },
        "function": record.function,
        "request_id": record.request_id,
        "outcome": record.outcome,
        "total_ms": round(record.total_s * 1000, 3),
    }
    if record.timing is not None:
        entry["queue_ms"] = round(record.timing.queue_s * 1000, 3)
        entry["upstream_ms"] = round(record.timing.upstream_s * 1000, 3)
    for name in ("caller", "model", "account"):
        if (value := getattr(record, name)) is not None:
            entry[name] = value
    if record.trace is not None:
        entry["logging.googleapis.com/trace"] = record.trace
    _write(entry)


def log_failure(error: BaseException, request_id: str) -> None:
    """A defect of ours. Its place is told, its message is not: that may quote a prompt or a key."""
    chain: list[str] = []
    current: BaseException | None = error
    while current is not None:
        chain.append(f"{type(current).__qualname__}\n{''.join(traceback.format_tb(current.__traceback__))}".rstrip())
        current = current.__cause__ or (None if current.__suppress_context__ else current.__context__)
    _write(
        {
            "severity": "ERROR",
            "message": f"Unexpected {type(error).__qualname__}",
            "request_id": request_id,
            "stack": "\ncaused by ".join(chain),
        }
    )


def log_problem(message: str) -> None:
    """A sentence for the operator: this process cannot serve."""
    _write({"severity": "CRITICAL", "message": message})


def _write(entry: dict[str, Any]) -> None:
    # A reader of our output that went away must not fail the request that is told of.
    with contextlib.suppress(OSError):
        sys.stdout.write(orjson.dumps(entry).decode() + "\n")
        sys.stdout.flush()
