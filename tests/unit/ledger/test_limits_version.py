"""The limits of a running fleet change: the newest configuration among the instances defines them."""

from __future__ import annotations

from dataclasses import replace

from shared.generation import Cost
from shared.ledger.grid import Grid, pacific_day
from shared.ledger.inspection import report
from shared.ledger.limits import UNLIMITED, Limits, newest
from shared.ledger.packing import LIMITS_VERSIONS, pack, unpack
from shared.ledger.state import Demand, InstanceLease, QuotaSignal, RenewRequest, RenewResult, State
from shared.ledger.step import renew
from shared.ledger.throttling import configured_limits

GRID = Grid.of(60)
NOON_MS = pacific_day(1_800_000_000_000).start_ms + 12 * 3_600_000
OLD, NEW = Limits(requests=10), Limits(requests=30)


class Ledger:
    def __init__(self) -> None:
        self.state, self.now_ms, self.number = State(GRID.window_ms), NOON_MS, 0

    def renew(self, who: str, version: int, limits: Limits, c: int = 8, wants: int = 0, **more: object) -> RenewResult:
        self.number += 1
        demand = Demand(limits, wants=((Cost(1), wants),) if wants else (), head=True, reach_ms=60_000)
        message = RenewRequest(
            who, self.number, self.now_ms, c, 60_000, limits_version=version, want_slots=max(1, wants),
            demands={"m": demand}, **more,
        )  # fmt: skip
        return renew(self.state, message, self.now_ms, GRID)

    def limits(self) -> Limits:
        return configured_limits(self.state, "m")


def test_newest_version_decides_and_equal_ones_all_have_a_say():
    assert newest([(0, "a"), (2, "b"), (1, "c"), (2, "d")]) == ["b", "d"]
    assert newest([]) == []


class TestRaised:
    def test_older_instances_do_not_hold_it_down(self):
        ledger = Ledger()
        ledger.renew("old", 0, OLD)
        grant = ledger.renew("new", 1, NEW, c=16, wants=20)
        assert grant.allotments["m"].limits == NEW
        assert sum(cost.requests for cost in grant.allotments["m"].bookings.values()) > 10 > 8
        assert grant.cap > 8

    def test_instance_with_an_older_one_gets_the_newer_limits(self):
        ledger = Ledger()
        ledger.renew("new", 1, NEW, c=16)
        grant = ledger.renew("old", 0, OLD, c=4, wants=12)
        assert (grant.limits_version, grant.allotments["m"].limits) == (1, NEW)
        assert grant.cap > 4

    def test_repeated_renew_names_the_newest_version_too(self):
        ledger = Ledger()
        ledger.renew("old", 0, OLD)
        ledger.renew("new", 3, NEW)
        ledger.number = 0
        grant = ledger.renew("old", 0, OLD)
        assert (grant.fresh, grant.limits_version, grant.allotments["m"].limits) == (False, 3, NEW)

    def test_equal_versions_are_as_strict_as_the_strictest(self):
        ledger = Ledger()
        ledger.renew("a", 2, NEW, c=16)
        assert ledger.renew("b", 2, OLD, c=3).allotments["m"].limits == OLD
        assert ledger.limits() == OLD


class TestLowered:
    def test_what_was_booked_before_stays_and_nothing_is_added(self):
        ledger = Ledger()
        before = ledger.renew("old", 0, NEW, wants=8).allotments["m"].bookings
        grant = ledger.renew("new", 1, Limits(requests=4), wants=2)
        assert grant.allotments["m"].bookings == {} and grant.allotments["m"].limits.requests == 4
        assert ledger.state.leases["old"].shares["m"].bookings == before

    def test_concurrency_of_the_newest_configuration_applies(self):
        ledger = Ledger()
        assert ledger.renew("old", 0, NEW, c=8, wants=6).cap == 6
        assert ledger.renew("new", 1, NEW, c=6, wants=6).cap == 0
        assert report(ledger.state, ledger.now_ms, lambda _: UNLIMITED)["slots"]["limit"] == 6

    def test_instance_that_is_gone_has_no_say(self):
        """Its lease is not fresh any more, and nothing is booked for it."""
        ledger = Ledger()
        ledger.renew("new", 5, OLD)
        ledger.now_ms += 120_000
        assert ledger.renew("old", 0, NEW).allotments["m"].limits == NEW

    def test_rejection_is_compared_with_the_newest_limits(self):
        """Gemini names 20: that is lower than the newest limit, although an older one is lower still."""
        ledger = Ledger()
        ledger.renew("old", 0, OLD)
        signal = QuotaSignal("m", NOON_MS + 5_000, Limits(requests=20), sent_ms=NOON_MS, kind="lower")
        grant = ledger.renew("new", 1, NEW, refusals=(signal,))
        assert grant.allotments["m"].limits.requests == 20


class TestDocument:
    def test_versions_are_read_as_written(self):
        ledger = Ledger()
        ledger.renew("old", 0, OLD)
        ledger.renew("new", 7, NEW)
        assert unpack(pack(ledger.state)) == ledger.state
        assert {i: lease.limits_version for i, lease in unpack(pack(ledger.state)).leases.items()} == {
            "old": 0,
            "new": 7,
        }

    def test_document_without_versions_reads_as_zero(self):
        """It has the bytes that were written before there were versions."""
        state = State(GRID.window_ms, NOON_MS, {"i": InstanceLease(renew=3)})
        assert unpack(pack(state)).leases["i"].limits_version == 0
        state.leases["i"] = replace(state.leases["i"], limits_version=1)
        assert len(pack(state)) > len(pack(unpack(pack(State(GRID.window_ms, NOON_MS, {"i": InstanceLease(renew=3)})))))

    def test_unknown_additions_are_skipped(self, monkeypatch):
        ledger = Ledger()
        ledger.renew("new", 7, NEW)
        monkeypatch.setattr("shared.ledger.packing.LIMITS_VERSIONS", LIMITS_VERSIONS + 900)
        blob = pack(ledger.state)
        monkeypatch.undo()
        assert unpack(blob).leases["new"].limits_version == 0
