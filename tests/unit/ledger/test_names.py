"""Ids that are aliases, unproven or missing: where they count, and that nothing is counted less than Gemini counts it."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest

from shared.generation import Cost
from shared.ledger.circuit import PROBE_MS
from shared.ledger.grid import Grid, pacific_day
from shared.ledger.limits import Limits
from shared.ledger.names import section_of
from shared.ledger.packing import pack, unpack
from shared.ledger.state import (
    MAX_MODELS,
    MAX_NAMES,
    NAME_KEPT_MS,
    UNPROVEN,
    Circuit,
    Demand,
    Lowered,
    Metered,
    ModelState,
    Named,
    QuotaSignal,
    RenewRequest,
    RenewResult,
    State,
)
from shared.ledger.step import renew
from tests.support.invariants import check_windows

GRID = Grid.of(60)
NOON_MS = pacific_day(1_800_000_000_000).start_ms + 12 * 3_600_000
TODAY = pacific_day(NOON_MS).ordinal
LIMITS = Limits(requests=10, requests_per_day=100)
TAU_MS = 20_000
ONE = Cost(1, 10)


class Ledger:
    """One document; every message is checked to change nothing when it is repeated, and to survive packing."""

    def __init__(self) -> None:
        self.state, self.now_ms = State(GRID.window_ms), NOON_MS
        self.numbers: dict[str, int] = {}

    def renew(self, instance: str, demands: dict[str, Demand], **more: object) -> RenewResult:
        self.numbers[instance] = self.numbers.get(instance, 0) + 1
        wanted = {"want_slots": 2, "hold": 2, "lease_ms": 10_000, **more}
        message = RenewRequest(instance, self.numbers[instance], self.now_ms, 20, TAU_MS, demands=demands, **wanted)  # type: ignore[arg-type]
        grant = renew(self.state, message, self.now_ms, GRID)
        repeated = copy.deepcopy(self.state)
        assert not renew(repeated, message, self.now_ms + 1, GRID).fresh and repeated == self.state
        assert unpack(pack(self.state)) == self.state
        return grant

    @property
    def slot(self) -> int:
        return GRID.slot(self.now_ms)

    def total(self, section: str) -> int:
        return sum(cost.requests for cost in self.state.sections[section].ring.values())


def wants(count: int = 1, **more: object) -> Demand:
    return Demand(LIMITS, wants=((ONE, count),) if count else (), head=True, waiting=count > 0, typical=ONE, **more)  # type: ignore[arg-type]


def sent(ledger: Ledger, count: int = 1, **more: object) -> Demand:
    return wants(0, settled={ledger.slot: Cost(count, 10 * count)}, **more)


@pytest.fixture
def ledger() -> Ledger:
    return Ledger()


def names(**pairs: str) -> dict[str, Metered]:
    return {name: Metered(target, 1) for name, target in pairs.items()}


@pytest.mark.parametrize(
    ("known", "sections"),
    [
        ({}, {"a": "a"}),
        ({"a": "a"}, {"a": "a"}),
        ({"a": "b"}, {"a": "b", "b": "b"}),
        ({"a": "b", "b": "c"}, {"a": "c", "b": "c", "c": "c"}),
        ({"a": "b", "b": "b"}, {"a": "b"}),
        ({"b": "a", "a": "b"}, {"a": "a", "b": "a"}),
        ({"z": "b", "b": "c", "c": "b"}, {"z": "b", "b": "b", "c": "b"}),
    ],
)
def test_section_is_the_end_of_the_chain_of_names(known, sections):
    assert {model: section_of(names(**known), model) for model in sections} == sections


class TestMerging:
    def test_counts_and_bookings_move_into_the_named_section(self, ledger):
        ledger.renew("i", {"x": sent(ledger, 3), "t": sent(ledger, 2)})
        grant = ledger.renew("j", {"x": wants(4)})
        booked = grant.allotments["x"].bookings
        assert sum(cost.requests for cost in booked.values()) == 4
        ledger.renew("i", {}, names=(Named("x", "t", "x", ledger.slot, ONE),))
        assert set(ledger.state.sections) == {"t"}
        assert ledger.total("t") == 5
        assert ledger.state.sections["t"].days == {TODAY: 5}
        assert ledger.state.leases["j"].shares["t"].bookings == booked
        check_windows(ledger.state, "t", LIMITS, GRID)
        ledger.renew("k", {"t": wants(5)})
        check_windows(ledger.state, "t", LIMITS, GRID)

    def test_merged_section_over_the_limit_grants_nothing(self, ledger):
        for model in ("x", "t"):
            ledger.renew("i", {model: sent(ledger, 8)})
        ledger.renew("i", {"t": wants(0)}, names=(Named("x", "t", "x", ledger.slot, ONE),))
        assert ledger.total("t") == 16
        bookings = ledger.renew("k", {"t": wants(3)}).allotments["t"].bookings
        assert all(validity.first >= ledger.slot + GRID.span for validity in bookings)

    def test_message_about_an_alias_is_redirected(self, ledger):
        booked = ledger.renew("j", {"x": wants(4)}).allotments["x"].bookings
        ledger.renew("i", {"t": wants(0)}, names=(Named("x", "t", "x", ledger.slot, ONE),))
        kept = {validity: cost.minus(ONE) for validity, cost in booked.items()}
        grant = ledger.renew("j", {"x": sent(ledger, 1, kept=kept), "t": wants(1)})
        assert grant.names["x"].model == "t"
        assert set(grant.allotments) == {"t"}
        assert ledger.total("t") == 1
        assert sum(cost.requests for cost in grant.allotments["t"].bookings.values()) == 4
        check_windows(ledger.state, "t", LIMITS, GRID)

    def test_refusal_under_the_old_name_shuts_the_target(self, ledger):
        ledger.renew("i", {"t": wants(0)}, names=(Named("x", "t", "x", ledger.slot, ONE),))
        refusal = QuotaSignal("x", until_ms=ledger.now_ms + 5_000, sent_ms=ledger.now_ms)
        ledger.renew("j", {}, refusals=(refusal,))
        assert ledger.state.sections["t"].circuit.open_until_ms == ledger.now_ms + 5_000
        assert "x" not in ledger.state.sections

    def test_smaller_limit_holds(self, ledger):
        small, large = LIMITS._replace(requests=3), LIMITS
        ledger.renew("i", {"x": replace(wants(1), limits=small)})
        ledger.renew("j", {"t": replace(wants(1), limits=large)})
        ledger.renew("j", {"t": wants(1)}, names=(Named("x", "t", "x", ledger.slot, ONE),))
        grant = ledger.renew("j", {"t": wants(8)})
        assert grant.allotments["t"].limits.requests == 3

    def test_what_refusals_taught_holds_for_both(self, ledger):
        stop = Circuit(open_until_ms=NOON_MS + 9_000, owner="j", model="x", probe_ms=NOON_MS + 19_000)
        ledger.state.sections["x"] = ModelState(circuit=stop, lowered={0: Lowered(4, test_ms=NOON_MS + 600_000)})
        ledger.renew("i", {"t": sent(ledger)}, names=(Named("x", "t", "x", ledger.slot, ONE),))
        section = ledger.state.sections["t"]
        assert (section.circuit.open_until_ms, section.lowered[0].limit) == (NOON_MS + 9_000, 4)
        assert section.circuit.model != "x"

    @pytest.mark.parametrize("section", [UNPROVEN, "x"])
    def test_served_alias_closes_its_targets_circuit(self, ledger, section):
        """It was dispatched when the target could be probed, and Gemini served it."""
        open_until_ms = GRID.start_ms(ledger.slot)
        ledger.state.sections["t"] = ModelState(
            circuit=Circuit(open_until_ms=open_until_ms, refused_ms=NOON_MS - 9_000)
        )
        ledger.renew("i", {section: sent(ledger)}, names=(Named("x", "t", section, ledger.slot, ONE, served=True),))
        assert ledger.state.sections["t"].circuit == Circuit()

    @pytest.mark.parametrize(
        ("open_ms", "refused_ms", "served"), [(0, -9_000, False), (500, -9_000, True), (-9_000, 500, True)]
    )
    def test_other_answers_leave_the_targets_circuit(self, ledger, open_ms, refused_ms, served):
        """A 429 names its model too; a request from before the end of the pause, or the last refusal, is no probe."""
        stop = Circuit(open_until_ms=NOON_MS + open_ms, refused_ms=NOON_MS + refused_ms)
        ledger.state.sections["t"] = ModelState(circuit=replace(stop))
        ledger.renew("i", {"x": sent(ledger)}, names=(Named("x", "t", "x", ledger.slot, ONE, served=served),))
        assert ledger.state.sections["t"].circuit == stop

    def test_alias_that_is_pointed_elsewhere_counts_in_both(self, ledger):
        ledger.renew("i", {"t": sent(ledger)}, names=(Named("x", "t", "x", ledger.slot, ONE),))
        ledger.renew("i", {"t": sent(ledger)}, names=(Named("x", "v", "t", ledger.slot, ONE),))
        assert (ledger.total("t"), ledger.total("v")) == (2, 1)
        assert section_of(ledger.state.names, "x") == "v"

    def test_id_that_names_itself_again_leaves_its_target(self, ledger):
        ledger.renew("i", {"t": sent(ledger)}, names=(Named("x", "t", "x", ledger.slot, ONE),))
        ledger.renew("i", {"t": sent(ledger)}, names=(Named("x", "x", "t", ledger.slot, ONE),))
        assert section_of(ledger.state.names, "x") == "x"
        assert ledger.total("x") == 1


class TestProving:
    def test_first_answer_moves_the_request_to_its_model(self, ledger):
        ledger.renew("i", {UNPROVEN: sent(ledger)}, names=(Named("x", "x", UNPROVEN, ledger.slot, ONE),))
        assert (ledger.total("x"), ledger.total(UNPROVEN)) == (1, 1)
        assert ledger.state.sections["x"].days == {TODAY: 1}
        assert ledger.state.sections[UNPROVEN].days == {}

    def test_404_leaves_the_minute_and_no_day(self, ledger):
        ledger.renew("i", {UNPROVEN: sent(ledger, 1, not_found={ledger.slot: 1})})
        assert ledger.total(UNPROVEN) == 1
        assert ledger.state.sections[UNPROVEN].days == {}
        ledger.now_ms += 2 * GRID.window_ms
        ledger.renew("i", {}, want_slots=0, hold=0)
        assert ledger.state.sections == {}

    def test_404_that_is_reported_later_is_taken_back_from_the_day(self, ledger):
        at = ledger.slot
        ledger.renew("i", {UNPROVEN: sent(ledger, 1)})
        ledger.now_ms += 3_000
        ledger.renew("i", {UNPROVEN: wants(0, not_found={at: 1})})
        assert ledger.state.sections[UNPROVEN].days == {}

    def test_missing_id_is_unproven_again(self, ledger):
        ledger.renew("i", {}, names=(Named("x", "x", UNPROVEN, ledger.slot, ONE),))
        assert "x" in ledger.renew("j", {}, names=()).names
        assert "x" not in ledger.renew("i", {}, names=(Named("x", None),)).names

    def test_without_room_an_id_stays_unproven(self, ledger):
        for at in range(MAX_MODELS):
            ledger.renew("i", {f"m{at}": sent(ledger)})
        grant = ledger.renew("i", {UNPROVEN: sent(ledger)}, names=(Named("x", "x", UNPROVEN, ledger.slot, ONE),))
        assert "x" not in grant.names
        assert "x" not in ledger.state.sections
        assert ledger.state.sections[UNPROVEN].days == {TODAY: 1}, "it counts where it was booked"

    def test_unproven_ids_need_no_room(self, ledger):
        for at in range(MAX_MODELS):
            ledger.renew("i", {f"m{at}": sent(ledger)})
        assert ledger.renew("j", {UNPROVEN: wants()}).allotments[UNPROVEN].probe_ms
        assert "m-new" not in ledger.renew("j", {"m-new": wants()}).allotments

    def test_an_alias_of_a_counted_model_needs_no_room(self, ledger):
        for at in range(MAX_MODELS):
            ledger.renew("i", {f"m{at}": sent(ledger)})
        ledger.renew("i", {UNPROVEN: sent(ledger)}, names=(Named("x", "m0", UNPROVEN, ledger.slot, ONE),))
        assert ledger.total("m0") == 2

    def test_names_are_bounded_and_the_oldest_goes_first(self, ledger):
        for at in range(MAX_NAMES + 5):
            ledger.now_ms += 1
            ledger.renew("i", {"m": wants(0)}, names=(Named(f"x{at}", "m", "m", ledger.slot, ONE),))
        assert len(ledger.state.names) == MAX_NAMES
        assert "x4" not in ledger.state.names and "x5" in ledger.state.names

    def test_name_that_nothing_confirms_is_forgotten(self, ledger):
        ledger.renew("i", {"m": wants(0)}, names=(Named("x", "m", "m", ledger.slot, ONE),))
        ledger.now_ms += NAME_KEPT_MS
        assert "x" in ledger.renew("j", {}).names
        ledger.now_ms += 1
        assert "x" not in ledger.renew("j", {}).names


class TestTurns:
    """One request of an unproven id is open in a project at a time."""

    def test_only_one_instance_has_the_turn(self, ledger):
        first = ledger.renew("i", {UNPROVEN: wants(3)}).allotments[UNPROVEN]
        second = ledger.renew("j", {UNPROVEN: wants(3)}).allotments[UNPROVEN]
        assert first.probe_ms == ledger.now_ms + PROBE_MS
        assert sum(cost.requests for cost in first.bookings.values()) == 1
        assert (second.probe_ms, second.bookings) == (0, {})

    def test_turn_lasts_as_long_as_the_request(self, ledger):
        grant = ledger.renew("i", {UNPROVEN: wants(1)})
        at = ledger.slot
        for _ in range(4):
            ledger.now_ms += 8_000
            ledger.renew("i", {UNPROVEN: wants(0, probing=True)})
            assert not ledger.renew("j", {UNPROVEN: wants(1)}).allotments[UNPROVEN].probe_ms
        done = wants(0, settled={at: ONE}, answered_ms=grant.allotments[UNPROVEN].probe_ms)
        ledger.renew("i", {UNPROVEN: done})
        assert ledger.renew("j", {UNPROVEN: wants(1)}).allotments[UNPROVEN].probe_ms

    def test_turn_of_a_dead_instance_ends_with_its_slots(self, ledger):
        """Its request has ended at Gemini by then, and not before."""
        ledger.renew("i", {UNPROVEN: wants(1)})
        ends_ms = ledger.state.leases["i"].reuse_ms
        ledger.now_ms = ends_ms
        assert not ledger.renew("j", {UNPROVEN: wants(1)}).allotments[UNPROVEN].probe_ms
        ledger.now_ms = ends_ms + 1
        assert ledger.renew("j", {UNPROVEN: wants(1)}).allotments[UNPROVEN].probe_ms
        assert not ledger.renew("i", {UNPROVEN: wants(1)}).allotments[UNPROVEN].probe_ms

    def test_turn_of_an_ended_process_is_free_at_once(self, ledger):
        ledger.renew("i", {UNPROVEN: wants(1)})
        grant = ledger.renew("j", {UNPROVEN: wants(1)}, gone=frozenset(["i"]))
        assert grant.allotments[UNPROVEN].probe_ms

    def test_instance_with_nothing_to_send_gives_its_turn_up(self, ledger):
        ledger.renew("i", {UNPROVEN: wants(1)})
        ledger.renew("i", {UNPROVEN: wants(0)})
        assert ledger.renew("j", {UNPROVEN: wants(1)}).allotments[UNPROVEN].probe_ms

    def test_after_its_turn_an_instance_lets_others_go_first(self, ledger):
        turn_ms = ledger.renew("i", {UNPROVEN: wants(5)}).allotments[UNPROVEN].probe_ms
        ledger.renew("j", {UNPROVEN: wants(5)})
        again = ledger.renew("i", {UNPROVEN: wants(4, answered_ms=turn_ms)}).allotments[UNPROVEN]
        assert again.probe_ms == 0
        assert ledger.renew("j", {UNPROVEN: wants(5)}).allotments[UNPROVEN].probe_ms

    def test_alone_an_instance_goes_on_with_one_message(self, ledger):
        turn_ms = ledger.renew("i", {UNPROVEN: wants(5)}).allotments[UNPROVEN].probe_ms
        ledger.now_ms += 100
        assert ledger.renew("i", {UNPROVEN: wants(4, answered_ms=turn_ms)}).allotments[UNPROVEN].probe_ms > turn_ms

    def test_right_to_begin_is_renewed_while_nothing_is_under_way(self, ledger):
        turn_ms = ledger.renew("i", {UNPROVEN: wants(1)}).allotments[UNPROVEN].probe_ms
        ledger.now_ms = turn_ms
        assert ledger.renew("i", {UNPROVEN: wants(1)}).allotments[UNPROVEN].probe_ms == turn_ms + PROBE_MS

    def test_a_full_limit_takes_no_turn_away(self, ledger):
        """Until it hears, its holder may use what it holds."""
        ledger.renew("i", {UNPROVEN: sent(ledger, 10)})
        grant = ledger.renew("i", {UNPROVEN: replace(wants(1), reach_ms=1_000)}).allotments[UNPROVEN]
        assert grant.probe_ms
        assert not ledger.renew("j", {UNPROVEN: wants(1)}).allotments[UNPROVEN].probe_ms
        assert all(validity.first >= ledger.slot + GRID.span for validity in grant.bookings)

    def test_limits_of_unproven_ids_hold_together(self, ledger):
        granted = 0
        for _ in range(30):
            allotment = ledger.renew("i", {UNPROVEN: wants(1)}).allotments[UNPROVEN]
            granted += any(validity.first <= ledger.slot for validity in allotment.bookings)
            ledger.renew("i", {UNPROVEN: sent(ledger, 1, answered_ms=allotment.probe_ms)})
            check_windows(ledger.state, UNPROVEN, Limits(requests=30), GRID)
        assert granted <= 10


def test_validity_of_the_report_decides_the_days(ledger):
    """Right at midnight a request counts in both days, in its new section too."""
    ledger.now_ms = pacific_day(NOON_MS).end_ms - 100
    ledger.renew("i", {UNPROVEN: sent(ledger)}, names=(Named("x", "x", UNPROVEN, ledger.slot, ONE),))
    assert ledger.state.sections["x"].days == {TODAY: 1, TODAY + 1: 1}
    assert ledger.state.sections[UNPROVEN].days == {}
