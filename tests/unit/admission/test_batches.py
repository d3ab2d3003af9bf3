"""Batches of embeddings in one process: a permit has its requests and its batch, or neither."""

from __future__ import annotations

import pytest

from shared.accounts.account import Account
from shared.admission.bookings import Booking
from shared.admission.config import ProcessConfig
from shared.admission.holdings import Holdings
from shared.admission.model_permits import ModelPermits
from shared.admission.names import Names
from shared.admission.queue import Ahead, FairQueue, Ordered, Waiter
from shared.admission.rejection import exceeded
from shared.generation import NO_COST, Cost
from shared.ledger.grid import Grid
from shared.ledger.limits import Limits
from shared.ledger.state import BATCHES, ModelGrant, QuotaSignal, SlotRange
from shared.secret import Secret

GRID = Grid.of(60)
NOW_MS = 1_800_000_000_000
NOW = GRID.slot(NOW_MS)
LIMITS = Limits(requests=100, batches=4)
LIST = Cost(10, 0, batches=1)
LATER = SlotRange(NOW + 40, NOW + 43)


def holding(*amounts: Cost, first: int = NOW - 1) -> ModelPermits:
    permits = ModelPermits(GRID, LIMITS, LIMITS)
    permits.last = ModelGrant({}, LIMITS)
    for at, amount in enumerate(amounts):
        permits.bookings[SlotRange(first, first + 20 + at)] = Booking(amount)
    return permits


def waiter(cost: Cost, sequence: int, caller: str = "c") -> Waiter:
    made = Waiter("m", cost, caller, False, 0.0, 10.0, [], [], None)  # type: ignore[arg-type]
    made.tag, made.sequence = float(sequence), sequence
    return made


class TestDrawing:
    def test_requests_and_batch_are_drawn_together_from_two_bookings(self) -> None:
        permits = holding(Cost(10), Cost(1, 0, 0, 1))
        draw = permits.draw(LIST, NOW_MS, NOW_MS)
        assert draw is not None
        assert sum((part.requests for _, part in draw), 0) == 10
        assert permits.available(NOW_MS) == Cost(1)

    @pytest.mark.parametrize("lacking", [Cost(9, 0, 0, 1), Cost(10)])
    def test_without_either_nothing_is_reserved(self, lacking: Cost) -> None:
        permits = holding(lacking)
        assert permits.draw(LIST, NOW_MS, NOW_MS) is None
        assert permits.available(NOW_MS) == lacking
        assert all(booking.reserved == NO_COST for booking in permits.bookings.values())

    def test_what_was_not_sent_returns_both(self) -> None:
        permits = holding(LIST)
        draw = permits.draw(LIST, NOW_MS, NOW_MS)
        assert draw is not None
        permits.put_back(draw)
        assert permits.available(NOW_MS) == LIST

    def test_a_dispatch_is_reported_with_all_its_requests(self) -> None:
        permits = holding(LIST)
        draw = permits.draw(LIST, NOW_MS, NOW_MS)
        assert draw is not None
        permits.dispatch(draw, LIST, NOW)
        assert permits.settled == {NOW: LIST}

    def test_trimming_keeps_no_batch_of_a_list_that_is_cut(self) -> None:
        permits = holding(LIST)
        permits.trim(4)
        assert permits.available(NOW_MS) == Cost(4)


class TestAStop:
    def test_no_batch_is_drawn_before_it_ends(self) -> None:
        permits = holding(LIST.times(2))
        permits.stop_batches(NOW_MS + 5_000)
        assert permits.draw(LIST, NOW_MS, NOW_MS) is None
        assert permits.draw(Cost(1), NOW_MS, NOW_MS) is not None

    def test_a_batch_that_was_drawn_before_is_not_written(self) -> None:
        permits = holding(LIST, Cost(1))
        batch, single = permits.draw(LIST, NOW_MS, NOW_MS), permits.draw(Cost(1), NOW_MS, NOW_MS)
        assert batch is not None and single is not None
        permits.stop_batches(NOW_MS + 5_000)
        assert not permits.may_write(batch, 0.0, NOW_MS, NOW_MS)
        assert permits.may_write(single, 0.0, NOW_MS, NOW_MS)

    def test_batches_booked_for_its_end_are_kept(self) -> None:
        permits = holding(LIST)
        permits.bookings[LATER] = Booking(LIST)
        permits.stop_batches(NOW_MS + 5_000)
        assert permits.bookings[LATER].available == LIST
        assert permits.available(NOW_MS).batches == 1

    def test_a_refusal_stops_the_batches_of_every_model_at_once(self) -> None:
        account = Account("a", "p", Secret("k"), 5, LIMITS)
        holdings = Holdings(account, ProcessConfig("i", GRID, 5.0))
        for model in ("m", "n"):
            holdings.models[model] = holding(LIST)
        holdings.refuse(QuotaSignal(BATCHES, NOW_MS + 5_000, minute=(3,), sent_ms=NOW_MS))
        for permits in holdings.models.values():
            assert permits.available(NOW_MS) == Cost(10)
            assert permits.open_until_ms == 0


class TestWhatIsAhead:
    def test_requests_and_batches_of_lists_are_counted(self) -> None:
        order: Ordered[Waiter] = Ordered()
        for at, cost in enumerate([LIST, Cost(1, 7), Cost(3, 5, 0, 1)]):
            order.add(waiter(cost, at))
        assert order.ahead(waiter(Cost(1), 9)) == Ahead(3, 14, 12, 2)

    def test_a_long_list_takes_as_many_turns_as_requests(self) -> None:
        queue = FairQueue()
        lists, singles = waiter(LIST, 0, "lists"), waiter(Cost(1), 0, "singles")
        lists.tag = singles.tag = 0.0
        queue.place(lists)
        queue.place(singles)
        assert lists.tag == pytest.approx(10 * singles.tag)


class TestLimits:
    def test_an_embedding_model_has_googles_quota_of_batches(self) -> None:
        account = Account("a", "p", Secret("k"), 5, Limits(requests=9), {"own": Limits(requests=5, batches=3)})
        names = Names(account, None, {"e": 150, "own": 150})
        found = [names.limits(model).batches for model in ("e", "own", "chat")]
        assert found == [150, 3, None]

    def test_a_list_above_the_limit_is_explained(self) -> None:
        assert "needs 10 requests per minute" in str(exceeded(Limits(requests=9), "e", LIST))
        assert "batches of embeddings per minute" in str(exceeded(Limits(batches=0), "e", LIST))
