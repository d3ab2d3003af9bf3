"""The quota of batches of embeddings, which all models of a project share."""

from __future__ import annotations

from random import Random

from shared.generation import NO_COST, Cost
from shared.ledger.grid import Grid, pacific_day
from shared.ledger.limits import Limits
from shared.ledger.packing import pack, unpack
from shared.ledger.state import BATCHES, Bookings, Demand, ModelGrant, QuotaSignal, RenewRequest, RenewResult, State
from shared.ledger.step import renew
from tests.support.invariants import bookings_of, check_windows

GRID = Grid.of(60)
DAY = pacific_day(1_800_000_000_000)
NOON_MS = (DAY.start_ms + DAY.end_ms) // 2
LIMITS = Limits(requests=100, batches=4)
LIST = Cost(10, 50, batches=1)


class Ledger:
    """A state, a clock and a numbered message per instance. Every state is packed and read again."""

    def __init__(self, limits: Limits = LIMITS) -> None:
        self.state, self.now_ms, self.limits = State(GRID.window_ms), NOON_MS, limits
        self.numbers: dict[str, int] = {}

    def renew(self, who: str, demands: dict[str, Demand], *refusals: QuotaSignal) -> RenewResult:
        self.numbers[who] = self.numbers.get(who, 0) + 1
        message = RenewRequest(
            who,
            self.numbers[who],
            self.now_ms,
            50,
            120_000,
            lease_ms=10_000,
            want_slots=5,
            demands=demands,
            refusals=refusals,
        )
        grant = renew(self.state, message, self.now_ms, GRID)
        assert unpack(pack(self.state)) == self.state
        return grant

    def asks(self, *runs: tuple[Cost, int], kept: Bookings | None = None, reach_ms: int = 0) -> Demand:
        return Demand(self.limits, kept=kept or {}, wants=runs, head=True, reach_ms=reach_ms, waiting=True)

    def booked(self) -> int:
        """Batches that are dispatched or booked, over all models."""
        sent = sum(cost.batches for section in self.state.sections.values() for cost in section.ring.values())
        held = (bookings_of(self.state, model) for model in self.state.sections)
        return sent + sum(cost.batches for models in held for each in models for cost in each.values())


def total(grant: ModelGrant) -> Cost:
    result = NO_COST
    for cost in grant.bookings.values():
        result = result.plus(cost)
    return result


def refusal(ledger: Ledger, seconds: float, batches: int | None = None) -> QuotaSignal:
    until_ms = ledger.now_ms + int(1000 * seconds)
    return QuotaSignal(BATCHES, until_ms, Limits(batches=batches), minute=(3,), sent_ms=ledger.now_ms)


def test_a_list_takes_its_requests_and_one_batch_at_once() -> None:
    ledger = Ledger()
    grant = ledger.renew("a", {"m": ledger.asks((LIST, 2))}).allotments["m"]
    assert total(grant) == LIST.times(2)
    assert all(cost.requests == 10 * cost.batches for cost in grant.bookings.values())


def test_two_models_share_the_batches_and_not_the_requests() -> None:
    ledger = Ledger()
    first = ledger.renew("a", {"m": ledger.asks((LIST, 3))}).allotments["m"]
    second = ledger.renew("b", {"n": ledger.asks((LIST, 3), (Cost(1), 40))}).allotments["n"]
    assert total(first).batches == 3
    assert total(second).batches == 1
    assert total(second).requests > LIST.requests


def test_dispatched_batches_of_another_model_count() -> None:
    ledger = Ledger()
    slot = GRID.slot(ledger.now_ms)
    ledger.renew("a", {"m": Demand(LIMITS, settled={slot: LIST.times(4)})})
    assert total(ledger.renew("b", {"n": ledger.asks((LIST, 1))}).allotments["n"]) == NO_COST
    ledger.now_ms += GRID.window_ms + 1_000
    assert total(ledger.renew("b", {"n": ledger.asks((LIST, 1))}).allotments["n"]) == LIST


def test_a_list_that_finds_no_batch_leaves_requests_to_others() -> None:
    """Nothing is booked of a list that lacks its batch: no half-held permit blocks the single requests."""
    ledger = Ledger()
    ledger.renew("a", {"m": ledger.asks((LIST, 4))})
    grant = ledger.renew("b", {"m": ledger.asks((LIST, 1), (Cost(1), 60))}).allotments["m"]
    assert grant.unmet.batches == 1
    assert total(grant).batches == 0
    assert total(grant).requests > 0


def test_random_renews_of_two_models_keep_the_shared_limit() -> None:
    """I1 for the sum over both models, with settled, kept and returned bookings of three instances."""
    random = Random(7)
    ledger = Ledger(Limits(requests=60, batches=5))
    held: dict[tuple[str, str], Bookings] = {}
    reached = 0
    for _ in range(400):
        ledger.now_ms += random.choice([50, 250, 1_000, 5_000])
        who, slot = random.choice("abc"), GRID.slot(ledger.now_ms)
        demands = {}
        for model in random.sample(["m", "n"], random.choice([1, 2])):
            mine = {v: cost for v, cost in held.get((who, model), {}).items() if v.last >= slot}
            sent = {v: cost for v, cost in mine.items() if v.first <= slot and random.random() < 0.7}
            settled = NO_COST
            for cost in sent.values():
                settled = settled.plus(cost)
            kept = {v: cost for v, cost in mine.items() if v not in sent and random.random() < 0.8}
            run = (random.choice([LIST, Cost(3, 9, batches=1), Cost(1)]), random.randint(1, 4))
            demand = ledger.asks(run, kept=kept, reach_ms=random.choice([0, 60_000]))
            demands[model] = Demand(
                demand.limits, {slot: settled}, kept, demand.wants, head=True, reach_ms=60_000, waiting=True
            )
        grant = ledger.renew(who, demands)
        for model in ("m", "n"):
            held[who, model] = dict(grant.allotments[model].bookings) if model in grant.allotments else {}
            if model in ledger.state.sections:
                check_windows(ledger.state, model, ledger.limits, GRID)
        ends = {
            v.last + GRID.span for s in ledger.state.leases.values() for one in s.shares.values() for v in one.bookings
        }
        for at in {slot, *ends}:
            amount = sum(
                cost.batches
                for section in ledger.state.sections.values()
                for d, cost in section.ring.items()
                if at < d + GRID.span
            ) + sum(
                cost.batches
                for model in ledger.state.sections
                for bookings in bookings_of(ledger.state, model)
                for v, cost in bookings.items()
                if v.first <= at < v.last + GRID.span
            )
            assert amount <= 5
            reached += amount == 5
    assert reached > 50


class TestARefusal:
    def test_it_stops_batches_of_every_model_and_nothing_else(self) -> None:
        ledger = Ledger()
        ledger.renew("a", {"m": ledger.asks((LIST, 1))}, refusal(ledger, 20))
        grant = ledger.renew("b", {"n": ledger.asks((LIST, 1), (Cost(1), 5))})
        assert grant.batches_until_ms >= ledger.now_ms + 20_000
        allotment = grant.allotments["n"]
        assert (total(allotment).batches, total(allotment).requests) == (0, 5)
        assert allotment.open_until_ms == 0

    def test_a_list_is_booked_for_the_end_of_the_pause(self) -> None:
        ledger = Ledger()
        ledger.renew("a", {"m": ledger.asks((LIST, 1))}, refusal(ledger, 20))
        grant = ledger.renew("b", {"n": ledger.asks((LIST, 1), reach_ms=60_000)}).allotments["n"]
        (validity,) = [v for v, cost in grant.bookings.items() if cost.batches]
        assert ledger.now_ms + 20_000 <= GRID.start_ms(validity.first) <= ledger.now_ms + 21_000

    def test_a_lower_limit_that_it_names_applies_to_every_model(self) -> None:
        ledger = Ledger(Limits(requests=100, batches=40))
        ledger.renew("a", {"m": ledger.asks((LIST, 1))}, refusal(ledger, 1, batches=2))
        ledger.now_ms += 70_000
        ledger.renew("a", {"m": ledger.asks((LIST, 1), reach_ms=60_000)})
        grant = ledger.renew("b", {"n": ledger.asks((LIST, 5), reach_ms=60_000)})
        assert grant.allotments["n"].limits.batches == 2
        assert ledger.booked() <= 2

    def test_it_is_forgotten_a_window_after_the_pause(self) -> None:
        ledger = Ledger()
        ledger.renew("a", {"m": ledger.asks((LIST, 1))}, refusal(ledger, 1))
        ledger.now_ms += 62_000
        assert ledger.renew("a", {"m": ledger.asks((LIST, 1))}).batches_until_ms == 0
        assert BATCHES in ledger.state.sections  # Another consumer is suspected for longer.
        ledger.now_ms += 60 * 60_000
        ledger.renew("a", {"m": ledger.asks((LIST, 1))})
        assert BATCHES not in ledger.state.sections
