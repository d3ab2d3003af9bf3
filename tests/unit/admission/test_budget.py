"""The fleet's budget: how often an instance reads, how far ahead it books, and how long it keeps what it holds."""

from __future__ import annotations

import pytest

from shared.admission.bookings import Booking
from shared.admission.budget import (
    HOLD_S,
    MAX_HOLD_S,
    MAX_SPARE_AHEAD_S,
    POLL_S,
    READS_PER_S,
    SPARE_AHEAD_S,
    SPARE_POLL_S,
    ahead_s,
    hold_s,
    min_ahead_s,
    passed_over_s,
    permit_poll_s,
    renew_s,
    runs_low,
    slot_poll_s,
    spare_poll_s,
    spare_requests,
)
from shared.admission.model_permits import ModelPermits
from shared.generation import Cost
from shared.ledger.grid import Grid
from shared.ledger.limits import Limits
from shared.ledger.parties import FEW
from shared.ledger.state import Lacking, ModelGrant, RenewResult, SlotRange

GRID, SHORT = Grid.of(60), Grid.of(6)
LIMITS = Limits(requests=600)
NOW_MS = 1_800_000_000_000
NOW = GRID.slot(NOW_MS)
HORIZON_MS = 40_000


def permits(per_s: float = 0.0, *, share_per_s: float | None = 0.0, grid: Grid = GRID) -> ModelPermits:
    """Requests arrive `per_s`. `share_per_s`: the share of the last grant, above 0 where permits are scarce; None before it."""
    last = None if share_per_s is None else ModelGrant({}, LIMITS, LIMITS, per_s=share_per_s)
    return ModelPermits(grid, LIMITS, LIMITS, per_s=per_s, last=last)


def grant(horizon_ms: int) -> RenewResult:
    return RenewResult(1, NOW_MS, False, 20, horizon_ms, {})


class TestReads:
    @pytest.mark.parametrize("instances", [FEW + 1, 12, 40, 100])
    def test_waiting_instances_share_the_reads(self, instances: int) -> None:
        """One in five holds a slot and wants more; together with those without a slot they read READS_PER_S times at most."""
        some = instances // 5
        none = instances - some
        with_one = slot_poll_s(Lacking(none, some - 1), cap=1)
        without = slot_poll_s(Lacking(none - 1, some), cap=0)
        assert min(with_one, without) >= POLL_S
        assert some / with_one + none / without <= READS_PER_S + 1e-9

    def test_instances_without_a_slot_have_two_thirds_of_reads(self) -> None:
        many = 60
        assert slot_poll_s(Lacking(many - 1, 0), cap=0) == pytest.approx(many / 8)
        assert slot_poll_s(Lacking(0, many - 1), cap=3) == pytest.approx(many / 4)

    def test_an_instance_counts_only_instances_like_itself(self) -> None:
        """How long it waits for its turn to read does not depend on how many there are of the other kind."""
        assert slot_poll_s(Lacking(30, 5), cap=0) == slot_poll_s(Lacking(30, 50), cap=0)
        assert slot_poll_s(Lacking(5, 30), cap=1) == slot_poll_s(Lacking(50, 30), cap=1)

    @pytest.mark.parametrize("cap", [0, 2])
    def test_few_instances_read_as_often_as_is_useful(self, cap: int) -> None:
        assert slot_poll_s(Lacking(), cap) == POLL_S
        assert slot_poll_s(Lacking(FEW - 1, 0), cap) == slot_poll_s(Lacking(0, FEW - 1), cap) == POLL_S
        assert slot_poll_s(Lacking(FEW, FEW), cap) > POLL_S

    def test_instances_that_wait_for_permits_share_the_reads(self) -> None:
        assert permit_poll_s(1) == permit_poll_s(FEW) == POLL_S
        assert permit_poll_s(FEW + 1) == pytest.approx((FEW + 1) / READS_PER_S)
        assert 100 / permit_poll_s(100) == pytest.approx(READS_PER_S)

    def test_unused_slots_are_looked_after_half_as_often(self) -> None:
        assert spare_poll_s(1) == spare_poll_s(6) == SPARE_POLL_S
        assert 100 / spare_poll_s(100) == pytest.approx(READS_PER_S / 2)

    def test_a_free_slot_is_left_for_three_reads(self) -> None:
        """The instance that is due it reads every `slot_poll_s`: where many wait, that takes longer than the minimum."""
        assert passed_over_s(1.0, none_held=2) == 1.0
        assert passed_over_s(1.0, none_held=80) == pytest.approx(3 * slot_poll_s(Lacking(79, 0), cap=0))


@pytest.mark.parametrize(("horizon_ms", "after_s"), [(8_000, 4.16), (20_000, 10.4), (30_000, 20.0), (45_000, 35.0)])
def test_scarce_permits_are_renewed_before_the_horizon(horizon_ms: int, after_s: float) -> None:
    """After half of a short horizon; ten seconds before the end of a long one."""
    assert renew_s(grant(horizon_ms), GRID) == pytest.approx(after_s)


def test_renewal_scales_with_the_window() -> None:
    assert renew_s(grant(4_500), SHORT) == pytest.approx(3.5)


class TestIdleHolding:
    @pytest.mark.parametrize(("per_s", "kept_s"), [(0.0, 0.0), (0.39, 0.0), (0.4, HOLD_S), (50.0, HOLD_S)])
    def test_few_instances_hold_for_a_fixed_time(self, per_s: float, kept_s: float) -> None:
        assert hold_s(per_s, many=False) == kept_s

    @pytest.mark.parametrize(("per_s", "kept_s"), [(0.0, 0.0), (0.044, 0.0), (0.1, 30.0), (0.2, 15.0), (50.0, HOLD_S)])
    def test_many_hold_for_three_requests(self, per_s: float, kept_s: float) -> None:
        assert hold_s(per_s, many=True) == pytest.approx(kept_s)

    def test_nothing_is_held_longer_than_the_maximum(self) -> None:
        assert hold_s(2 / MAX_HOLD_S, many=True) == MAX_HOLD_S


class TestAhead:
    def test_few_instances_book_ahead_for_the_minimum(self) -> None:
        assert ahead_s(permits(0.1), 0) == ahead_s(permits(9.0, share_per_s=2.0), 0) == SPARE_AHEAD_S

    @pytest.mark.parametrize(
        ("per_s", "wanted_s"), [(0.0, SPARE_AHEAD_S), (0.01, MAX_SPARE_AHEAD_S), (0.2, 20.0), (9.0, SPARE_AHEAD_S)]
    )
    def test_rare_requests_are_booked_further_ahead(self, per_s: float, wanted_s: float) -> None:
        """For four requests, within the bounds. Where none has arrived the rate is not known, and the minimum applies."""
        assert ahead_s(permits(per_s), HORIZON_MS) == pytest.approx(wanted_s)

    def test_scarce_permits_are_booked_to_the_horizon(self) -> None:
        assert ahead_s(permits(0.2, share_per_s=1.0), HORIZON_MS) == HORIZON_MS / 1000
        assert ahead_s(permits(0.2, share_per_s=1.0), 2_000) == SPARE_AHEAD_S

    def test_bounds_scale_with_the_window(self) -> None:
        assert min_ahead_s(SHORT) == pytest.approx(SPARE_AHEAD_S / 10)
        assert ahead_s(permits(0.01, grid=SHORT), HORIZON_MS) == pytest.approx(MAX_SPARE_AHEAD_S / 10)


class TestSpareRequests:
    @pytest.mark.parametrize("share_per_s", [None, 0.0])
    def test_plenty_is_booked_beyond_the_rate(self, share_per_s: float | None) -> None:
        assert spare_requests(permits(2.0, share_per_s=share_per_s), HORIZON_MS, 0.0) == 15
        assert spare_requests(permits(0.2, share_per_s=share_per_s), HORIZON_MS, 0.0) == 6

    def test_few_instances_book_the_same_while_scarce(self) -> None:
        assert spare_requests(permits(2.0, share_per_s=1.0), 0, 60.0) == 15

    def test_scarce_permits_are_booked_for_what_arrives(self) -> None:
        assert spare_requests(permits(2.0, share_per_s=1.0), HORIZON_MS, 0.0) == 80

    def test_scarce_permits_are_not_booked_for_rare_requests(self) -> None:
        assert spare_requests(permits(0.49, share_per_s=1.0), HORIZON_MS, 3.0) == 0
        assert spare_requests(permits(0.5, share_per_s=1.0), HORIZON_MS, 3.0) == 20

    @pytest.mark.parametrize(("per_s", "wanted"), [(0.1, 60), (2.0, 80)])
    def test_a_long_wait_requests_the_whole_share(self, per_s: float, wanted: int) -> None:
        """Callers that wait for answers send no more than is served, so that the rate of arrivals says too little."""
        assert spare_requests(permits(per_s, share_per_s=1.5), HORIZON_MS, 3.1) == wanted


class TestRunsLow:
    def low(self, available: int, *, until_s: float, per_s: float = 2.0, horizon_ms: int = 0, spare: int = 10) -> bool:
        one = permits(per_s)
        validity = SlotRange(NOW - 8, GRID.slot(NOW_MS + 1000 * until_s))
        one.bookings[validity] = Booking(Cost(available), Cost(20))
        return runs_low(one, spare, NOW_MS, horizon_ms)

    def test_few_instances_renew_at_four_tenths(self) -> None:
        assert self.low(3, until_s=8)
        assert not self.low(4, until_s=8)

    def test_what_expires_soon_is_not_counted(self) -> None:
        """Less than 1.5 s where instances are few, a fifth of the time ahead where they are many."""
        assert self.low(100, until_s=1.2)
        assert not self.low(100, until_s=1.5)
        assert self.low(100, until_s=0.7, horizon_ms=HORIZON_MS)
        assert not self.low(100, until_s=1.0, horizon_ms=HORIZON_MS)

    def test_many_instances_renew_when_two_seconds_are_left(self) -> None:
        """Of 40 spare permits 16 would be too few; where requests arrive twice a second, four last until the next renew;
        where they are rare, one does."""
        assert self.low(3, until_s=8, horizon_ms=HORIZON_MS, spare=40)
        assert not self.low(4, until_s=8, horizon_ms=HORIZON_MS, spare=40)
        assert self.low(0, until_s=8, per_s=0.1, horizon_ms=HORIZON_MS, spare=40)
        assert not self.low(1, until_s=8, per_s=0.1, horizon_ms=HORIZON_MS, spare=40)

    def test_many_instances_renew_no_earlier_than_few(self) -> None:
        assert self.low(3, until_s=8, horizon_ms=HORIZON_MS)
        assert not self.low(4, until_s=8, horizon_ms=HORIZON_MS)
