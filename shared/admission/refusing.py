"""Why a waiter is not served, and when it would be: read from what the ledger returned. It changes nothing but `judged`."""

from __future__ import annotations

from shared.admission.agent import Agent
from shared.admission.queue import Waiter
from shared.clock import elapsed_s
from shared.errors import (
    CostExceedsLimit,
    GatewayError,
    LedgerUnavailable,
    QueueTimeout,
)
from shared.generation import Cost
from shared.ledger.limits import Limits
from shared.ledger.state import Reason
from shared.stopped import explanation, stopped_error

DIMENSIONS = ("requests per minute", "input tokens per minute", "images per minute")
LEDGER_RETRY_S = 5


def exceeded(limits: Limits, model: str, cost: Cost) -> str | None:
    """The sentence that says which whole limit one request of `cost` is larger than; None when it fits."""
    for name, limit, amount in zip(DIMENSIONS, limits.per_window, cost, strict=True):
        if limit is not None and amount > limit:
            return f"This request needs {amount} {name}, and the limit of {model} is {limit}."
    if limits.requests_per_day is not None and cost.requests > limits.requests_per_day:
        return f"The limit of {model} is {limits.requests_per_day} requests per day."
    return None


def hopeless(waiter: Waiter) -> GatewayError | None:
    """Why `waiter` cannot be served before its deadline; None if it may be. Except for a ledger that cannot be reached, this
    is judged by what the ledger returned since the waiter came: what it returned before may be over."""
    if all(agent.failing() and not agent.may_serve(waiter.model) for agent in waiter.candidates):
        return _unreachable()
    books = [agent.book(waiter.model) for agent in waiter.candidates]
    if waiter.judged or min(book.told_s for book in books) <= waiter.came_s:
        return None
    waiter.judged = True
    # A limit that Gemini named is never the caller's mistake: only configured ones are.
    sentences = [exceeded(book.configured, waiter.model, waiter.cost) for book in books]
    if all(sentences):
        return CostExceedsLimit(sentences[0] or "", details={"model": waiter.model})
    left_s = waiter.deadline_s - elapsed_s()
    stop = _stop(waiter)
    if stop is not None:
        return _stopped(waiter, stop) if _until_s(waiter, stop) > left_s else None
    eta_s = _eta_s(waiter)
    return _too_late(waiter, eta_s) if eta_s is not None and eta_s > left_s else None


def expired(waiter: Waiter) -> GatewayError:
    """The waiter's time is up: because no permit was free, or because the ledger has not answered since it came."""
    if all(agent.silent_since(waiter.came_s) for agent in waiter.candidates[: waiter.offered]):
        return _unreachable()
    stop = _stop(waiter)
    return _too_late(waiter, _eta_s(waiter)) if stop is None else _stopped(waiter, stop)


# -- stops -------------------------------------------------------------------------------------------------------------


def _stop(waiter: Waiter) -> Reason | None:
    """Why no candidate can serve the waiter, however many permits are free: of the stop that ends first."""
    stops = [stop for agent in waiter.candidates if (stop := _stop_of(agent, waiter)) is not None]
    return min(stops, key=lambda stop: stop.until_ms) if len(stops) == len(waiter.candidates) else None


def _stop_of(agent: Agent, waiter: Waiter) -> Reason | None:
    book, lo_ms = agent.book(waiter.model), agent.clock.lo_ms()
    if book.blocked_ms and book.reason is not None and book.reason.kind != "rate":
        return book.reason
    lower = book.last.lower if book.last is not None else None
    if book.day_is_spent(lo_ms):
        # Where Gemini named the day's limit, it is tested before midnight.
        tested_ms = lower.until_ms if lower is not None and lower.until_ms > lo_ms else book.day_end_ms
        message = "" if lower is None else lower.message
        return Reason("day", message, int(min(book.day_end_ms, tested_ms)))
    if lower is not None and exceeded(book.effective, waiter.model, waiter.cost) is not None:
        return lower
    return None


def _until_s(waiter: Waiter, stop: Reason) -> float:
    lo_ms: float = waiter.candidates[0].clock.lo_ms()
    return (stop.until_ms - lo_ms) / 1000


def _stopped(waiter: Waiter, stop: Reason) -> GatewayError:
    own_key = any(account.own_key for account in waiter.accounts)
    return stopped_error(stop, waiter.model, waiter.candidates[0].clock.lo_ms(), own_key=own_key)


# -- waits -------------------------------------------------------------------------------------------------------------


def _eta_s(waiter: Waiter) -> float | None:
    """When the waiter would be served as things stand, by the project that is soonest; None: not known."""
    etas = [_eta_of(agent, waiter) for agent in waiter.candidates]
    known = [eta for eta in etas if eta is not None]
    return min(known) if len(known) == len(etas) else None


def _eta_of(agent: Agent, waiter: Waiter) -> float | None:
    """When `agent` serves the waiter, as far as the calendar tells (seconds from now)."""
    book, line = agent.book(waiter.model), agent.line.models.get(waiter.model)
    if book.last is None:
        return None
    last, lo_ms = book.last, agent.clock.lo_ms()
    behind = (line.ahead(waiter) if line else 0) - book.available(agent.clock.hi_ms()).requests
    if behind < 0 and (book.probe_ms or not book.blocked_ms):
        return 0.0 if book.any_open(*agent.clock.bounds_ms()) else agent.opens_in_s([waiter.model]) or 0.0
    if book.blocked_ms > lo_ms:
        return (book.blocked_ms - lo_ms) / 1000
    if not last.next_ms and not last.per_s:
        return None
    first_s = max(0.0, (last.next_ms - lo_ms) / 1000) if last.next_ms else 0.0
    return first_s + (behind / last.per_s if last.per_s else 0.0)


def _too_late(waiter: Waiter, eta_s: float | None) -> QueueTimeout:
    text = "No permit becomes free before this request's deadline. Send it again after the time in Retry-After."
    reasons = [reason for agent in waiter.candidates if (reason := _wait_reason(agent, waiter)) is not None]
    if reasons:
        reason = min(reasons, key=lambda reason: reason.until_ms)
        text = f"{text} {explanation(reason, waiter.model)}"
    return QueueTimeout(text, retry_after_s=max(1.0, eta_s or 1.0))


def _wait_reason(agent: Agent, waiter: Waiter) -> Reason | None:
    """Why Gemini gives `agent` less than its configured limits; None if it does not."""
    book = agent.book(waiter.model)
    if book.blocked_ms and book.reason is not None:
        return book.reason
    return book.last.lower if book.last is not None else None


def _unreachable() -> LedgerUnavailable:
    message = "The rate ledger cannot be reached, so nothing is sent to Gemini; try again."
    return LedgerUnavailable(message, retry_after_s=LEDGER_RETRY_S)
