"""What one process may spend of a project: drawn, checked, reported and given back, without a ledger or an event loop."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from shared.accounts.account import Account
from shared.admission.config import ProcessConfig
from shared.admission.holdings import Holdings, Need, Plan, SlotLimit
from shared.admission.server_clock import Instant
from shared.generation import Cost
from shared.ledger.grid import Grid
from shared.ledger.limits import Limits
from shared.ledger.state import (
    NONE_LACKS,
    Bookings,
    Circuit,
    Metered,
    ModelGrant,
    ModelState,
    Named,
    QuotaSignal,
    RenewRequest,
    RenewResult,
    SlotRange,
    State,
)
from shared.secret import Secret

GRID = Grid.of(60)
START_MS = 1_800_000_000_000
SLOT = GRID.slot(START_MS)
ONE = Cost(1, 10)
LIMITS = Limits(requests=100, input_tokens=10_000)
NOW = SlotRange(SLOT, SLOT + 20)
LATER = SlotRange(SLOT + 40, SLOT + 60)


def at(after_s: float = 0.0, known: bool = True) -> Instant:
    now_ms = START_MS + 1000 * after_s
    return Instant(100.0 + after_s, now_ms, now_ms, known)


def holdings(**config: Any) -> Holdings:
    account = Account("p", "p", Secret("k"), 4, LIMITS)
    return Holdings(account, ProcessConfig("me", GRID, tau_s=60.0, **config))


def request(wanted: int = 2, number: int = 1, hold: int = 0) -> RenewRequest:
    return RenewRequest("me", number, START_MS, 4, 60_000, hold=hold, want_slots=wanted)


def grant(bookings: Bookings | None = None, cap: int = 2, **allotment: Any) -> RenewResult:
    booked = {NOW: Cost(3, 100)} if bookings is None else bookings
    allotments = {"m": ModelGrant(booked, LIMITS, LIMITS, **allotment)}
    return RenewResult(cap, START_MS + 10_000, False, 1, 8_000, allotments, reuse_ms=START_MS + 71_000)


def granted(bookings: Bookings | None = None, cap: int = 2, **allotment: Any) -> Holdings:
    held = holdings()
    held.permits("m")
    held.adopt(grant(bookings, cap, **allotment), request(), at(), retry_s=104.0, spare_retry_s=101.0)
    return held


def test_nothing_is_drawn_before_the_first_grant() -> None:
    assert holdings().draw("m", ONE, at()) is None


def test_a_draw_takes_permits_and_a_request_takes_a_slot() -> None:
    held = granted()
    for number in range(2):
        assert held.draw("m", ONE, at()) == ((NOW, ONE),)
        held.begin(number, "a", 100.0)
    assert held.draw("m", ONE, at()) is None, "both slots are in use"
    assert held.end(0, 1.0, 0.0, 101.0) == "a"
    assert held.end(0, 1.0, 0.0, 101.0) is None, "it had ended"
    assert held.draw("m", ONE, at()) is not None
    held.begin(2, "a", 100.0)
    held.end(1, 1.0, 0.0, 101.0)
    assert held.draw("m", ONE, at()) is None, "the permits are spent"


def test_a_cancelled_exchange_keeps_its_slot_until_its_end() -> None:
    held = granted(cap=1)
    held.begin(1, "a", 100.0)
    held.end(1, 1.0, 3.0, 100.0)
    assert held.draw("m", ONE, at(2.9)) is None
    assert held.draw("m", ONE, at(3.1)) is not None


@pytest.mark.parametrize(
    ("after_s", "known", "lawful"),
    [(0.0, True, True), (0.0, False, False), (9.9, True, False), (-0.3, True, False), (10.1, True, False)],
    ids=["now", "unknown time", "booking over", "before it", "authority over"],
)
def test_the_last_check(after_s: float, known: bool, lawful: bool) -> None:
    held = granted({SlotRange(SLOT, SLOT + 10): Cost(3, 100)})
    draw = held.draw("m", ONE, at())
    assert draw is not None
    assert held.may_write("m", draw, 0.0, at(after_s, known)) is lawful


def test_authority_ends_before_the_booking() -> None:
    held = granted({SlotRange(SLOT, SLOT + 100): Cost(3, 100)})
    draw = held.draw("m", ONE, at())
    assert draw is not None
    assert held.may_write("m", draw, 0.0, at(10.0))
    assert not held.may_write("m", draw, 0.0, at(10.001))
    assert held.draw("m", ONE, at(10.001)) is None
    assert held.out_of_permits("m", at(10.001))


def test_a_lapsed_authority_begins_a_new_epoch() -> None:
    """Permits taken before then have lost their slots."""
    held = granted()
    epoch = held.epoch
    held.adopt(grant(), request(number=2), at(5.0), 0.0, 0.0)
    assert held.epoch == epoch
    held.adopt(grant(), request(number=3), at(11.0), 0.0, 0.0)
    assert held.epoch == epoch + 1


def test_prepare_moves_the_report_into_the_renew() -> None:
    held = granted()
    draw = held.draw("m", ONE, at())
    assert draw is not None
    permits = held.permits("m")
    permits.dispatch(draw, ONE, SLOT)
    permits.debt_tokens = 7
    permits.count_not_found(1, SLOT)
    held.refuse(QuotaSignal("x", until_ms=START_MS + 1))
    made = held.prepare(Plan(request(hold=1), {"m": Need([ONE])}), START_MS)
    demand = made.demands["m"]
    assert demand.settled == {SLOT: ONE}
    assert (demand.debt_tokens, demand.not_found, demand.kept) == (7, {SLOT: 1}, {NOW: Cost(1, 45)})
    assert [refusal.model for refusal in made.refusals] == ["x"]
    assert (permits.settled, permits.not_found, permits.debt_tokens, held.refusals) == ({}, {}, 0, [])


def test_prepare_gives_up_what_the_renew_returns() -> None:
    """Between sending it and its result, the process uses only what both the old and the new grant allow."""
    held = granted(cap=2)
    held.prepare(Plan(request(hold=1), {"m": Need([ONE])}), START_MS)
    assert held.cap == 1
    assert held.permits("m").available(START_MS).requests == 1
    held.prepare(Plan(request(wanted=0), {"m": Need([])}), START_MS)
    assert (held.cap, held.models) == (0, {})


def test_a_grant_does_not_return_what_was_spent_meanwhile() -> None:
    held = granted()
    kept = replace(request(number=2), demands={"m": held.permits("m").demand([], 0, 0, START_MS)})
    draw = held.draw("m", ONE, at())
    assert draw is not None
    held.permits("m").dispatch(draw, ONE, SLOT)
    held.adopt(grant({NOW: Cost(3, 100)}), kept, at(), 0.0, 0.0)
    assert held.permits("m").available(START_MS) == Cost(2, 90)


def test_a_refusal_stops_the_model_until_the_ledger_knows_better() -> None:
    held = granted()
    held.permits("n")
    held.refuse(QuotaSignal("m", until_ms=START_MS + 5_000))
    assert held.draw("m", ONE, at()) is None
    held.adopt(grant(), request(number=2), at(), 0.0, 0.0)
    assert held.draw("m", ONE, at()) is None, "the grant was made without knowing of it"
    assert not held.permits("n").open_until_ms
    held.refuse(QuotaSignal("m", until_ms=START_MS + 5_000, kind="spend"))
    assert held.permits("n").open_until_ms, "a stop for spend is of all models"


def test_a_read_closes_and_opens_circuits() -> None:
    held = granted()
    opened = State(GRID.window_ms, sections={"m": ModelState(circuit=Circuit(open_until_ms=START_MS + 9_000))})
    held.observe(opened)
    assert held.draw("m", ONE, at()) is None
    held.observe(State(GRID.window_ms, sections={"m": ModelState()}))
    assert held.draw("m", ONE, at()) is not None


def test_a_read_limits_slots_without_touching_permits() -> None:
    held = granted()
    held.limit_slots(SlotLimit(0, scarce=True, lacking=NONE_LACKS), 100.0)
    assert (held.cap, held.scarce) == (0, True)
    assert held.permits("m").available(START_MS) == Cost(3, 100)


def test_names_merge_the_permits_of_an_alias() -> None:
    held = granted()
    draw = held.permits("alias")
    draw.correct(ONE, SLOT)
    assert held.observe(State(GRID.window_ms, names={"alias": Metered("m", START_MS)}))
    assert list(held.models) == ["m"]
    assert held.permits("alias") is held.permits("m")
    assert held.permits("m").settled == {SLOT: ONE}


ALIAS, TARGET = "alias", "target"
SMALL = Limits(requests=3, input_tokens=100)


class TestMergedAlias:
    """`target` has limits of its own; `alias` counts as a model with the default limits until an answer names its target."""

    def holdings(self, limits: Limits = LIMITS) -> Holdings:
        account = Account("p", "p", Secret("k"), 4, limits, {TARGET: SMALL})
        return Holdings(account, ProcessConfig("me", GRID, tau_s=60.0))

    def learn(self, held: Holdings) -> None:
        assert held.learn_name(Named(ALIAS, TARGET, ALIAS, SLOT, ONE), START_MS)

    def adopt(
        self, held: Holdings, made: RenewRequest, section: str, limits: Limits, bookings: Bookings, **more: Any
    ) -> None:
        allotments = {section: ModelGrant(bookings, limits, limits)}
        result = RenewResult(2, START_MS + 10_000, False, 1, 8_000, allotments, reuse_ms=START_MS + 71_000, **more)
        held.adopt(result, made, at(), retry_s=0.0, spare_retry_s=0.0)

    def renew(self, held: Holdings, *sections: str) -> RenewRequest:
        return held.prepare(Plan(request(), {section: Need([ONE]) for section in sections}), START_MS)

    def test_permits_granted_after_the_answer_are_returned(self) -> None:
        """The renew was under way when the answer named the target, so its permits were booked beside the target's."""
        held = self.holdings()
        made = self.renew(held, ALIAS)
        self.learn(held)
        self.adopt(held, made, ALIAS, LIMITS, {NOW: Cost(2, 20)})
        assert held.draw(TARGET, ONE, at()) is None
        assert self.renew(held, TARGET).demands[TARGET].kept == {}

    def test_permits_under_larger_limits_are_returned(self) -> None:
        """The renew stated only the limits of the alias: the target's are known only while an instance states them."""
        held = self.holdings()
        made = self.renew(held, ALIAS)
        names = {ALIAS: Metered(TARGET, START_MS)}
        self.adopt(held, made, TARGET, LIMITS, {NOW: Cost(1, 110)}, names=names)
        assert held.draw(TARGET, ONE, at()) is None
        again = self.renew(held, TARGET)
        assert again.demands[TARGET].limits == SMALL
        self.adopt(held, again, TARGET, SMALL, {NOW: Cost(1, 10)}, names=names)
        assert held.draw(TARGET, ONE, at()) is not None

    def test_a_redirected_renew_under_the_targets_limits_is_used(self) -> None:
        held = self.holdings()
        made = self.renew(held, ALIAS)
        self.adopt(held, made, TARGET, SMALL, {NOW: Cost(1, 10)}, names={ALIAS: Metered(TARGET, START_MS)})
        assert held.draw(TARGET, ONE, at()) == ((NOW, ONE),)

    def test_a_repeated_renew_does_not_return_the_aliass_permits(self) -> None:
        """Its first application granted them to the alias, and another instance's report merged them since."""
        held = self.holdings()
        made = self.renew(held, ALIAS)
        names = {ALIAS: Metered(TARGET, START_MS)}
        self.adopt(held, made, TARGET, SMALL, {NOW: Cost(1, 10)}, names=names, fresh=False)
        assert held.draw(TARGET, ONE, at()) is None

    def test_an_unlimited_alias_does_not_lift_the_targets_limits(self) -> None:
        """Neither a grant that was made for the alias, nor one that the ledger made without knowing the target's limits."""
        held, redirected = self.holdings(Limits()), self.holdings(Limits())
        self.adopt(held, self.renew(held, ALIAS), ALIAS, Limits(), {})
        assert held.draw(ALIAS, ONE, at()) == ()
        self.learn(held)
        assert held.draw(TARGET, ONE, at()) is None
        names = {ALIAS: Metered(TARGET, START_MS)}
        self.adopt(redirected, self.renew(redirected, ALIAS), TARGET, Limits(), {}, names=names)
        assert redirected.draw(TARGET, ONE, at()) is None

    def test_what_was_drawn_for_the_alias_is_not_the_targets(self) -> None:
        held = self.holdings()
        self.adopt(held, self.renew(held, ALIAS, TARGET), ALIAS, LIMITS, {NOW: Cost(2, 20)})
        assert held.draw(ALIAS, ONE, at()) is not None
        self.learn(held)
        assert held.permits(TARGET).bookings == {}


def test_a_view_creates_nothing() -> None:
    held = holdings()
    held.view("m").correct(ONE, SLOT)
    assert held.models == {}


def test_the_next_opening_is_that_of_a_later_booking() -> None:
    held = granted({LATER: Cost(1, 10)})
    assert held.next_opening_s(["m", "unknown"], at()) == pytest.approx((LATER.first * GRID.slot_ms - START_MS) / 1000)
    assert held.next_opening_s(["unknown"], at()) is None


class TestCircuit:
    """The states of the breaker as one process sees them."""

    def half_open(self, probe_ms: int) -> Holdings:
        return granted(open_until_ms=START_MS + 1_000, probe_ms=probe_ms)

    def test_open_lets_nothing_through(self) -> None:
        assert self.half_open(START_MS + 4_000).draw("m", ONE, at(0.5)) is None

    def test_half_open_lets_the_owner_send_one_probe(self) -> None:
        held = self.half_open(START_MS + 4_000)
        draw = held.draw("m", ONE, at(1.5))
        assert draw is not None
        assert held.draw("m", ONE, at(1.5)) is None, "one is under way"
        probe_ms = held.permits("m").probing_ms
        assert held.may_write("m", draw, probe_ms, at(1.5))
        assert not held.may_write("m", draw, 0.0, at(1.5)), "a request that is not the probe"
        assert not held.may_write("m", draw, probe_ms, at(4.0)), "the right is over"

    def test_half_open_lets_no_other_instance_through(self) -> None:
        assert self.half_open(0).draw("m", ONE, at(1.5)) is None

    def test_an_unanswered_probe_may_be_sent_again(self) -> None:
        held = self.half_open(START_MS + 4_000)
        held.draw("m", ONE, at(1.5))
        held.permits("m").end_probe(held.permits("m").probing_ms, answered=False)
        assert held.draw("m", ONE, at(1.5)) is not None
        assert not held.has_news()

    def test_an_answered_probe_is_news_for_all_instances(self) -> None:
        held = self.half_open(START_MS + 4_000)
        held.draw("m", ONE, at(1.5))
        held.permits("m").end_probe(held.permits("m").probing_ms, answered=True)
        assert held.has_news()
        made = held.prepare(Plan(request(number=2), {"m": Need([])}), START_MS)
        assert made.demands["m"].answered_ms == START_MS + 4_000
        assert not held.has_news()

    def test_an_answered_probe_ends_its_right(self) -> None:
        """A grant that was under way meanwhile still names it; the ledger may give the next one to another instance."""
        held, probe_ms = self.half_open(START_MS + 4_000), START_MS + 4_000
        held.draw("m", ONE, at(1.5))
        held.permits("m").end_probe(held.permits("m").probing_ms, answered=True)
        under_way = grant(open_until_ms=START_MS + 1_000, probe_ms=probe_ms)
        held.adopt(under_way, request(), at(1.6), retry_s=104.0, spare_retry_s=101.0)
        assert held.draw("m", ONE, at(1.6)) is None
        made = held.prepare(Plan(request(number=2), {"m": Need([ONE])}), START_MS)
        assert made.demands["m"].answered_ms == probe_ms and not made.demands["m"].probing
        held.adopt(under_way, made, at(1.7), retry_s=104.0, spare_retry_s=101.0)
        assert held.draw("m", ONE, at(1.7)) is not None, "the ledger has the answer, and leaves the right here"


class TestNewConfiguration:
    """Another configuration is read while permits are held."""

    def test_lower_limits_apply_at_once_and_what_is_held_stays(self):
        held = granted()
        held.reconfigure(replace(held.account, limits=Limits(requests=3), limits_version=1))
        assert held.permits("m").effective == Limits(requests=3, input_tokens=10_000)
        assert held.permits("m").limits == Limits(requests=3)
        assert held.draw("m", ONE, at()) is not None

    def test_higher_limits_apply_once_the_ledger_grants_them(self):
        held = granted()
        held.permits("m").retry_s = 1e9
        held.reconfigure(replace(held.account, limits=Limits(requests=500), limits_version=1))
        assert held.permits("m").effective == LIMITS
        assert held.permits("m").retry_s == 0.0

    @pytest.mark.parametrize("version", [0, 1])
    def test_limits_of_a_configuration_not_read_yet_apply(self, version: int):
        """Otherwise an instance would return all that is granted under larger limits than its own."""
        raised, held = Limits(requests=500, input_tokens=90_000), granted({})
        allotments = {"m": ModelGrant({NOW: Cost(3, 100)}, raised, raised)}
        result = replace(grant(), allotments=allotments, limits_version=version)
        held.adopt(result, request(number=2), at(), 0.0, 0.0)
        assert held.permits("m").effective == (raised if version else LIMITS)
        assert (held.draw("m", ONE, at()) is not None) is bool(version)
