"""What Gemini's 429s teach all instances: cool-downs, the one request that ends them, and what others seem to spend."""

from __future__ import annotations

import pytest

from shared.generation import Cost
from shared.ledger.circuit import PROBE_MS
from shared.ledger.grid import Grid, pacific_day
from shared.ledger.limits import UNLIMITED, Limits
from shared.ledger.packing import pack, unpack
from shared.ledger.state import Demand, ModelGrant, QuotaSignal, RenewRequest, RenewResult, State
from shared.ledger.step import renew
from shared.ledger.throttling import left_by_others

GRID = Grid.of(60)
DAY = pacific_day(1_800_000_000_000)
NOON_MS = (DAY.start_ms + DAY.end_ms) // 2
WINDOW_MS = GRID.window_ms
TEN = Limits(requests=10)


class Ledger:
    """A state, a clock and a numbered message per instance. Every state is packed and read again."""

    def __init__(self, limits: Limits = TEN) -> None:
        self.state, self.now_ms, self.limits = State(WINDOW_MS), NOON_MS, limits
        self.numbers: dict[str, int] = {}

    def renew(self, who: str, want: int = 0, demand: Demand | None = None, **more: object) -> RenewResult:
        self.numbers[who] = self.numbers.get(who, 0) + 1
        demands = {"m": demand} if demand else {}
        message = RenewRequest(
            who, self.numbers[who], self.now_ms, 50, 120_000, lease_ms=10_000, want_slots=want, demands=demands, **more
        )
        grant = renew(self.state, message, self.now_ms, GRID)
        assert unpack(pack(self.state)) == self.state
        return grant

    def ask(
        self, who: str, count: int = 1, cost: Cost = Cost(1), refusals: tuple[QuotaSignal, ...] = (), **more: object
    ):
        """`count` requests wait at `who` and nothing is held there."""
        demand = Demand(self.limits, wants=((cost, count),), head=True, reach_ms=90_000, waiting=True, **more)
        return self.renew(who, count, demand, refusals=refusals).allotments["m"]

    def refused(self, who: str, sent: int = 0, cost: Cost = Cost(1), seconds: float = 20, **more: object) -> ModelGrant:
        """`who` has dispatched `sent` requests just now, of which the last was refused; it waits to send it again."""
        refusal = QuotaSignal("m", self.now_ms + int(1000 * seconds), minute=(0,), sent_ms=self.now_ms)
        refusal = QuotaSignal(**{name: more.pop(name, getattr(refusal, name)) for name in QuotaSignal.__slots__})
        settled = {GRID.slot(self.now_ms): Cost(*(sent * amount for amount in cost))} if sent else {}
        return self.ask(who, cost=cost, refusals=(refusal,), settled=settled, **more)

    def answered(self, who: str, right: ModelGrant, count: int = 0) -> RenewResult:
        wants = ((Cost(1), count),) if count else ()
        demand = Demand(
            self.limits, wants=wants, head=bool(count), waiting=bool(count), answered_ms=right.probe_ms, reach_ms=90_000
        )
        return self.renew(who, count, demand)

    @property
    def section(self):
        return self.state.sections["m"]


def requests(allotment: ModelGrant) -> int:
    return sum(cost.requests for cost in allotment.bookings.values())


class TestAnOutsideConsumer:
    def test_unexpected_refusal_leaves_nine_tenths(self) -> None:
        ledger = Ledger(Limits(requests=100))
        ledger.refused("a", sent=50)
        assert ledger.section.outside[0].limit == 45
        assert ledger.section.outside[0].since_ms == NOON_MS

    def test_external_usage_applies_with_the_next_renew(self) -> None:
        ledger = Ledger(Limits(requests=100))
        right = ledger.refused("a", sent=50, seconds=1)
        ledger.now_ms += 2_000
        ledger.answered("a", right)
        ledger.now_ms += WINDOW_MS + 1_000
        assert requests(ledger.ask("b", 100)) <= 45 + 2

    def test_possibly_sent_bookings_count_as_sent(self) -> None:
        """Those for later do not."""
        ledger = Ledger(Limits(requests=100))
        grant = ledger.ask("b", 30)
        begun = sum(cost.requests for v, cost in grant.bookings.items() if v.first <= GRID.slot(ledger.now_ms) + 1)
        assert 15 <= begun < requests(grant) == 30
        ledger.refused("a", sent=20)
        assert ledger.section.outside[0].limit == 9 * (20 + begun) // 10

    def test_refusal_at_the_whole_limit_suspects_no_one(self) -> None:
        ledger = Ledger()
        ledger.refused("a", sent=10)
        assert not ledger.section.outside

    def test_late_refusal_counts_what_the_ring_forgot(self) -> None:
        ledger = Ledger(Limits(requests=240))
        first = GRID.slot(NOON_MS) - GRID.span + 1
        ledger.renew("a", 1, Demand(ledger.limits, {first + n: Cost(1) for n in range(240)}))
        sent_ms = ledger.now_ms
        ledger.now_ms += 2_000
        ledger.renew("b", 0)
        assert sum(cost.requests for cost in ledger.section.ring.values()) < 240
        ledger.refused("a", sent_ms=sent_ms)
        assert not ledger.section.outside

    def test_it_never_falls_below_one_request(self) -> None:
        ledger = Ledger()
        ledger.refused("a", sent=1)
        assert ledger.section.outside[0].limit == 1

    def test_large_request_is_served_in_an_empty_window(self) -> None:
        ledger = Ledger(Limits(input_tokens=10_000))
        right = ledger.refused("a", sent=1, cost=Cost(1, 100), seconds=1, minute=(1,))
        assert ledger.section.outside[1].limit == 90
        ledger.now_ms += 2_000
        ledger.answered("a", right)
        [(validity, _)] = ledger.ask("b", 1, Cost(1, 9_000)).bookings.items()
        assert validity.first >= GRID.slot(NOON_MS) + GRID.span

    def test_only_the_dimension_that_was_refused_is_lowered(self) -> None:
        ledger = Ledger(Limits(requests=100, input_tokens=10_000))
        ledger.refused("a", sent=10, cost=Cost(1, 300), minute=(1,))
        assert {k: outside.limit for k, outside in ledger.section.outside.items()} == {1: 2_700}

    def test_what_is_unlimited_here_only_cools(self) -> None:
        ledger = Ledger(UNLIMITED)
        ledger.refused("a", sent=5)
        assert not ledger.section.outside
        assert ledger.section.circuit.open_until_ms == NOON_MS + 20_000

    def test_of_a_named_limit_the_smaller_holds(self) -> None:
        ledger = Ledger(Limits(requests=100))
        ledger.refused("a", sent=50, learned=Limits(requests=30))
        assert not ledger.section.outside, "we sent more than the named limit: that explains the refusal"
        ledger.now_ms += WINDOW_MS + 1_000
        ledger.refused("a", sent=20)
        assert ledger.section.outside[0].limit == 18

    def test_limit_recovers_by_two_percent_per_window(self) -> None:
        ledger, seen = Ledger(Limits(requests=100)), []
        ledger.refused("a", sent=50)
        for windows in (0, 1, 10, 27):
            now_ms = NOON_MS + windows * WINDOW_MS
            usable = left_by_others(ledger.section, ledger.limits, Demand(ledger.limits), now_ms, GRID)
            seen.append(usable.requests)
        assert seen == [45, 47, 65, 99]
        ledger.now_ms += 28 * WINDOW_MS
        ledger.ask("a")
        ledger.renew("b", 0)
        assert not ledger.section.outside

    def test_the_recovery_is_counted_from_the_last_refusal(self) -> None:
        ledger = Ledger(Limits(requests=100))
        ledger.refused("a", sent=50)
        ledger.now_ms += 5 * WINDOW_MS
        ledger.refused("a", sent=55)
        outside = ledger.section.outside[0]
        assert (outside.limit, outside.since_ms, outside.refused_ms) == (55, NOON_MS, ledger.now_ms)

    def test_several_requests_refused_at_once_lower_it_once(self) -> None:
        ledger = Ledger(Limits(requests=100))
        ledger.refused("a", sent=50)
        ledger.refused("a")
        ledger.refused("b")
        assert ledger.section.outside[0].limit == 45

    def test_external_usage_is_forgotten_without_a_limit(self) -> None:
        ledger = Ledger()
        ledger.refused("a", sent=1)
        ledger.renew("a", 0)
        ledger.now_ms += 50 * WINDOW_MS
        ledger.renew("b", 0)
        assert not ledger.section.outside


class TestTheRequestThatTries:
    def test_long_ended_refusal_opens_no_circuit(self):
        """A process whose CPU stood still brings it; the others have been served since then."""
        ledger = Ledger()
        heard_late = QuotaSignal("m", NOON_MS + 1_000, minute=(0,), sent_ms=NOON_MS)
        ledger.now_ms += 1_000 + WINDOW_MS + 1
        assert ledger.ask("b").open_until_ms == 0
        assert ledger.ask("a", refusals=(heard_late,)).open_until_ms == 0

    def test_one_that_ended_less_long_ago_still_has_one_request_try(self):
        ledger = Ledger()
        heard_late = QuotaSignal("m", NOON_MS + 1_000, minute=(0,), sent_ms=NOON_MS)
        ledger.now_ms += 1_000 + WINDOW_MS
        assert ledger.ask("a", refusals=(heard_late,)).open_until_ms == heard_late.until_ms

    def test_open_circuit_books_only_the_probe(self) -> None:
        ledger = Ledger(Limits(requests=100))
        first = ledger.refused("a", sent=1)
        assert requests(first) == 1
        assert first.probe_ms == first.open_until_ms + PROBE_MS
        assert all(GRID.start_ms(v.first) >= first.open_until_ms for v in first.bookings)
        other = ledger.ask("b", 20)
        assert (requests(other), other.probe_ms, other.open_until_ms) == (0, 0, first.open_until_ms)
        assert other.next_ms >= first.open_until_ms

    def test_probe_may_begin_late_where_there_is_room(self) -> None:
        ledger = Ledger(Limits(requests=100))
        first = ledger.refused("a", sent=1, seconds=1)
        ledger.now_ms = first.probe_ms + 1
        [validity] = ledger.ask("b").bookings
        assert GRID.start_ms(validity.first) <= ledger.now_ms
        assert GRID.start_ms(validity.last) >= ledger.now_ms + 4_000

    def test_others_wait_for_the_probes_answer(self) -> None:
        ledger = Ledger(Limits(requests=100))
        first = ledger.refused("a", sent=1, cost=Cost(1), seconds=1)
        ledger.now_ms += 3_000
        assert requests(ledger.ask("b", 1)) == 0
        ledger.answered("a", first)
        assert ledger.section.circuit.open_until_ms == 0
        ledger.now_ms += WINDOW_MS
        assert requests(ledger.ask("b", 1)) == 1

    def test_answered_probe_and_grant_are_one_renew(self) -> None:
        ledger = Ledger(UNLIMITED)
        right = ledger.refused("a", sent=1, seconds=1)
        ledger.now_ms += 2_000
        grant = ledger.answered("a", right, 5).allotments["m"]
        assert (requests(grant), grant.open_until_ms) == (5, 0)

    def test_refused_probe_starts_the_next_pause(self) -> None:
        ledger = Ledger(Limits(requests=100))
        ledger.refused("a", sent=1, seconds=1)
        ledger.now_ms += 2_000
        ledger.renew("a", 0, refusals=(QuotaSignal("m", ledger.now_ms + 7_000, sent_ms=ledger.now_ms),))
        assert ledger.section.circuit.open_until_ms == ledger.now_ms + 7_000
        assert ledger.ask("b").probe_ms == ledger.now_ms + 7_000 + PROBE_MS

    def test_unnamed_pause_is_a_window_until_the_model_is_full(self) -> None:
        ledger, lengths = Ledger(Limits(requests=100)), []
        ledger.refused("a", sent=1, seconds=10)
        for _ in range(4):
            ledger.now_ms = ledger.section.circuit.open_until_ms + 500
            ledger.refused("a", sent=1, seconds=60, guessed=True)
            lengths.append(ledger.section.circuit.open_until_ms - ledger.now_ms)
        assert lengths == [60_000, 900_000, 900_000, 900_000]

    @pytest.mark.parametrize("limits", [Limits(requests=100), UNLIMITED], ids=["metered", "unmetered"])
    def test_a_dead_instances_right_passes_to_the_next_one(self, limits: Limits) -> None:
        ledger = Ledger(limits)
        dead = ledger.refused("dead", sent=1, seconds=1)
        ledger.now_ms = min(ledger.state.leases["dead"].authority_ms, dead.probe_ms - 1)
        assert ledger.ask("b").probe_ms == 0
        ledger.now_ms = dead.probe_ms
        assert ledger.ask("b").probe_ms == ledger.now_ms + PROBE_MS

    def test_unanswered_probe_is_replaced(self) -> None:
        ledger = Ledger(Limits(requests=100))
        first = ledger.refused("slow", sent=1, seconds=1)
        for _ in range(4):
            ledger.now_ms += 3_000
            under_way = Demand(ledger.limits, probing=True)
            held = ledger.renew("slow", 1, under_way).allotments["m"].probe_ms
        assert held == 0
        assert ledger.ask("b").probe_ms > first.probe_ms

    def test_a_late_answer_still_ends_the_cool_down(self) -> None:
        ledger = Ledger(Limits(requests=100))
        first = ledger.refused("slow", sent=1, seconds=1)
        ledger.now_ms = first.probe_ms + 1
        ledger.ask("b")
        ledger.answered("slow", first)
        assert ledger.section.circuit.open_until_ms == 0

    def test_an_answer_from_before_a_later_refusal_does_not(self) -> None:
        ledger = Ledger(Limits(requests=100))
        first = ledger.refused("a", sent=1, seconds=1)
        ledger.now_ms += 2_000
        ledger.refused("b", sent=1, seconds=60)
        ledger.answered("a", first)
        assert ledger.section.circuit.open_until_ms == ledger.now_ms + 60_000

    def test_returning_everything_releases_the_probe(self) -> None:
        ledger = Ledger(Limits(requests=100))
        ledger.refused("a", sent=1)
        ledger.renew("a", 0)
        assert ledger.ask("b").probe_ms > 0

    def test_probe_needs_a_slot(self) -> None:
        ledger = Ledger(Limits(requests=100))
        ledger.renew("holder", 50, hold=50)
        ledger.refused("a", sent=1)
        assert ledger.state.leases["a"].cap == 0
        assert ledger.section.circuit.owner == ""

    def test_probe_needs_enough_patience(self) -> None:
        ledger = Ledger(Limits(requests=100))
        ledger.refused("a", sent=1, seconds=200)
        assert ledger.section.circuit.owner == ""

    def test_after_midnight_too_one_request_tries_first(self) -> None:
        ledger = Ledger(Limits(requests=100, requests_per_day=1_000))
        refusal = QuotaSignal("m", DAY.end_ms, sent_ms=NOON_MS)
        ledger.ask("a", refusals=(refusal,), settled={GRID.slot(NOON_MS): Cost(1)})
        ledger.now_ms = DAY.end_ms + 1_000
        assert requests(ledger.ask("a", 5)) == 1
        assert requests(ledger.ask("b", 5)) == 0

    def test_it_may_use_what_others_are_suspected_to_spend(self) -> None:
        ledger = Ledger(Limits(requests=100))
        first = ledger.refused("a", sent=1, seconds=5)
        [validity] = first.bookings
        assert ledger.section.outside[0].limit == 1
        assert GRID.start_ms(validity.first) <= NOON_MS + 6_000, "though the window holds the one that was refused"

    def test_repeated_renew_returns_the_probe_again(self) -> None:
        ledger = Ledger(Limits(requests=100))
        first = ledger.refused("a", sent=1)
        ledger.numbers["a"] -= 1
        again = ledger.ask("a")
        assert (again.open_until_ms, again.probe_ms) == (first.open_until_ms, first.probe_ms)

    def test_probe_needs_room_in_the_limit(self) -> None:
        ledger = Ledger(Limits(requests=3))
        ledger.refused("a", sent=3, seconds=1)
        assert requests(ledger.ask("b")) == 0
        ledger = Ledger(Limits(requests=100, requests_per_day=3))
        assert requests(ledger.refused("a", sent=3, seconds=1)) == 0
