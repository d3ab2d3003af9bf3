"""Why a waiter is not served, and when it would be: read from what the ledger said. It changes nothing but `judged`."""

from __future__ import annotations

from shared.admission.agent import Agent
from shared.admission.queue import Waiter
from shared.clock import elapsed_s
from shared.errors import (
    CostExceedsLimit,
    DailyQuotaExhausted,
    GatewayError,
    LedgerUnavailable,
    QueueTimeout,
)
from shared.generation import Cost
from shared.ledger.grid import pacific_day
from shared.ledger.limits import Limits

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
    """What no waiting helps against. But for a ledger that cannot be reached, it is judged by what the ledger said
    since this waiter came: what it said before may be over."""
    if all(agent.failing() and not _may_serve(agent, waiter.model) for agent in waiter.candidates):
        return _unreachable()
    books = [agent.book_of(waiter.model) for agent in waiter.candidates]
    if waiter.judged or min(book.told_s for book in books) <= waiter.came_s:
        return None
    waiter.judged = True
    sentences = [exceeded(book.effective, waiter.model, waiter.cost) for book in books]
    if all(sentences):
        return CostExceedsLimit(sentences[0] or "", details={"model": waiter.model})
    if _day_is_spent(waiter):
        return _day_spent(waiter)
    eta_s = _eta_s(waiter)
    return _too_late(eta_s) if eta_s is not None and eta_s > waiter.deadline_s - elapsed_s() else None


def _may_serve(agent: Agent, model: str) -> bool:
    """Whether a request of `model` may yet be dispatched without the ledger's help."""
    hi_ms, book = agent.clock.hi_ms() if agent.clock.known else 0.0, agent.book_of(model)
    if not agent.cap or book.last is None or hi_ms > agent.authority_ms or (book.blocked_ms and not book.probe_ms):
        return False
    return not book.every_request_metered or any(book.available(hi_ms))


def expired(waiter: Waiter) -> GatewayError:
    """Its time is up: because no permit was free, or because the ledger has not answered since it came."""
    if all(agent.silent_since(waiter.came_s) for agent in waiter.candidates[: waiter.offered]):
        return _unreachable()
    if _day_is_spent(waiter):
        return _day_spent(waiter)
    return _too_late(_eta_s(waiter))


def _eta_s(waiter: Waiter) -> float | None:
    """When the waiter would be served as things stand, by the project that is soonest; None: not known."""
    etas = [_eta_of(agent, waiter) for agent in waiter.candidates]
    known = [eta for eta in etas if eta is not None]
    return min(known) if len(known) == len(etas) else None


def _eta_of(agent: Agent, waiter: Waiter) -> float | None:
    """When `agent` serves the waiter, as far as the calendar tells (seconds from now)."""
    section = agent.names.section(waiter.model)
    book, line = agent.book(section), agent.line.models.get(section)
    if book.last is None:
        return None
    last, lo_ms = book.last, agent.clock.lo_ms()
    behind = (line.ahead(waiter) if line else 0) - book.available(agent.clock.hi_ms()).requests
    if behind < 0 and (book.probe_ms or not book.blocked_ms):
        return 0.0 if book.any_open(*agent.clock.bounds_ms()) else agent.opens_in_s([section]) or 0.0
    if book.blocked_ms > lo_ms:
        return (book.blocked_ms - lo_ms) / 1000
    if not last.next_ms and not last.per_s:
        return None
    first_s = max(0.0, (last.next_ms - lo_ms) / 1000) if last.next_ms else 0.0
    return first_s + (behind / last.per_s if last.per_s else 0.0)


def _too_late(eta_s: float | None) -> QueueTimeout:
    return QueueTimeout(
        "No permit becomes free before this request's deadline; send it again after the time in Retry-After.",
        retry_after_s=max(1.0, eta_s or 1.0),
    )


def _unreachable() -> LedgerUnavailable:
    message = "The rate ledger cannot be reached, so nothing is sent to Gemini; try again."
    return LedgerUnavailable(message, retry_after_s=LEDGER_RETRY_S)


def _day_is_spent(waiter: Waiter) -> bool:
    return all(agent.book_of(waiter.model).day_is_spent(agent.clock.lo_ms()) for agent in waiter.candidates)


def _day_spent(waiter: Waiter) -> DailyQuotaExhausted:
    now_ms = waiter.candidates[0].clock.lo_ms()
    left_s = (pacific_day(now_ms).end_ms - now_ms) / 1000
    return DailyQuotaExhausted(
        f"The daily limit of {waiter.model} is spent; it begins anew at midnight Pacific time.",
        retry_after_s=left_s,
    )
