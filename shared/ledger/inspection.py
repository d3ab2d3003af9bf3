"""What an operator is told of a project's state, and what may be cleared of it. Nothing here is a secret."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime
from typing import Any

from shared.generation import Cost
from shared.ledger.grid import Grid
from shared.ledger.limits import UNLIMITED, Limits, minimum
from shared.ledger.refusals import effective_limits, recovered
from shared.ledger.slots import concurrency, fresh
from shared.ledger.state import UNPROVEN, Outside, State

Report = dict[str, Any]
ID_CHARS = 8
"""So much of an instance's random id tells it from the others."""


def report(state: State, now_ms: int, configured: Callable[[str], Limits]) -> Report:
    """Who holds how many slots and, by model, what of each limit is used. Times are in UTC; `configured` are the limits of
    a model as this process knows them."""
    now_ms = max(now_ms, state.now_ms)
    leases = state.leases.items()
    c = min((lease.concurrency for _, lease in leases if fresh(lease, now_ms)), default=None)
    return {
        "instances": len(state.leases),
        "slots": {
            "held": sum(lease.slots for _, lease in leases if lease.reuse_ms >= now_ms),
            "limit": None if c is None else concurrency(state, c, now_ms),
            "by": {i[:ID_CHARS]: lease.slots for i, lease in leases if lease.slots and lease.reuse_ms >= now_ms},
        },
        "metered_as": {name: known.model for name, known in sorted(state.names.items()) if known.model != name},
        "models": {model: _model(state, model, now_ms, configured(model)) for model in state.sections},
    }


def _model(state: State, model: str, now_ms: int, configured: Limits) -> Report:
    section, grid = state.sections[model], Grid.of(state.window_ms / 1000)
    limits = _limits(state, model, configured)
    booked = [s.bookings for lease in state.leases.values() if (s := lease.shares.get(model)) is not None]
    live = [cost for held in booked for v, cost in held.items() if v.last >= grid.slot(now_ms)]
    now = grid.slot(now_ms)
    used = [cost for slot, cost in section.ring.items() if now < slot + grid.span]
    window = {
        name: {"used": sum(c[k] for c in used), "booked": sum(c[k] for c in live), "limit": limits[k]}
        for k, name in enumerate(Cost._fields)
    }
    days = {date.fromordinal(day).isoformat(): count for day, count in sorted(section.days.items())}
    return {
        "window": window,
        "days": days,
        "day_limit": limits.requests_per_day,
        **refusals(state, model, now_ms, configured),
    }


def _limits(state: State, model: str, configured: Limits) -> Limits:
    return minimum([configured, effective_limits(state, state.sections[model], model)])


def refusals(state: State, model: str, now_ms: int, configured: Limits) -> Report:
    """What Gemini's refusals of `model` taught: null where nothing holds."""
    section, grid = state.sections[model], Grid.of(state.window_ms / 1000)
    limits = _limits(state, model, configured)
    learned = {name: value for name, value in section.learned._asdict().items() if value is not None}
    learns = bool(learned) and section.learned_until_ms > now_ms
    suspected = {
        Cost._fields[k]: _suspected(outside, limits.per_window[k], now_ms, grid)
        for k, outside in sorted(section.outside.items())
    }
    return {
        "cooling_until": iso(section.cool_ms) if section.cool_ms > now_ms else None,
        "one_request_tries": 0 < section.cool_ms <= now_ms,
        "learned_limits": learned if learns else None,
        "learned_until": iso(section.learned_until_ms) if learns else None,
        "outside_consumer": suspected or None,
        "debt_tokens": section.debt_tokens,
    }


def _suspected(outside: Outside, limit: int | None, now_ms: int, grid: Grid) -> Report:
    usable = outside.limit if limit is None else recovered(outside, limit, now_ms, grid)
    return {"since": iso(outside.since_ms), "usable": limit if usable is None else usable}


def iso(ms: float) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def forget_learned(state: State, model: str | None, *, cool_only: bool) -> list[str]:
    """Clear what refusals taught about one model or all (`cool_only`: the cool-downs alone); the models that changed.

    What was dispatched and booked stays: no limit can be exceeded by this, but those that Gemini named."""
    changed = []
    for name, section in state.sections.items():
        if name == UNPROVEN or (model is not None and name != model):
            continue  # Of unproven ids nothing is refused; whose turn it is must not be forgotten.
        before = (section.cool_ms, section.learned, section.outside)
        section.cool_ms = section.cool_length_ms = section.probe_ms = 0
        section.prober = ""
        if not cool_only:
            section.learned, section.learned_until_ms, section.outside = UNLIMITED, 0, {}
        if before != (section.cool_ms, section.learned, section.outside):
            changed.append(name)
    if model is None and not cool_only:
        state.pressure_c = state.pressure_ms = 0
    return changed
