"""Circuits: what opens them, for how long, who sends the probe, and what closes them. Every state is packed and read again."""

from __future__ import annotations

import pytest

from shared.generation import Cost
from shared.ledger.circuit import PROBE_MS, first_pause_ms, is_full, phase
from shared.ledger.grid import Grid, pacific_day
from shared.ledger.limits import UNLIMITED, Limits
from shared.ledger.packing import pack, unpack
from shared.ledger.state import (
    AS_USUAL,
    Demand,
    Exhaustion,
    Kind,
    ModelGrant,
    QuotaSignal,
    RenewRequest,
    RenewResult,
    State,
)
from shared.ledger.step import renew

GRID = Grid.of(60)
WINDOW_MS = GRID.window_ms
MINUTE_MS = 60_000
DAY = pacific_day(1_800_000_000_000)
NOON_MS = (DAY.start_ms + DAY.end_ms) // 2
TEN = Limits(requests=10)
WORDS = "You exceeded your current quota."


class Ledger:
    """A state, a clock, and instances that renew."""

    def __init__(self, limits: Limits = TEN, grid: Grid = GRID) -> None:
        self.grid, self.limits, self.now_ms, self.state = grid, limits, NOON_MS, State(grid.window_ms)
        self.numbers: dict[str, int] = {}

    def renew(
        self,
        who: str,
        demands: dict[str, Demand],
        refusals: tuple[QuotaSignal, ...] = (),
        exhaustion: Exhaustion = AS_USUAL,
    ) -> RenewResult:
        self.numbers[who] = self.numbers.get(who, 0) + 1
        want = sum(count for demand in demands.values() for _, count in demand.wants)
        message = RenewRequest(
            who, self.numbers[who], self.now_ms, 50, 120_000, lease_ms=10_000, want_slots=want, demands=demands,
            refusals=refusals, exhaustion=exhaustion,
        )  # fmt: skip
        grant = renew(self.state, message, self.now_ms, self.grid)
        assert unpack(pack(self.state)) == self.state
        return grant

    def ask(self, who: str = "a", count: int = 1, cost: Cost = Cost(1), model: str = "m", **more: object) -> ModelGrant:
        """`count` requests wait at `who`, which holds nothing."""
        told = {name: more.pop(name) for name in ("refusals", "exhaustion") if name in more}
        demand = Demand(self.limits, wants=((cost, count),), head=True, reach_ms=90_000, waiting=True, **more)
        return self.renew(who, {model: demand}, **told).allotments[model]  # type: ignore[arg-type]

    def send(self, count: int, cost: Cost = Cost(1), who: str = "a", model: str = "m") -> None:
        """So many are dispatched now."""
        settled = {self.grid.slot(self.now_ms): Cost(*(count * amount for amount in cost))}
        self.renew(who, {model: Demand(self.limits, settled=settled)})

    def refuse(self, kind: Kind = "rate", who: str = "a", model: str = "m", **fields: object) -> ModelGrant:
        """A request that `who` dispatched just now is refused, and waits to be sent again."""
        rule = fields.pop("exhaustion", AS_USUAL)
        until_ms = self.now_ms + int(first_pause_ms(kind, self.grid.window_ms, rule))  # type: ignore[arg-type]
        given = {"until_ms": until_ms, "sent_ms": self.now_ms, "guessed": kind != "day", "message": WORDS, **fields}
        signal = QuotaSignal(model, kind=kind, **given)  # type: ignore[arg-type]
        return self.ask(who, model=model, refusals=(signal,), exhaustion=rule)

    def answered(self, right: ModelGrant, who: str = "a", model: str = "m") -> ModelGrant:
        return self.ask(who, model=model, answered_ms=right.probe_ms)

    def passes(self, windows: float) -> None:
        self.now_ms += int(windows * self.grid.window_ms)

    @property
    def circuit(self):
        return self.state.sections["m"].circuit

    @property
    def lowered(self):
        return self.state.sections["m"].lowered


def requests(allotment: ModelGrant) -> int:
    return sum(cost.requests for cost in allotment.bookings.values())


def at_once(ledger: Ledger, allotment: ModelGrant) -> int:
    soon = ledger.grid.slot(ledger.now_ms) + 4
    return sum(cost.requests for validity, cost in allotment.bookings.items() if validity.first <= soon)


class TestPauses:
    """By kind, in windows: how long Gemini is left alone, and then after each refused probe."""

    @pytest.mark.parametrize(
        ("kind", "pauses"), [("rate", [1, 1, 15, 15]), ("zero", [15, 15, 15]), ("spend", [1, 2, 4, 8, 10, 10])]
    )
    @pytest.mark.parametrize("window_s", [60, 6])
    def test_each_refused_probe_opens_the_next_pause(self, kind: Kind, pauses: list[int], window_s: int) -> None:
        ledger = Ledger(UNLIMITED, Grid.of(window_s))
        for windows in pauses:
            right = ledger.refuse(kind)
            assert right.open_until_ms == ledger.now_ms + windows * ledger.grid.window_ms
            ledger.now_ms = right.open_until_ms + 300
            assert ledger.ask().probe_ms == ledger.now_ms + PROBE_MS or right.probe_ms > ledger.now_ms

    def test_a_late_report_does_not_shorten_the_pauses_after_it(self) -> None:
        """The next pause is twice the first one, not twice what was left of it when the ledger heard of it."""
        ledger = Ledger(UNLIMITED)
        until_ms = ledger.now_ms + WINDOW_MS
        ledger.now_ms += 500
        right = ledger.refuse("spend", until_ms=until_ms, sent_ms=NOON_MS)
        assert right.open_until_ms == until_ms
        ledger.now_ms = until_ms + 300
        assert ledger.refuse("spend").open_until_ms == ledger.now_ms + 2 * WINDOW_MS

    def test_a_delay_that_gemini_names_is_the_pause_for_spend(self) -> None:
        ledger = Ledger()
        assert ledger.refuse("spend", until_ms=NOON_MS + 5_000, guessed=False).open_until_ms == NOON_MS + 5_000

    def test_answer_resets_the_pause(self) -> None:
        ledger = Ledger(UNLIMITED)
        for _ in range(3):
            right = ledger.refuse("spend")
            ledger.now_ms = right.open_until_ms + 300
        ledger.answered(ledger.ask())
        assert ledger.refuse("spend").open_until_ms == ledger.now_ms + WINDOW_MS

    @pytest.mark.parametrize("kind", ["zero", "spend"])
    def test_other_kinds_are_not_counted_in_a_row(self, kind: Kind) -> None:
        ledger = Ledger(UNLIMITED)
        for _ in range(4):
            ledger.now_ms = ledger.refuse(kind).open_until_ms + 300
        assert ledger.state.spend.rejections == ledger.circuit.rejections == 0

    def test_requests_refused_together_open_one_pause(self) -> None:
        """Those under way when the circuit opened are no probes."""
        ledger = Ledger()
        ledger.refuse("spend")
        ledger.now_ms += 500
        assert ledger.refuse("spend", who="b", sent_ms=NOON_MS - 1).open_until_ms == ledger.now_ms + WINDOW_MS


class TestExhaustion:
    """Rejections in a row for a quota per minute: at first short pauses, then one probe every 15 minutes."""

    RULE = Exhaustion(wait=0.5, rejections=2, full_wait=20.0)

    def rejected(self, ledger: Ledger, times: int, **fields: object) -> ModelGrant:
        """The last one's grant; each but the first is that of a probe."""
        for _ in range(times - 1):
            ledger.now_ms = ledger.refuse(exhaustion=self.RULE, **fields).open_until_ms + 300
            assert ledger.ask().probe_ms > 0
        return ledger.refuse(exhaustion=self.RULE, **fields)

    def test_without_a_delay_the_configured_wait_applies(self) -> None:
        ledger = Ledger(UNLIMITED)
        assert self.rejected(ledger, 1).open_until_ms == NOON_MS + 30_000

    def test_rejections_in_a_row_exhaust_the_model(self) -> None:
        ledger = Ledger(UNLIMITED)
        assert self.rejected(ledger, 2).open_until_ms == ledger.now_ms + 15 * MINUTE_MS
        assert ledger.circuit.since_ms == ledger.now_ms
        assert is_full(ledger.circuit, self.RULE)

    def test_an_answered_probe_ends_the_row(self) -> None:
        ledger = Ledger(UNLIMITED)
        ledger.now_ms = self.rejected(ledger, 1).open_until_ms + 300
        ledger.answered(ledger.ask())
        assert self.rejected(ledger, 1).open_until_ms == ledger.now_ms + 30_000

    def test_requests_rejected_together_count_once(self) -> None:
        ledger = Ledger(UNLIMITED)
        self.rejected(ledger, 1)
        for who in "bcd":
            ledger.refuse(who=who, sent_ms=NOON_MS - 1, exhaustion=self.RULE)
        assert ledger.circuit.rejections == 1

    def test_a_late_rejection_does_not_shorten_the_pause(self) -> None:
        ledger = Ledger(UNLIMITED)
        until_ms = self.rejected(ledger, 2).open_until_ms
        assert ledger.refuse(who="b", sent_ms=NOON_MS - 1, exhaustion=self.RULE).open_until_ms == until_ms

    def test_the_row_begins_anew_after_its_longest_time(self) -> None:
        """The second pause is the 5 minutes that are left of the 20."""
        ledger = Ledger(UNLIMITED)
        self.rejected(ledger, 2)
        full_ms = ledger.now_ms
        ledger.now_ms += 15 * MINUTE_MS
        assert ledger.ask().probe_ms > 0
        assert self.rejected(ledger, 1).open_until_ms == full_ms + 20 * MINUTE_MS
        ledger.now_ms = full_ms + 20 * MINUTE_MS + 300
        assert ledger.ask().probe_ms > 0
        assert self.rejected(ledger, 1).open_until_ms == ledger.now_ms + 30_000
        assert ledger.circuit.rejections == 1

    def test_a_delay_of_geminis_counts_in_the_row_too(self) -> None:
        ledger = Ledger(UNLIMITED)
        right = ledger.refuse(until_ms=NOON_MS + 14_000, guessed=False, exhaustion=self.RULE)
        assert right.open_until_ms == NOON_MS + 14_000
        ledger.now_ms += 14_300
        assert ledger.ask().probe_ms > 0
        right = ledger.refuse(until_ms=ledger.now_ms + 14_000, guessed=False, exhaustion=self.RULE)
        assert right.open_until_ms == ledger.now_ms + 15 * MINUTE_MS

    def test_a_rejection_without_a_quota_never_counts(self) -> None:
        ledger = Ledger(UNLIMITED)
        for _ in range(9):
            ledger.ask(refusals=(QuotaSignal("m", pressure=True, sent_ms=ledger.now_ms),))
        assert (ledger.circuit.rejections, ledger.circuit.open_until_ms) == (0, 0)


class TestKinds:
    def test_reason_and_sentence_reach_every_instance(self) -> None:
        ledger = Ledger()
        ledger.refuse("zero")
        stop = ledger.ask("b").stop
        assert stop == ("zero", WORDS, NOON_MS + 15 * MINUTE_MS)
        ledger.now_ms = stop.until_ms + 1
        right = ledger.ask("b")
        assert right.stop == stop
        assert ledger.answered(right, "b").stop is None
        assert ledger.ask("c").stop is None

    def test_a_repeated_renew_returns_the_reason_again(self) -> None:
        ledger = Ledger()
        first = ledger.refuse("zero")
        ledger.numbers["a"] -= 1
        assert ledger.ask("a").stop == first.stop

    @pytest.mark.parametrize(("strong", "weak"), [("zero", "rate"), ("zero", "day"), ("day", "rate")])
    def test_a_weaker_refusal_does_not_change_an_open_circuit(self, strong: Kind, weak: Kind) -> None:
        ledger = Ledger()
        before = ledger.refuse(strong).stop
        after = ledger.refuse(weak, who="b", until_ms=DAY.end_ms, message="Other words.").stop
        assert before == after

    def test_a_zero_replaces_a_day_until_midnight(self) -> None:
        ledger = Ledger()
        ledger.refuse("day", until_ms=DAY.end_ms)
        assert ledger.refuse("zero", who="b").stop == ("zero", WORDS, NOON_MS + 15 * MINUTE_MS)

    def test_a_zero_teaches_no_limit_and_no_outside_consumer(self) -> None:
        ledger = Ledger()
        ledger.refuse("zero")
        assert (ledger.lowered, ledger.state.sections["m"].outside) == ({}, {})


class TestSpend:
    def test_every_model_stops_and_one_probe_opens_all(self) -> None:
        ledger = Ledger()
        ledger.refuse("spend", model="m")
        other = ledger.ask("b", model="n")
        assert (requests(other), other.stop) == (0, ("spend", WORDS, NOON_MS + MINUTE_MS))
        ledger.passes(1.01)
        right = ledger.ask("b", model="n")
        assert right.probe_ms > 0
        assert ledger.ask("a", model="m").probe_ms == 0
        ledger.answered(right, "b", "n")
        assert ledger.ask("a", model="m").stop is None
        assert ledger.ask("c", model="o").stop is None

    def test_one_instance_with_two_models_sends_one_probe(self) -> None:
        ledger = Ledger()
        ledger.refuse("spend", model="m")
        ledger.passes(1.01)
        demand = Demand(TEN, wants=((Cost(1), 1),), head=True, reach_ms=90_000, waiting=True)
        grant = ledger.renew("a", {"m": demand, "n": demand})
        rights = [allotment.probe_ms > 0 for allotment in grant.allotments.values()]
        assert sorted(rights) == [False, True]
        assert sum(map(requests, grant.allotments.values())) == 1

    def test_a_models_own_circuit_and_the_projects_take_one_probe(self) -> None:
        ledger = Ledger()
        ledger.refuse("zero", model="m")
        ledger.refuse("spend", model="n", who="b")
        ledger.passes(15.01)
        right = ledger.ask("a", model="m")
        assert right.probe_ms > 0
        assert ledger.ask("b", model="n").probe_ms == 0
        ledger.answered(right)
        assert ledger.ask("b", model="n").stop is None
        assert ledger.ask("a", model="m").stop is None

    def test_an_answer_to_an_older_request_does_not_end_it(self) -> None:
        """The probe of another circuit was under way when the project was stopped."""
        ledger = Ledger()
        right = ledger.refuse("rate", model="m", until_ms=NOON_MS + 1_000, guessed=False)
        ledger.now_ms += 2_000
        ledger.refuse("spend", model="n", who="b", until_ms=ledger.now_ms + 1, guessed=False)
        ledger.answered(right)
        assert phase(ledger.state.spend, ledger.now_ms) == "open"


class TestLowerLimits:
    def learned(self, limits: Limits = TEN, **named: int) -> Ledger:
        """A ledger that has learned limits, in a window in which nothing was dispatched."""
        ledger = Ledger(limits)
        given = named or {"requests": 4}
        ledger.refuse(learned=Limits(**given), until_ms=NOON_MS + 1, guessed=False)
        ledger.now_ms += 300
        ledger.answered(ledger.ask())
        ledger.renew("a", {"m": Demand(limits)})
        return ledger

    def saturate(self, ledger: Ledger, seconds: float) -> int:
        """One instance dispatches all that it may for so long; the most that were in any window."""
        end_ms, sent = ledger.now_ms + int(1000 * seconds), []
        while ledger.now_ms < end_ms:
            allotment = ledger.ask("a", 12)
            now = ledger.grid.slot(ledger.now_ms)
            count = sum(cost.requests for v, cost in allotment.bookings.items() if v.first <= now)
            if count:
                ledger.send(count)
                sent += [ledger.now_ms] * count
            ledger.now_ms += 250
        return max((sum(1 for t in sent if t0 - WINDOW_MS < t <= t0) for t0 in sent), default=0)

    def test_after_ten_windows_one_request_more_is_sent(self) -> None:
        ledger = self.learned()
        assert self.saturate(ledger, 595) == 4
        assert self.saturate(ledger, 65) == 5

    def test_a_refused_test_doubles_the_pause_up_to_a_day(self) -> None:
        ledger, pauses = self.learned(), []
        for _ in range(9):
            ledger.now_ms = ledger.lowered[0].test_ms + 1
            ledger.refuse(learned=Limits(requests=4), until_ms=ledger.now_ms + 1, guessed=False, minute=(0,))
            pauses.append(ledger.lowered[0].pause_ms // WINDOW_MS)
        assert pauses == [20, 40, 80, 160, 320, 640, 1280, 1440, 1440]
        assert ledger.lowered[0].test_ms == ledger.now_ms + 1440 * WINDOW_MS

    def test_a_refused_test_without_a_named_limit_doubles_it_too(self) -> None:
        ledger = self.learned()
        ledger.passes(11)
        ledger.refuse(until_ms=ledger.now_ms + 1, guessed=False, minute=(0,))
        assert (ledger.lowered[0].limit, ledger.lowered[0].pause_ms) == (4, 20 * WINDOW_MS)

    def test_requests_of_one_refused_test_double_the_pause_once(self) -> None:
        ledger = self.learned()
        ledger.passes(11)
        sent_ms = ledger.now_ms
        for who in ("a", "b", "c"):
            ledger.refuse(who=who, sent_ms=sent_ms, learned=Limits(requests=4), minute=(0,))
            ledger.now_ms += 100
        assert ledger.lowered[0].pause_ms == 20 * WINDOW_MS

    def test_after_a_passed_test_it_rises_by_a_tenth_a_window(self) -> None:
        ledger = self.learned(Limits(requests=100), requests=40)
        ledger.passes(10)
        ledger.send(41)
        ledger.passes(GRID.span * GRID.slot_ms / WINDOW_MS)
        limits = [ledger.ask().limits.requests]
        for _ in range(5):
            ledger.passes(1)
            limits.append(ledger.ask().limits.requests)
        assert limits == [51, 61, 71, 81, 91, 100]
        assert not ledger.lowered

    def test_a_refusal_while_it_rises_sets_it_back(self) -> None:
        ledger = self.learned(Limits(requests=100), requests=40)
        ledger.passes(10)
        ledger.send(41)
        ledger.passes(3)
        assert ledger.ask().limits.requests == 51
        ledger.refuse(learned=Limits(requests=40), until_ms=ledger.now_ms + 1, minute=(0,))
        assert (ledger.lowered[0].limit, ledger.lowered[0].pause_ms) == (40, 20 * WINDOW_MS)

    def test_a_higher_named_limit_begins_with_the_first_pause(self) -> None:
        ledger = self.learned(Limits(requests=100), requests=40)
        ledger.passes(10)
        ledger.refuse(learned=Limits(requests=60), until_ms=ledger.now_ms + 1, minute=(0,))
        assert (ledger.lowered[0].limit, ledger.lowered[0].pause_ms) == (60, 10 * WINDOW_MS)

    @pytest.mark.parametrize("named", [10, 11])
    def test_a_named_limit_that_is_not_lower_is_none(self, named: int) -> None:
        assert self.learned(requests=named).lowered == {}

    def test_a_test_never_exceeds_what_is_configured(self) -> None:
        """A request is larger than what lies between the two limits."""
        ledger = self.learned(Limits(input_tokens=1_000), input_tokens=900)
        ledger.passes(11)
        ledger.send(1, Cost(1, 800))
        assert at_once(ledger, ledger.ask(cost=Cost(1, 300))) == 0
        assert at_once(ledger, ledger.ask(cost=Cost(1, 200))) == 1

    def test_a_request_larger_than_it_is_its_own_test(self) -> None:
        ledger = self.learned(Limits(input_tokens=1_000), input_tokens=500)
        test_ms = ledger.lowered[1].test_ms
        refused = ledger.ask(cost=Cost(1, 800))
        assert (requests(refused), refused.lower) == (0, ("lower", WORDS, test_ms))
        ledger.now_ms = test_ms
        assert at_once(ledger, ledger.ask(cost=Cost(1, 800))) == 1
        ledger.send(1, Cost(1, 800))
        ledger.passes(1.1)
        ledger.ask()
        ledger.passes(1)
        assert at_once(ledger, ledger.ask(cost=Cost(1, 800))) == 1, "what was served fits from then on"

    def test_a_lower_limit_of_an_unlimited_model_is_forgotten(self) -> None:
        ledger = self.learned(UNLIMITED, requests=40)
        assert ledger.ask().limits.requests == 40
        ledger.passes(10)
        ledger.send(41)
        ledger.passes(2)
        assert ledger.ask().limits.requests == 46
        ledger.passes(9)
        assert ledger.ask().limits == UNLIMITED

    def test_a_lower_daily_limit_is_tested_by_one_request_more(self) -> None:
        ledger = self.learned(Limits(requests_per_day=1_000), requests_per_day=50)
        ledger.send(50)
        spent = ledger.ask()
        assert (requests(spent), spent.day_spent) == (0, True)
        assert spent.lower == ("lower", WORDS, ledger.lowered[3].test_ms)
        ledger.now_ms = ledger.lowered[3].test_ms
        assert requests(ledger.ask("a", 5)) == 1

    def test_without_demand_it_is_kept_and_not_raised(self) -> None:
        ledger = self.learned()
        ledger.passes(500)
        assert ledger.ask().limits.requests == 4

    def test_the_configured_limits_are_returned_beside_it(self) -> None:
        allotment = self.learned().ask()
        assert (allotment.limits.requests, allotment.configured.requests) == (4, 10)
