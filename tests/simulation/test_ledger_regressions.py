"""Former defects of the ledger alone, each in the shortest exchange of messages that shows it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from shared.generation import NO_COST, Cost
from shared.ledger.grid import JITTER_MS, Grid
from shared.ledger.limits import Limits
from shared.ledger.state import Bookings, Demand, ModelState, QuotaSignal, RenewRequest, RenewResult, SlotRange, State
from shared.ledger.step import renew
from tests.simulation.checker import check
from tests.simulation.drawn_scenarios import scenario_of
from tests.simulation.history import Bound, Exchange, History
from tests.simulation.judge import judge
from tests.simulation.mutant import Mutant
from tests.simulation.mutants import MUTANTS, SCRIPTED
from tests.simulation.scenario import DAY, Scenario, grid_of
from tests.simulation.shapes import an_alias_in_demand, spent_too_much

MODEL = "m0"
START_MS = float(DAY.start_ms) + 36_000_000
GRID = grid_of(4_000, 100)


def mutant(name: str) -> Mutant:
    [found] = [m for m in (*MUTANTS, *SCRIPTED) if m.name == name]
    return found


class Ledger:
    """A state and a clock, on which instances renew one after the other."""

    def __init__(self, grid: Grid = GRID, c: int = 10) -> None:
        self.grid, self.c, self.state = grid, c, State(grid.window_ms)
        self.now_ms = grid.start_ms(grid.slot(START_MS))
        self._numbers: dict[str, int] = {}

    def renew(self, who: str, want: int = 1, demand: Demand | None = None, **more: Any) -> RenewResult:
        self._numbers[who] = self._numbers.get(who, 0) + 1
        fields = {"lease_ms": 2_000, **more}
        message = RenewRequest(
            who, self._numbers[who], int(self.now_ms), self.c, 5_000, want_slots=want,
            demands={MODEL: demand} if demand else {}, **fields,
        )  # fmt: skip
        return renew(self.state, message, int(self.now_ms), self.grid)

    def ask(self, who: str, limits: Limits, count: int = 1, **more: Any) -> Bookings:
        demand = Demand(limits, wants=((Cost(1), count),) if count else (), head=True, reach_ms=2_000, **more)
        return self.renew(who, max(1, count), demand).allotments[MODEL].bookings

    def usable(self, bookings: Bookings, at_ms: float) -> SlotRange | None:
        slot = self.grid.slot(at_ms)
        return next((v for v, cost in bookings.items() if cost.requests and v.first <= slot <= v.last), None)


def dispatch(ledger: Ledger, at_ms: float, travel_ms: float = 0.0) -> Exchange:
    return Exchange("p0", MODEL, "i", "c", Cost(1), at_ms, at_ms + travel_ms, at_ms, 0)


def settled_ahead_of_its_true_time(limits: Limits) -> tuple[Ledger, list[Exchange]]:
    """Two per window. One is dispatched at the end of a slot and arrives late; one a span later, minus a slot, settled in
    the slot after it (its sender's clock runs late); and then whoever asks may dispatch as much as the ledger grants."""
    ledger = Ledger()
    grid, exchanges = ledger.grid, []
    early = ledger.grid.slot(ledger.now_ms)
    ledger.ask("a", limits)
    exchanges.append(dispatch(ledger, grid.start_ms(early + 1) - 1, JITTER_MS))
    ledger.renew("a", 1, Demand(limits, settled={early: Cost(1)}))
    ledger.now_ms = grid.start_ms(early + grid.span - 1)
    slot = early + grid.span - 1
    [validity] = [v for v in ledger.ask("a", limits) if v.first == slot]
    exchanges.append(dispatch(ledger, ledger.now_ms))
    ledger.renew("a", 1, Demand(limits, settled={slot + 1: Cost(1)}, kept={}))
    granted = ledger.ask("b", limits)
    assert validity.last >= slot
    if ledger.usable(granted, ledger.now_ms):
        exchanges.append(dispatch(ledger, ledger.now_ms))
    return ledger, exchanges


def worst(exchanges: Sequence[Exchange], limits: Limits) -> tuple[bool, float]:
    history = History(GRID.window_ms, tuple(exchanges), bounds=(Bound("p0", MODEL, limits, 10),))
    [found] = [v for v in check(history) if v.promise == "requests in any window"]
    return found.ok, found.worst


def test_dispatch_settled_ahead_counts_at_once() -> None:
    """R + 1 fit into W + J where the ring counted a dispatch from its own slot on."""
    limits = Limits(requests=2)
    _, exchanges = settled_ahead_of_its_true_time(limits)
    assert worst(exchanges, limits) == (True, 2)
    with mutant("the ring counts from its slot on").change(scenario_of(0)):
        _, exchanges = settled_ahead_of_its_true_time(limits)
    assert worst(exchanges, limits) == (False, 3)


def test_given_up_slots_stay_until_the_sender_knows() -> None:
    ledger = Ledger(c=4)
    assert ledger.renew("a", 4).cap == 4
    ledger.renew("a", 1, hold=4)  # Three of the four are given up; until the answer arrives all four may be in use.
    assert ledger.renew("b", 4).cap == 0
    ledger.renew("a", 1, hold=1)
    assert ledger.renew("b", 4).cap == 3


def test_lost_reply_does_not_shorten_authority() -> None:
    """Leases shrink when instances leave. An instance without the reply acts until its old lease ends, and tau after it."""
    ledger = Ledger(c=2)
    crowd = [f"i{at}" for at in range(20)]
    for name in crowd:
        ledger.renew(name, 1, lease_ms=0)
    first = ledger.renew("a", 2, lease_ms=0)
    for name in crowd:
        ledger.renew(name, 0, lease_ms=0)
    first = ledger.renew("a", 2, lease_ms=40_000)
    assert first.cap == 2
    ledger.now_ms += 100
    ledger.renew("a", 2, hold=2, lease_ms=2_000)  # Its reply is lost.
    ledger.now_ms = first.authority_ms + 5_000
    assert ledger.renew("b", 2).cap == 0
    ledger.now_ms += 1
    assert ledger.renew("b", 2).cap == 2


@pytest.mark.parametrize("limits", [Limits(requests=1), Limits(requests=9, requests_per_day=1), Limits(9, 10)])
def test_head_is_booked_within_limits_during_a_refusal(limits: Limits) -> None:
    """It was booked at the end of the refusal, regardless of other dispatches: above the minute's limit and the day's."""
    ledger = Ledger()
    now = ledger.grid.slot(ledger.now_ms)
    spent = Demand(limits, settled={now: Cost(1, 10)})
    wants = Demand(limits, wants=((Cost(1, 10), 1),), head=True, reach_ms=2_000)
    ledger.renew("a", 1, spent)
    ledger.renew("far", 1, replace(wants, reach_ms=6_000))  # The next free place is taken too.
    ledger.renew("a", 1, Demand(limits), refusals=(QuotaSignal(MODEL, until_ms=int(ledger.now_ms) + 1_000),))
    granted = ledger.renew("b", 1, wants).allotments[MODEL]
    assert sum(cost.requests for cost in granted.bookings.values()) == 0
    assert granted.unmet != NO_COST


def test_rejection_has_the_end_of_a_refusal() -> None:
    ledger = Ledger()
    until_ms = int(ledger.now_ms) + 30_000
    limits = Limits(requests=1)
    section = ledger.state.sections.setdefault(MODEL, ModelState())
    section.circuit.open_until_ms = until_ms
    wants = Demand(limits, wants=((Cost(1), 2),), head=True, reach_ms=2_000)
    told = ledger.renew("a", 1, wants).allotments[MODEL]
    assert not told.bookings
    assert told.open_until_ms == until_ms


def test_last_request_of_a_small_limit_is_not_delayed() -> None:
    """Where little is free each renew spread it anew over the rest of the window: two callers lost a third of the limit."""
    ledger = Ledger()
    limits, now = Limits(requests=3), ledger.grid.slot(ledger.now_ms)
    gap = ledger.grid.span // 3
    ledger.state.sections[MODEL] = ModelState(paced_ms=int(ledger.now_ms) + ledger.grid.window_ms)
    ledger.renew("a", 1, Demand(limits, settled={now - gap: Cost(1), now: Cost(1)}))
    [validity] = (
        ledger.renew("a", 1, Demand(limits, wants=((Cost(1), 1),), head=True, reach_ms=60_000, waiting=True))
        .allotments[MODEL]
        .bookings
    )
    assert validity.first - now <= gap + 1


@pytest.mark.parametrize(
    "seed",
    [
        pytest.param(10_946, id="a model of which too little is known takes longer than all others (A4b)"),
        pytest.param(11_510, id="an instance is ended before its last request"),
        pytest.param(11_059, id="an instance is stopped before it reports what an answer named"),
        pytest.param(11_187, id="a grant that was under way named the right of an answered probe"),
        pytest.param(1_296, id="a process asked without knowing a limit that the ledger had learned"),
        pytest.param(1_867, id="a 429 proved an id and left the day of unproven ids"),
        pytest.param(8_476, id="Gemini's clock is slower than the caller's at a deadline"),
        pytest.param(6_203, id="an id became an alias while a grant for it was under way"),
        pytest.param(6_219, id="an instance that does not know an alias states the alias's limit"),
        pytest.param(6_939, id="the answer to an unproven alias closes its model's circuit"),
    ],
)
def test_seeds_that_failed(seed: int) -> None:
    assert [str(verdict) for verdict in judge(scenario_of(seed)).failures] == []


@pytest.mark.parametrize(
    "scenario",
    [
        scenario_of(5491),
        *(an_alias_in_demand(seed) for seed in (20, 166, 408)),
        *(spent_too_much(seed) for seed in (3, 39)),
    ],
    ids=lambda scenario: f"seed {scenario.seed}",
)
def test_seeds_that_failed_once(scenario: Scenario) -> None:
    """Permits booked for an alias were spent as its target's; a probe was sent before its pause was over."""
    assert judge(scenario).failures == []
