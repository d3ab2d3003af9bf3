"""What the exactness board measures, and what each figure is to reach. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from shared.ledger.grid import Grid
from tests.benchmarks.board.judge import Fairness, Figures
from tests.support.goals import Goal

PROCESSES, CALLERS = 4, 16
"""Callers of each process."""
RTT_S = 0.02
"""Injected into each call of the ledger's store."""
QUEUE_TIMEOUT_S = 900.0
WARM_60_PERCENT_S = 20.0
MEASURE_S = 120.0
AFTER_S = 1.5
"""Callers go on so long after what is measured, so that what was dispatched in it has been answered."""

RATES = (10, 300, 1_000, 4_000, 10_000)
NAIVE_RATES = (300, 1_000, 4_000)
_WRITES = {10: 1.0, 300: 0.2, 1_000: 0.08, 4_000: 0.03, 10_000: 0.02}
"""Ledger writes per request, saturated."""
MAX_ATTEMPTS_PER_S, MAX_READS_PER_S = 5.0, 20.0
"""Commits that all instances together attempt on a document, and reads of it, at any limit, load and number of instances."""
_MAX_ATTEMPTS_SATURATED_PER_S = {1_000: 2.0, 4_000: 2.0}
_MIN_PARTY = 10
"""Jain's index says something from so many permits per party on; below, counts are to differ by one at most."""
_MARGIN_S = 1.0

Lease = Literal["calendar", "naive"]
Load = Literal["saturated", "60"]


@dataclass(frozen=True)
class Kill:
    """One process gets a SIGKILL `after_s` into what is measured. `ttl_s + tau_s` later nothing can be held by it."""

    after_s: float
    ttl_s: float
    tau_s: float


@dataclass(frozen=True)
class Cell:
    """`rpm` of one model; `concurrency` is for the whole project; `latency_s` is how long Gemini takes."""

    name: str
    lease: Lease
    rpm: int
    load: Load
    measure_s: float = MEASURE_S
    concurrency: int = 256
    latency_s: float = 0.2
    tau_s: float = 120.0
    kill: Kill | None = None

    @property
    def binds(self) -> Literal["rate", "slots"]:
        return "slots" if self.concurrency < PROCESSES * CALLERS else "rate"


@dataclass(frozen=True)
class Plan:
    """A cell's times and limit, for a window of `window_s` (60, or less for a first look). Seconds count from the start."""

    window_s: float
    limit: int
    """Requests in any window."""
    per_s: float | None
    """At which each caller asks, whatever became of its last request; None: as soon as it was answered."""
    warm_s: float
    measured_s: float
    kill_s: float | None

    @property
    def ends_s(self) -> float:
        return self.warm_s + self.measured_s + AFTER_S


def _cells() -> Iterator[Cell]:
    """The quick proofs first; each naive one after ours, so that both meet the same machine."""
    yield Cell("slots-kill", "calendar", 1_000_000, "saturated", 50, 32, 0.5, 10.0, Kill(10.0, 10.0, 10.0))
    yield Cell("1000-kill", "calendar", 1_000, "saturated", 60, tau_s=10.0, kill=Kill(0.0, 10.0, 10.0))
    for rpm in RATES:
        measure_s = 180.0 if rpm == min(RATES) else MEASURE_S
        for load in ("saturated", "60"):
            yield Cell(f"{rpm}-{load}", "calendar", rpm, load, measure_s)
            if rpm in NAIVE_RATES:
                yield Cell(f"{rpm}-{load}-naive", "naive", rpm, load, measure_s)


CELLS = {cell.name: cell for cell in _cells()}


def period_s(window_s: float) -> float:
    """After so long the same request fits again: what is sent at the limit repeats with this period."""
    return window_s / Grid.of(window_s).best_use()


def plan(cell: Cell, *, window_s: float = 60.0, measure_s: float | None = None) -> Plan:
    """`measure_s` replaces the cell's; it is given for a minute of 60 s, and shrinks with it. Where a rate binds, whole
    periods are measured, at least one: the phase in which a burst repeats must not count."""
    scale, period = window_s / 60, period_s(window_s)
    limit = max(1, round(cell.rpm * scale))
    wanted_s = (measure_s or cell.measure_s) * scale
    if cell.load == "60":
        per_s = 0.6 * limit / window_s / (PROCESSES * CALLERS)
        return Plan(window_s, limit, per_s, WARM_60_PERCENT_S * scale, wanted_s, None)
    if cell.binds == "slots":
        # Leases and deadlines do not shrink with the window.
        assert cell.kill is not None
        return Plan(window_s, limit, None, 10.0, cell.measure_s, 10.0 + cell.kill.after_s)
    kill_s = None if cell.kill is None else period + cell.kill.after_s * scale
    return Plan(window_s, limit, None, period, max(1, round(wanted_s / period)) * period, kill_s)


def goals(cell: Cell, figures: Figures) -> list[Goal]:
    """None for a naive lease: it is there to compare with."""
    if cell.lease == "naive":
        return []
    reached = [
        Goal("worst window", figures.worst_window, figures.limit),
        Goal("most at once", figures.most_at_once, cell.concurrency),
        Goal("refused by Gemini", figures.refused, 0),
        Goal("told an error", figures.errors, 0),
        Goal("step CPU, ms", figures.step_ms, 1.0),
        Goal("state, bytes", figures.state_bytes, 4096),
    ]
    if cell.kill is not None:
        return reached + _after_a_kill(cell, cell.kill, figures)
    attempts_per_s = figures.commits_per_s + figures.refused_per_s
    calm_per_s = _MAX_ATTEMPTS_SATURATED_PER_S if cell.load == "saturated" else {}
    reached += [
        Goal("conflicts per write", figures.conflicts_per_write, 0.1),
        Goal("commits attempted a second", attempts_per_s, calm_per_s.get(cell.rpm, MAX_ATTEMPTS_PER_S)),
        Goal("reads a second", figures.reads_per_s, MAX_READS_PER_S),
    ]
    if cell.load == "60":
        # Of eighteen requests one may fall on the other side of the end.
        least = 0.9 if cell.rpm == min(RATES) else 0.99
        reached.append(
            Goal("of the ideal queue's dispatches", figures.requests / max(1, figures.ideal_requests), least, True)
        )
        if figures.held:
            reached.append(Goal("wait p50 with permits held, s", figures.held_p50_s, 0.0001))
            reached.append(Goal("wait p99 with permits held, s", figures.held_p99_s, 0.06))
        return reached
    reached += [
        Goal("used", figures.used, 0.95 if cell.rpm == min(RATES) else 0.985, at_least=True),
        Goal("writes per request", figures.writes_per_request, _WRITES[cell.rpm]),
        Goal("wait p99 against ideal FIFO", figures.wait_p99_s / max(figures.ideal_p99_s, 1e-9), 1.5),
        _fair("callers", figures.callers),
        _fair("processes", figures.processes),
    ]
    return reached


def _after_a_kill(cell: Cell, kill: Kill, figures: Figures) -> list[Goal]:
    if cell.binds == "slots":
        taken_s = math.inf if figures.recovery_s is None else figures.recovery_s
        return [Goal("recovery, s", taken_s, kill.ttl_s + kill.tau_s + _MARGIN_S)]
    # What a dead process had booked counts although nobody uses it: at most its share of a horizon of 8 s.
    return [Goal("used after the kill", figures.used, 0.985 - 8 / 60 / PROCESSES, at_least=True)]


def _fair(parties: str, fairness: Fairness) -> Goal:
    if fairness.mean >= _MIN_PARTY:
        return Goal(f"Jain over {parties}", fairness.jain, 0.98, at_least=True)
    return Goal(f"counts of {parties} differ by", fairness.most - fairness.least, 1)
