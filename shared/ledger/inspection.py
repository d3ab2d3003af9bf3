"""A project's state as shown to an operator, and the parts that an operator may clear. Nothing here is secret."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime
from functools import reduce
from typing import Any

from shared.generation import NO_COST, Cost
from shared.ledger.circuit import close, lowered_phase, phase
from shared.ledger.grid import Grid
from shared.ledger.limits import Limits, minimum, newest
from shared.ledger.slots import concurrency, fresh, limits_version
from shared.ledger.state import BATCHES, UNPROVEN, Circuit, ExternalUsage, ModelState, State
from shared.ledger.throttling import effective_limits, recovered

Report = dict[str, Any]
ID_CHARS = 8
"""Characters of an instance's random id that identify it."""


def report(state: State, now_ms: int, configured: Callable[[str], Limits]) -> Report:
    """The slots of each instance and, by model, the use of each limit. Times are in UTC; `configured` are the limits of
    a model as this process knows them."""
    now_ms = max(now_ms, state.now_ms)
    leases = state.leases.items()
    version = limits_version(state, 0, now_ms)
    c = min(newest((one.limits_version, one.concurrency) for _, one in leases if fresh(one, now_ms)), default=None)
    return {
        "merged_into": state.moved or None,
        "instances": len(state.leases),
        "slots": {
            "held": sum(lease.slots for _, lease in leases if lease.reuse_ms >= now_ms),
            "limit": None if c is None else concurrency(state, c, now_ms, version),
            "by": {i[:ID_CHARS]: lease.slots for i, lease in leases if lease.slots and lease.reuse_ms >= now_ms},
        },
        "metered_as": {name: known.model for name, known in sorted(state.names.items()) if known.model != name},
        "stopped": stopped(state.spend, now_ms),
        "models": {model: _model(state, model, now_ms, configured(model)) for model in state.sections},
    }


def _model(state: State, model: str, now_ms: int, configured: Limits) -> Report:
    section, grid = state.sections[model], Grid.of(state.window_ms / 1000)
    if model == BATCHES:
        configured = Limits(batches=configured.batches)
    limits = limits_of(state, model, configured)
    booked = [s.bookings for lease in state.leases.values() if (s := lease.shares.get(model)) is not None]
    live = [cost for held in booked for v, cost in held.items() if v.last >= grid.slot(now_ms)]
    used = used_of(state, section, now_ms)
    window = {
        name: {"used": used[k], "booked": sum(c[k] for c in live), "limit": limits.per_window[k]}
        for k, name in enumerate(Cost._fields)
    }
    days = {date.fromordinal(day).isoformat(): count for day, count in sorted(section.days.items())}
    return {
        "window": window,
        "days": days,
        "day_limit": limits.requests_per_day,
        **refusals(state, model, now_ms, configured),
    }


def used_of(state: State, section: ModelState, now_ms: int) -> Cost:
    """What was dispatched to a model in the window that ends now."""
    grid = Grid.of(state.window_ms / 1000)
    now = grid.slot(now_ms)
    return reduce(Cost.plus, (cost for slot, cost in section.ring.items() if now < slot + grid.span), NO_COST)


def limits_of(state: State, model: str, configured: Limits) -> Limits:
    """The configured limits of a model that has a section, lowered to those that Gemini named."""
    return minimum([configured, effective_limits(state, state.sections[model], model)])


def refusals(state: State, model: str, now_ms: int, configured: Limits) -> Report:
    """What Gemini's 429s for `model` changed; null where they changed nothing."""
    section, grid = state.sections[model], Grid.of(state.window_ms / 1000)
    limits = limits_of(state, model, configured)
    suspected = {
        Cost._fields[k]: _suspected(outside, limits.per_window[k], now_ms, grid)
        for k, outside in sorted(section.outside.items())
    }
    return {
        "stopped": stopped(section.circuit, now_ms),
        "learned_limits": _learned(section, limits, now_ms),
        "outside_consumer": suspected or None,
        "debt_tokens": section.debt_tokens,
    }


def stopped(circuit: Circuit, now_ms: int) -> Report | None:
    """An open circuit: the reason, when Gemini is asked again, and whether a probe is under way; None while it is closed."""
    if not circuit.open_until_ms:
        return None
    return {
        "kind": circuit.kind,
        "message": circuit.message,
        "until": iso(circuit.open_until_ms),
        "state": phase(circuit, now_ms),
    }


def _learned(section: ModelState, limits: Limits, now_ms: int) -> Report | None:
    """By name, the limits that Gemini named below the configured ones: their value now, and when they are tested."""
    return {
        Limits._fields[k]: {
            "named": lowered.limit,
            "usable": limits[k],
            "message": lowered.message,
            "tested_at": iso(lowered.test_ms),
            "state": lowered_phase(lowered, now_ms),
        }
        for k, lowered in sorted(section.lowered.items())
    } or None


def _suspected(outside: ExternalUsage, limit: int | None, now_ms: int, grid: Grid) -> Report:
    usable = outside.limit if limit is None else recovered(outside, limit, now_ms, grid)
    return {"since": iso(outside.since_ms), "usable": limit if usable is None else usable}


def iso(ms: float) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def forget_learned(state: State, model: str | None, *, cool_only: bool) -> list[str]:
    """Clear what refusals changed for one model or all (`cool_only`: the open circuits alone). Returns the models that changed.

    Dispatches and bookings stay, so that only limits that Gemini named can be exceeded afterwards."""
    changed = []
    for name, section in state.sections.items():
        if name == UNPROVEN or (model is not None and name != model):
            continue  # No refusal is recorded for unproven ids, and the turn that this section holds must be kept.
        learned = bool(section.lowered or section.outside) and not cool_only
        if section.circuit.open_until_ms or learned:
            changed.append(name)
        close(section.circuit)
        if learned:
            section.lowered, section.outside = {}, {}
    if model is None:
        close(state.spend)
        if not cool_only:
            state.pressure_c = state.pressure_ms = 0
    return changed
