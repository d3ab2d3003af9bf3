"""Which errors of an item a wait mends, and what a result says of the others. Pure."""

from __future__ import annotations

import math
from datetime import UTC, datetime

from shared.batch.item import Task
from shared.batch.result import Result, Stop
from shared.errors import (
    CallerNoQuota,
    DailyQuotaExhausted,
    GatewayError,
    InvalidGeminiKey,
    LedgerUnavailable,
    ModelNotFound,
    NoQuota,
    NoServerKey,
    QueueFull,
    QueueTimeout,
    RateLimited,
    Unavailable,
    UpstreamFailed,
    UpstreamTimeout,
)
from shared.gemini import wire
from shared.generation import UNKNOWN_USAGE, Reply, Timeline

MAX_WAIT_S = 900.0
"""An error that names a longer wait is reported: nobody waits for it at a terminal, and a later run continues. The turn of a
request among others may take longer: it comes nearer with each answer."""
MAX_REJECTIONS = 5
"""Rejections of one item without a quota, or failures of the ledger, that are waited for; each is already several attempts."""
DEFAULT_PAUSE_S = 5.0

STOP_KNOWN_S = 30.0
"""For so long after all keys were exhausted other items get the same error at once. A key may be enabled meanwhile."""

_MAYBE_GENERATED = frozenset({"reset", "cut", "malformed", "timeout", "deadline", "cancelled"})
"""Failures (`gemini.errors.Kind`) after which Gemini may have generated an answer."""
_STOPS = (DailyQuotaExhausted, NoQuota, CallerNoQuota, NoServerKey)


class Waits:
    """The waits of one item."""

    __slots__ = ("_rejections",)

    def __init__(self) -> None:
        self._rejections = 0

    def pause_s(self, error: GatewayError) -> float | None:
        """Seconds after which the item may be tried again; None if that is no use."""
        pause_s = DEFAULT_PAUSE_S if error.retry_after_s is None else max(error.retry_after_s, 0.05)
        if isinstance(error, InvalidGeminiKey) or _is_long(error):
            return None
        if isinstance(error, QueueTimeout | QueueFull):
            return pause_s
        if isinstance(error, RateLimited | LedgerUnavailable) and not isinstance(error, _STOPS):
            self._rejections += 1
            return pause_s if self._rejections <= MAX_REJECTIONS else None
        return None


class KnownStop:
    """What stopped the items of a run, so that the others need not find it out one by one."""

    __slots__ = ("_error", "_noted_s", "_until_s")

    def __init__(self) -> None:
        self._error: GatewayError | None = None
        self._noted_s = self._until_s = 0.0

    def note(self, error: GatewayError, now_s: float) -> None:
        """`now_s`: elapsed time."""
        if isinstance(error, _STOPS):
            known_s = STOP_KNOWN_S if error.retry_after_s is None else min(STOP_KNOWN_S, error.retry_after_s)
            self._error, self._noted_s, self._until_s = error, now_s, now_s + known_s

    def error(self, now_s: float) -> GatewayError | None:
        """The error for an item that comes now; None if it may be tried."""
        error = self._error
        if error is None or now_s >= self._until_s:
            return None
        left_s = None if error.retry_after_s is None else error.retry_after_s - (now_s - self._noted_s)
        # A new one: an error collects the traceback of each place that it is raised at.
        return type(error)(error.message, retry_after_s=left_s, details=error.details, headers=error.headers)


def stop_of(error: GatewayError) -> Stop | None:
    """Why other items would fail in the same way."""
    if isinstance(error, _STOPS) or (isinstance(error, RateLimited) and _is_long(error)):
        return "exhausted"
    if isinstance(error, InvalidGeminiKey | ModelNotFound):
        return "refused"
    return "unreachable" if isinstance(error, LedgerUnavailable) else None


def _is_long(error: GatewayError) -> bool:
    """Whether an item had to wait longer than it may."""
    wait_s = error.rejected_s if isinstance(error, QueueTimeout) else error.retry_after_s
    return (wait_s or 0.0) > MAX_WAIT_S


def answered(task: Task, text: str, reply: Reply, timeline: Timeline, seconds: float) -> Result:
    return Result(
        index=task.index,
        response=text,
        error=None,
        metadata=task.metadata,
        id=task.id,
        model=reply.model_used,
        finish_reason=wire.finish_reason(reply.body),
        usage=timeline.usage or UNKNOWN_USAGE,
        warnings=() if task.item is None else task.item.warnings,
        key=reply.account_id,
        seconds=seconds,
        attempts=len(timeline.attempts),
        lost=_lost(timeline),
    )


def failed(task: Task, error: GatewayError, timeline: Timeline, seconds: float, now_s: float) -> Result:
    """`now_s`: Unix time."""
    retry_at_s = None if error.retry_after_s is None else now_s + error.retry_after_s
    stops = stop_of(error)
    return Result(
        index=task.index,
        response=None,
        error=_words(error, len(timeline.attempts), retry_at_s),
        metadata=task.metadata,
        id=task.id,
        code=error.code,
        retryable=stops in ("exhausted", "unreachable") or _is_transient(error),
        stops=stops,
        failure=error,
        retry_at_s=retry_at_s,
        usage=timeline.usage or UNKNOWN_USAGE,
        warnings=() if task.item is None else task.item.warnings,
        key=timeline.attempts[-1].account_id if timeline.attempts else None,
        seconds=seconds,
        attempts=len(timeline.attempts),
        lost=_lost(timeline),
    )


def _lost(timeline: Timeline) -> int:
    return sum(
        attempt.failure in _MAYBE_GENERATED
        or (attempt.failure is None and (attempt.usage is None or attempt.usage.prompt_tokens is None))
        for attempt in timeline.attempts
    )


def _words(error: GatewayError, attempts: int, retry_at_s: float | None) -> str:
    """The words that programs search for are kept: `exhausted`, `persistent`."""
    if stop_of(error) == "exhausted":
        until = "" if retry_at_s is None else f" until {at(retry_at_s)}"
        return f"All keys exhausted{until}: {error.message}"
    if _is_transient(error):
        return f"API error, persistent after {attempts} {'attempt' if attempts == 1 else 'attempts'}: {error.message}"
    return error.message


def _is_transient(error: GatewayError) -> bool:
    """Whether the same item may succeed later. An answer that Gemini refused or cut off is no failure of Gemini."""
    return isinstance(error, RateLimited | Unavailable | UpstreamTimeout) or type(error) is UpstreamFailed


def at(unix_s: float) -> str:
    """A time for people, rounded up to whole seconds."""
    return datetime.fromtimestamp(math.ceil(unix_s), UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
