"""Why a waiting request is rejected, and when it could be served (Retry-After), computed from the ledger's answers. A request
that is rejected until a time is recorded in `Returns`; otherwise only `Waiter.evaluated` is changed."""

from __future__ import annotations

import math
from collections.abc import Callable

from shared.admission.project import ProjectClient
from shared.admission.queue import Ahead, Waiter
from shared.admission.returns import Appointment, Returns
from shared.admission.stop_errors import explanation, stopped_error
from shared.clock import elapsed_s
from shared.errors import (
    CostExceedsLimit,
    GatewayError,
    LedgerUnavailable,
    QueueTimeout,
    UpstreamTimeout,
)
from shared.generation import Cost
from shared.ledger.limits import Limits
from shared.ledger.state import Reason

_LIMITS = (
    "requests per minute",
    "input tokens per minute",
    "images per minute",
    "batches of embeddings per minute",
)
LEDGER_RETRY_S = 5
MARGIN_S = 0.5
"""Added to a computed wait before it is rounded up: a permit may be used from the slot after the one computed for it."""


def exceeded(limits: Limits, model: str, cost: Cost) -> str | None:
    """A sentence that names the limit which a single request of `cost` exceeds; None if it fits."""
    for name, limit, amount in zip(_LIMITS, limits.per_window, cost, strict=True):
        if limit is not None and amount > limit:
            return f"This request needs {amount} {name}, and the limit of {model} is {limit}."
    if limits.requests_per_day is not None and cost.requests > limits.requests_per_day:
        return f"The limit of {model} is {limits.requests_per_day} requests per day."
    return None


def rejection_for(waiter: Waiter, returns: Returns) -> GatewayError | None:
    """Why `waiter` cannot be served before its deadline; None if it may be. Except for an unreachable ledger, only answers
    count that came after the waiter: earlier ones may be out of date."""
    if all(project.ledger.is_failing() and not _may_serve(project, waiter.model) for project in waiter.candidates):
        return _unreachable()
    permits_by_project = [project.permits_of(waiter.model) for project in waiter.candidates]
    if waiter.evaluated or min(permits.updated_s for permits in permits_by_project) <= waiter.arrived_s:
        return None
    waiter.evaluated = True
    # A limit that Gemini named is never the caller's mistake: only configured ones are.
    sentences = [exceeded(permits.configured, waiter.model, waiter.cost) for permits in permits_by_project]
    if all(sentences):
        return CostExceedsLimit(sentences[0] or "", details={"model": waiter.model})
    left_s = waiter.deadline_s - elapsed_s()
    stop = _stop(waiter)
    if stop is not None:
        return _stopped(waiter, stop) if _until_s(waiter, stop) > left_s else None
    soonest = _soonest(waiter, returns)
    return _too_late(waiter, returns) if soonest is not None and soonest[0] > left_s else None


def _may_serve(project: ProjectClient, model: str) -> bool:
    """Whether a request of `model` may still be dispatched without contacting the ledger."""
    latest_ms, permits = project.clock.latest_ms() if project.clock.known else 0.0, project.permits_of(model)
    if (
        not project.holdings.cap
        or permits.last is None
        or latest_ms > project.holdings.authority_ms
        or (permits.open_until_ms and not permits.probe_until_ms)
    ):
        return False
    return not permits.every_request_metered or any(permits.available(latest_ms))


def timeout_error(waiter: Waiter, returns: Returns) -> GatewayError:
    """The error of a waiter whose deadline has passed: no permit was free, or the ledger has not answered since it came."""
    if all(project.ledger.is_silent_since(waiter.arrived_s) for project in waiter.candidates[: waiter.offered]):
        return _unreachable()
    stop = _stop(waiter)
    return _too_late(waiter, returns) if stop is None else _stopped(waiter, stop)


# -- stops -------------------------------------------------------------------------------------------------------------


def _stop(waiter: Waiter) -> Reason | None:
    """Why no candidate can serve the waiter, however many permits are free: the error of the stop that ends first."""
    stops = [stop for project in waiter.candidates if (stop := stop_of(project, waiter.model, waiter.cost))]
    return min(stops, key=lambda stop: stop.until_ms) if len(stops) == len(waiter.candidates) else None


def stop_of(project: ProjectClient, model: str, cost: Cost) -> Reason | None:
    """Of the stops in `project` that concern a request of `cost`, the one that ends last."""
    permits, earliest_ms = project.permits_of(model), project.clock.earliest_ms()
    lower = permits.last.lower if permits.last is not None else None
    stops = []
    if permits.reason is not None and permits.reason.kind != "rate":
        stops.append(permits.reason)
    if permits.day_is_spent(earliest_ms):
        # Where Gemini named the day's limit, it is tested before midnight.
        tested_ms = lower.until_ms if lower is not None and lower.until_ms > earliest_ms else permits.day_end_ms
        stops.append(Reason("day", "" if lower is None else lower.message, int(min(permits.day_end_ms, tested_ms))))
    if lower is not None and exceeded(permits.effective, model, cost) is not None:
        stops.append(lower)
    return max(stops, key=lambda stop: stop.until_ms, default=None)


def _until_s(waiter: Waiter, stop: Reason) -> float:
    earliest_ms: float = waiter.candidates[0].clock.earliest_ms()
    return (stop.until_ms - earliest_ms) / 1000


def _stopped(waiter: Waiter, stop: Reason) -> GatewayError:
    caller_key = any(account.caller_key for account in waiter.accounts)
    return stopped_error(stop, waiter.model, waiter.candidates[0].clock.earliest_ms(), caller_key=caller_key)


# -- waits -------------------------------------------------------------------------------------------------------------


def retry_s(waiter: Waiter, returns: Returns) -> float:
    """Retry-After in whole seconds: a permit and a slot will then be free for the rejected request, after all that have a
    place before it. The request is expected back at that time."""
    soonest = _soonest(waiter, returns, by_slots=True)
    eta_s, project = (0.0, waiter.candidates[0]) if soonest is None else soonest
    wait_s = max(1.0, float(math.ceil(eta_s + MARGIN_S)))
    if soonest is not None and waiter.tag:
        now_s, ledger = elapsed_s(), project.account.ledger_id
        due_s, section, caller = now_s + wait_s, project.names.section(waiter.model), waiter.caller
        place = Appointment(ledger, section, caller, waiter.batch, due_s, waiter.tag, waiter.sequence, waiter.cost)
        returns.expect(place, now_s)
    return wait_s


def _soonest(waiter: Waiter, returns: Returns, *, by_slots: bool = False) -> tuple[float, ProjectClient] | None:
    """When the waiter would be served in the current state (seconds from now), and by which project; None if unknown.

    `by_slots`: exchanges that are under way are taken into account too. How long they last is an estimate, good enough for
    the time to return, not for a rejection."""
    found: list[tuple[float, ProjectClient]] = []
    for project in waiter.candidates:
        eta_s = _eta_of(project, waiter, returns)
        if by_slots and project.permits_of(waiter.model).last is not None:
            eta_s = max(eta_s or 0.0, _slot_eta_s(project, waiter, returns))
        if eta_s is None:
            return None
        found.append((eta_s, project))
    return min(found, key=lambda one: one[0])


def _eta_of(project: ProjectClient, waiter: Waiter, returns: Returns) -> float | None:
    """When `project` has a permit for the waiter, as far as the calendar tells (seconds from now)."""
    permits = project.permits_of(waiter.model)
    if permits.last is None:
        return None
    last, earliest_ms, latest_ms, own = permits.last, *project.clock.bounds_ms(), waiter.cost
    ahead = _ahead(project, waiter, returns)
    # Each request to an image model generates one image.
    images = (ahead.exchanges + 1) * own.images
    needed = (ahead.requests + own[0], ahead.tokens + own[1], images, ahead.batches + own.batches)
    held_ms = permits.covered_ms(needed, earliest_ms, latest_ms)
    if held_ms is not None and (permits.probe_until_ms or not permits.open_until_ms):
        return (held_ms - earliest_ms) / 1000
    if permits.open_until_ms <= earliest_ms and not last.next_ms and last.supply is None:
        return None
    have = permits.available(latest_ms)
    left = tuple(amount - held for amount, held in zip(needed, have, strict=True))
    # The slot of the first unmet request was searched on the calendar itself.
    is_first = last.next_ms and (left[0] <= own[0] or last.supply is None)
    due_ms = last.next_ms if is_first or last.supply is None else last.supply.granted_ms(left)
    if last.open_until_ms < permits.open_until_ms and not is_first:
        due_ms += permits.open_until_ms - earliest_ms  # Gemini refused the model after that calendar was made.
    due_ms = max(due_ms, permits.open_until_ms, permits.batches_until_ms if own.batches else 0)
    eta_s = max(0.0, due_ms - earliest_ms) / 1000
    return eta_s if eta_s < math.inf else None


def _slot_eta_s(project: ProjectClient, waiter: Waiter, returns: Returns) -> float:
    """When `project` has a slot for the waiter, if exchanges go on taking as long as they did lately (seconds from now)."""
    line = project.wait_list.models.get(project.names.section(waiter.model))
    others = project.wait_list.count - (len(line) if line else 0)
    behind = _ahead(project, waiter, returns).exchanges + others - max(0, project.free_slots())
    return max(0, behind + 1) * project.holdings.service_s / max(1, project.holdings.cap)


def _ahead(project: ProjectClient, waiter: Waiter, returns: Returns) -> Ahead:
    """What has a place before the waiter's in its model's queue: those that wait here, and those that were rejected and are
    expected back."""
    section = project.names.section(waiter.model)
    line = project.wait_list.models.get(section)
    away = returns.ahead(project.account.ledger_id, section, waiter, elapsed_s())
    return away.plus(line.order.ahead(waiter)) if line else away


def _too_late(waiter: Waiter, returns: Returns) -> QueueTimeout:
    text = "No permit becomes free before this request's deadline. Send it again after the time in Retry-After."
    reasons = [reason for project in waiter.candidates if (reason := _wait_reason(project, waiter)) is not None]
    if reasons:
        reason = min(reasons, key=lambda reason: reason.until_ms)
        text = f"{text} {explanation(reason, waiter.model)}"
    scarce = _scarce(waiter)
    details = None if scarce is None else {"limit": scarce}
    return QueueTimeout(text, retry_after_s=retry_s(waiter, returns), details=details, rejected_s=_rejected_s(waiter))


def _rejected_s(waiter: Waiter) -> float:
    """Seconds until the first of the projects may be asked again; 0 if one may be asked now."""
    earliest_ms: float = waiter.candidates[0].clock.earliest_ms()
    open_until_ms: float = min(project.permits_of(waiter.model).open_until_ms for project in waiter.candidates)
    return max(0.0, open_until_ms - earliest_ms) / 1000


def _scarce(waiter: Waiter) -> str | None:
    """The first limit of a minute that has no room for the waiter now, in its first project; None if all have, or unknown."""
    project = waiter.candidates[0]
    permits = project.permits_of(waiter.model)
    if permits.last is None:
        return None
    mine = permits.available(project.clock.latest_ms())
    limits = permits.effective.per_window
    for name, limit, free, held, needed in zip(Cost._fields, limits, permits.last.free, mine, waiter.cost, strict=True):
        if limit is not None and free + held < needed:
            return name
    return None


def unconnected(waiter: Waiter, returns: Returns, project: ProjectClient, most: Callable[[bool], int]) -> QueueTimeout:
    """The error of a waiter whose deadline has passed although permits were free: no connection was. `most` returns how many
    connections there are."""
    guest = project.account.ephemeral
    whose = " with callers' own keys" if guest else ""
    text = (
        f"No connection to Gemini becomes free before this request's deadline: {most(guest)} requests{whose} are open "
        "in this instance, its maximum. Send it again after the time in Retry-After."
    )
    turn_s = math.ceil(project.holdings.service_s * (1 + _ahead(project, waiter, returns).exchanges) / most(guest))
    return QueueTimeout(text, retry_after_s=max(retry_s(waiter, returns), float(turn_s)))


def _wait_reason(project: ProjectClient, waiter: Waiter) -> Reason | None:
    """Why Gemini gives `project` less than its configured limits; None if it does not."""
    permits = project.permits_of(waiter.model)
    if permits.open_until_ms and permits.reason is not None:
        return permits.reason
    return permits.last.lower if permits.last is not None else None


def too_short(model: str, left_s: float, least_s: float) -> UpstreamTimeout:
    """The error of a request that has too little time left for an answer of Gemini."""
    return UpstreamTimeout(
        f"Nothing was sent to Gemini: this request has {max(0.0, left_s):.2f} s left, and the fastest of the recent answers "
        f"of {model} took up to {least_s:.2f} s. Allow more time."
    )


def _unreachable() -> LedgerUnavailable:
    message = "The rate ledger cannot be reached, so nothing is sent to Gemini; try again."
    return LedgerUnavailable(message, retry_after_s=LEDGER_RETRY_S)
