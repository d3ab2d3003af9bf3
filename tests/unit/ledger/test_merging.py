"""Two documents of one Google project become one: what counted in either counts in the survivor."""

from __future__ import annotations

import pytest

from shared.generation import Cost
from shared.ledger.grid import Grid, pacific_day
from shared.ledger.inspection import report
from shared.ledger.limits import UNLIMITED, Limits
from shared.ledger.merging import instance_of, lease_name, merge
from shared.ledger.packing import CLOSED, pack, unpack
from shared.ledger.slots import held_by_others
from shared.ledger.state import (
    Bookings,
    Circuit,
    Demand,
    ExternalUsage,
    Lowered,
    Metered,
    ModelState,
    RenewRequest,
    RenewResult,
    State,
)
from shared.ledger.step import renew

GRID = Grid.of(60)
NOON_MS = pacific_day(1_800_000_000_000).start_ms + 12 * 3_600_000
NOW = GRID.slot(NOON_MS)
LIMITS = Limits(requests=10)


def message(who: str, number: int, wants: int = 0, kept: Bookings | None = None, **more: object) -> RenewRequest:
    runs = ((Cost(1), wants),) if wants else ()
    demand = Demand(LIMITS, wants=runs, kept=kept or {}, head=True, reach_ms=60_000)
    given: dict[str, object] = {"want_slots": max(1, wants), "demands": {"m": demand}, **more}
    return RenewRequest(who, number, NOON_MS, 8, 60_000, **given)  # type: ignore[arg-type]


def asked(state: State, *given: object, **more: object) -> RenewResult:
    return renew(state, message(*given, **more), NOON_MS, GRID)  # type: ignore[arg-type]


def two() -> tuple[State, State]:
    """The survivor and the other one, each with half of the limits and slots in use by the same instance."""
    states = State(GRID.window_ms), State(GRID.window_ms)
    for state in states:
        asked(state, "i", 1, 4)
    return states


def merged() -> tuple[State, State]:
    kept, gone = two()
    closed = merge(kept, gone, "b", "a")
    return kept, closed


def booked(state: State) -> int:
    return sum(
        cost.requests
        for lease in state.leases.values()
        for share in lease.shares.values()
        for cost in share.bookings.values()
    )


class TestSurvivor:
    def test_bookings_and_slots_of_both_count(self):
        kept, _ = merged()
        assert set(kept.leases) == {"i", "i@b"}
        assert (booked(kept), held_by_others(kept, "")) == (8, 8)
        grant = asked(kept, "other", 1, 6)
        assert (grant.cap, grant.free_slots) == (0, 0)

    def test_nothing_is_granted_beyond_the_limit_of_one_project(self):
        kept, gone = two()
        for state in (kept, gone):
            state.sections["m"].ring[NOW] = Cost(5)
        merge(kept, gone, "b", "a")
        kept.leases["i"].slots = kept.leases["i@b"].slots = 1
        assert asked(kept, "other", 1, 6).allotments["m"].bookings == {}

    def test_rings_days_and_debts_are_added(self):
        kept, gone = two()
        for state, count in ((kept, 2), (gone, 3)):
            state.sections["m"] = ModelState({NOW: Cost(count, 10 * count)}, {7: count}, debt_tokens=count)
        gone.sections["n"] = ModelState({NOW: Cost(1)})
        merge(kept, gone, "b", "a")
        section = kept.sections["m"]
        assert (section.ring, section.days, section.debt_tokens) == ({NOW: Cost(5, 50)}, {7: 5}, 5)
        assert kept.sections["n"].ring == {NOW: Cost(1)}

    def test_what_rejections_taught_is_kept_at_its_strictest(self):
        kept, gone = two()
        kept.sections["m"].lowered[0] = Lowered(9)
        gone.sections["m"].lowered[0] = Lowered(7, "Limit: 7")
        gone.sections["m"].circuit = Circuit("rate", "wait", NOON_MS + 9_000, owner="i", model="m", probe_ms=5)
        gone.spend = Circuit("spend", "budget", NOON_MS + 60_000)
        gone.pressure_c, gone.pressure_ms = 3, NOON_MS
        merge(kept, gone, "b", "a")
        assert kept.sections["m"].lowered[0].limit == 7
        assert (kept.sections["m"].circuit.message, kept.sections["m"].circuit.owner) == ("wait", "i@b")
        assert (kept.spend.kind, kept.pressure_c) == ("spend", 3)

    def test_other_ledger_was_the_outside_consumer(self):
        """Each took the other for one; the capacity that was left to it can be used again."""
        kept, gone = two()
        for state in (kept, gone):
            state.sections["m"].outside[0] = ExternalUsage(2, NOON_MS, NOON_MS)
        merge(kept, gone, "b", "a")
        assert kept.sections["m"].outside == {}

    def test_names_learned_by_either_apply_to_both(self):
        kept, gone = two()
        kept.names["m"] = Metered("n", NOON_MS + 9)
        gone.names["x"] = Metered("n", NOON_MS + 9)
        merge(kept, gone, "b", "a")
        assert set(kept.sections) == {"n"}
        assert set(kept.names) == {"m", "x"}
        assert booked(kept) == 8

    def test_moved_lease_goes_on_where_it_was(self):
        """A renew that the closed document had applied is recognised; the next one keeps what is held."""
        kept, _ = merged()
        again = asked(kept, "i@b", 1, 4)
        assert not again.fresh
        held = again.allotments["m"].bookings
        assert sum(cost.requests for cost in held.values()) == 4
        assert asked(kept, "i@b", 2, 0, held, hold=4).allotments["m"].bookings == held

    def test_empty_document_takes_over_everything(self):
        _, gone = two()
        kept = State(GRID.window_ms)
        merge(kept, gone, "b", "a")
        assert (booked(kept), kept.now_ms) == (4, NOON_MS)


class TestClosed:
    def test_every_renew_is_referred_to_the_survivor(self):
        _, closed = merged()
        before = pack(closed)
        grant = asked(closed, "i", 9, 4)
        assert (grant.moved, grant.fresh, grant.cap, grant.allotments) == ("a", False, 0, {})
        assert pack(closed) == before

    def test_document_is_not_read_by_code_that_would_book_in_it(self):
        _, closed = merged()
        assert pack(closed)[2] == CLOSED
        assert unpack(pack(closed)) == closed
        assert report(closed, NOON_MS, lambda _: UNLIMITED)["merged_into"] == "a"

    def test_closed_document_is_not_merged_again(self):
        kept, closed = merged()
        with pytest.raises(ValueError, match="merge the one that it names"):
            merge(State(GRID.window_ms), closed, "b", "a")
        with pytest.raises(ValueError, match="different lengths"):
            merge(kept, State(5_000), "c", "a")


def test_moved_lease_keeps_its_name_when_it_moves_again():
    assert lease_name("i", "b") == "i@b" == lease_name("i@b", "c")
    assert instance_of("i@b") == "i" == instance_of("i")
