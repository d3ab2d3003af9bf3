"""Slots of the project: which instances wait for one, and how long an instance keeps it where instances are more than slots."""

from __future__ import annotations

import pytest

from shared.ledger.slots import HANDOVERS_PER_S, MAX_TURN_MS, TURN_MS, lacking, turn_ms
from shared.ledger.state import InstanceLease, Lacking, State
from tests.unit.ledger.test_step import NOON_MS, TAU_MS, Ledger


class TestTurns:
    def test_a_turn_is_short_where_slots_suffice(self) -> None:
        assert turn_ms(15, 15) == turn_ms(100, 1) == TURN_MS

    @pytest.mark.parametrize("c", [3, 15, 64, 80])
    def test_few_slots_change_hands_in_a_second(self, c: int) -> None:
        assert c / turn_ms(c, c + 1) * 1000 == pytest.approx(HANDOVERS_PER_S)

    def test_a_turn_has_a_minimum_and_a_maximum(self) -> None:
        assert turn_ms(1, 2) == TURN_MS
        assert turn_ms(1_000, 1_001) == MAX_TURN_MS

    def test_a_slot_stays_for_a_turn(self) -> None:
        """Six instances share five slots. The one without gets a slot when it has waited a turn longer than a holder."""
        turn = turn_ms(5, 6)
        assert turn > TURN_MS
        for waited_ms, cap in ((turn - 100, 1), (turn + 100, 0)):
            ledger = Ledger(c=5, lease_ms=60_000)
            for who in "abcde":
                assert ledger.renew(who, 1, oldest_ms=NOON_MS).cap == 1
            assert ledger.renew("late", 1, oldest_ms=NOON_MS).cap == 0
            ledger.now_ms += int(waited_ms)
            caps = [ledger.renew(who, 1, oldest_ms=ledger.now_ms, hold=1).cap for who in "abcde"]
            assert min(caps) == cap
            for who, left in zip("abcde", caps, strict=True):
                ledger.renew(who, 1, oldest_ms=ledger.now_ms, hold=left)
            assert ledger.renew("late", 1, oldest_ms=NOON_MS).cap == 1 - cap


class TestLacking:
    def lease(self, slots: int, want: int, left_ms: int = 5_000) -> InstanceLease:
        return InstanceLease(
            slots=slots, want_slots=want, authority_ms=NOON_MS + left_ms, reuse_ms=NOON_MS + left_ms + TAU_MS
        )

    def test_an_instance_does_not_count_itself(self) -> None:
        state = State(60_000, NOON_MS, leases={"me": self.lease(0, 3), "other": self.lease(1, 3)})
        assert lacking(state, "me") == Lacking(none=0, some=1)
        assert lacking(state, "other") == Lacking(none=1, some=0)

    def test_what_an_instance_has_enough_of_it_does_not_lack(self) -> None:
        state = State(60_000, NOON_MS, leases={"a": self.lease(3, 3), "b": self.lease(3, 0)})
        assert lacking(state, "me") == Lacking()

    def test_a_passed_over_instance_still_waits(self) -> None:
        state = State(60_000, NOON_MS, leases={"silent": self.lease(0, 0)})
        assert lacking(state, "me") == Lacking(none=1)

    @pytest.mark.parametrize("slots", [0, 1])
    def test_an_ended_instance_waits_no_more(self, slots: int) -> None:
        state = State(60_000, NOON_MS, leases={"ended": self.lease(slots, 3, left_ms=-1)})
        assert lacking(state, "me") == Lacking()

    def test_a_renew_returns_who_waits_and_what_is_free(self) -> None:
        ledger = Ledger(c=4)
        first = ledger.renew("a", 3)
        assert (first.lacking, first.free_slots) == (Lacking(), 1)
        ledger.renew("b", 2, oldest_ms=NOON_MS)
        for who in "cde":
            ledger.renew(who, 1, oldest_ms=NOON_MS)
        again = ledger.renew("a", 3, hold=3)
        assert (again.lacking, again.free_slots) == (Lacking(none=3, some=1), 0)
        assert ledger.renew("a", 0).free_slots == 3

    def test_an_idle_instance_does_not_wait(self) -> None:
        ledger = Ledger(c=1)
        ledger.renew("idle", 1)
        ledger.renew("idle", 0)
        assert ledger.renew("a", 1).lacking == Lacking()
