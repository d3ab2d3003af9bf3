"""What to do next about a ledger, as values: when to read, when to renew, what to ask for. And that deciding changes nothing."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from shared.admission import policy as module
from shared.admission.budget import HOLD_S, POLL_S, SPARE_POLL_S
from shared.admission.decisions import IDLE, Assessment, Contact, Linger, Looked, Message
from shared.admission.holdings import Holdings
from shared.admission.ledger_document import Document
from shared.admission.policy import PASSED_OVER_S, TRY_AGAIN_S, Policy
from shared.admission.queue import Waiter
from shared.admission.wait_list import WaitList
from shared.generation import Cost
from shared.ledger.packing import pack, unpack
from shared.ledger.slots import Standing
from shared.ledger.state import Demand, QuotaSignal, RenewRequest, State
from shared.ledger.step import renew
from shared.secret import Secret
from tests.unit.admission.test_holdings import GRID, LIMITS, NOW, ONE, START_MS, at, granted, holdings

NOBODY: Any = None
MESSAGE = Message(number=2)
UNSEEN = Looked()


def longest(low: float, high: float) -> float:
    return high


def policy(held: Holdings, waiting: int = 0, cost: Cost = ONE) -> Policy:
    line = WaitList(held.names.section)
    for number in range(waiting):
        waiter = Waiter("m", cost, f"caller {number}", False, 99.0, 130.0, [], [], NOBODY)
        waiter.sequence, waiter.tag = number + 1, number + 1.0
        line.add(waiter)
    return Policy(held, line, longest)


def fleet(wants: dict[str, int], callers: int = 1, at_ms: int = START_MS) -> Document:
    """A ledger's document in which each instance wants so many slots of 4, and one request for each of them."""
    state = State(GRID.window_ms)
    for number, (instance, wanted) in enumerate(wants.items()):
        demands = {"m": Demand(LIMITS, wants=((ONE, wanted),), waiting=True)} if wanted else {}
        message = RenewRequest(
            instance, 1, at_ms, 4, 60_000, hold=4, want_slots=wanted, callers=callers, oldest_ms=at_ms - 1000 + number,
            demands=demands,
        )  # fmt: skip
        renew(state, message, at_ms, GRID)
    value = pack(state)
    return Document(value, unpack(value), at_ms)


def read_again(document: Document, after_s: float) -> Document:
    return Document(document.value, unpack(document.value), START_MS + int(1000 * after_s))


class TestNextAction:
    def test_an_empty_process_is_idle(self) -> None:
        assert policy(holdings()).next_action(at(), pending=False) == IDLE

    def test_a_renew_without_a_result_is_repeated_now(self) -> None:
        assert policy(holdings()).next_action(at(), pending=True) == Contact(0.0)

    def test_a_refusal_is_reported_now(self) -> None:
        held = granted()
        held.refuse(QuotaSignal("m", until_ms=START_MS + 1))
        assert policy(held).next_action(at(), pending=False) == Contact(0.0)

    def test_an_idle_process_returns_what_it_holds(self) -> None:
        assert policy(granted()).next_action(at(), pending=False) == Contact(0.0)

    def test_an_idle_process_alone_lingers(self) -> None:
        held = granted()
        held.config = replace(held.config, linger_s=3.0)
        assert policy(held).next_action(at(), pending=False) == Linger(3.0)

    def test_stoppable_process_keeps_slots_for_frequent_requests(self) -> None:
        held = granted(cap=1)
        held.config = replace(held.config, holds_on=True)
        held.permits("m").per_s = 1.0
        assert held.grant is not None
        held.grant = replace(held.grant, free_slots=3)
        assert policy(held).next_action(at(), pending=False) == Linger(HOLD_S)
        held.scarce = True
        assert policy(held).next_action(at(), pending=False) == Contact(0.0)

    def test_a_waiting_request_without_authority_renews_now(self) -> None:
        assert policy(granted(), waiting=1).next_action(at(11.0), pending=False) == Contact(0.0)

    def test_a_waiting_request_with_permits_waits_for_half_a_lease(self) -> None:
        held = granted()
        assert policy(held, waiting=1).next_action(at(), pending=False) == Contact(5.0)

    def test_scarce_slots_are_polled(self) -> None:
        held = granted(cap=1)
        held.begin(1, "a", 100.0)
        held.scarce = True
        assert policy(held, waiting=1).next_action(at(), pending=False) == Contact(POLL_S)

    def test_scarce_permits_are_polled_until_a_retry_is_due(self) -> None:
        held = granted({}, unmet=ONE)
        assert policy(held, waiting=1).next_action(at(), pending=False) == Contact(POLL_S)
        assert policy(held, waiting=1).next_action(at(4.5), pending=False) == Contact(0.0)

    def test_unused_slots_are_looked_after(self) -> None:
        held = granted()
        held.begin(1, "a", 100.0)
        assert policy(held).next_action(at(), pending=False) == Contact(SPARE_POLL_S)

    def test_dispatches_are_reported_before_authority_ends(self) -> None:
        held = granted(cap=1)
        held.begin(1, "a", 100.0)
        held.claimed = 1
        held.held = 1
        held.permits("m").correct(ONE, NOW.first)
        assert policy(held).next_action(at(4.0), pending=False) == Contact(6.0)

    def test_few_spare_permits_renew_now(self) -> None:
        held = granted({})
        held.begin(1, "a", 100.0)
        held.permits("m").per_s = 5.0
        assert policy(held).next_action(at(1.1), pending=False) == Contact(0.0)

    def test_an_open_circuit_is_waited_for(self) -> None:
        held = granted(open_until_ms=START_MS + 3_000, cap=2)
        assert policy(held, waiting=1).next_action(at(), pending=False) == Contact(3.0)


class TestContact:
    def test_something_scarce_is_read(self) -> None:
        held = granted(cap=1)
        held.begin(1, "a", 100.0)
        held.scarce = True
        assert policy(held, waiting=1).contact(at(), pending=False) == "read"

    @pytest.mark.parametrize(("waiting", "pending", "after_s"), [(1, True, 0.0), (0, False, 0.0), (1, False, 6.0)])
    def test_what_is_due_is_written(self, waiting: int, pending: bool, after_s: float) -> None:
        held = granted(cap=1)
        held.scarce = True
        assert policy(held, waiting).contact(at(after_s), pending=pending) == "renew"


class TestPlan:
    def test_it_asks_for_slots_and_permits(self) -> None:
        held = granted()
        held.begin(1, "a", 100.0)
        plan = policy(held, waiting=2).plan(at(), Looked(), Message(7, callers_away=3))
        sent = plan.request
        assert (sent.number, sent.want_slots, sent.hold, sent.callers) == (7, 3, 2, 5)
        assert sent.oldest_ms == START_MS - 1000
        assert (plan.needs["m"].costs, plan.needs["m"].reach_ms) == ([ONE, ONE], 30_000)

    def test_an_idle_process_wants_nothing(self) -> None:
        held = granted()
        held.begin(1, "a", 100.0)
        held.end(1, 1.0, 5.0, 100.0)
        plan = policy(held).plan(at(), Looked(), MESSAGE)
        assert (plan.request.want_slots, plan.request.hold) == (0, 1)
        assert plan.request.ends_ms == (START_MS + 5_001,)
        assert plan.needs["m"].costs == []


class TestAssess:
    def assess(self, document: Document, held: Holdings, waiting: int = 0, looked: Looked = UNSEEN) -> Assessment:
        now = at((document.now_ms - START_MS) / 1000)
        return policy(held, waiting).assess(document, looked, MESSAGE, now)

    def test_an_instance_that_the_ledger_forgot_renews(self) -> None:
        assert self.assess(fleet({"other": 1}), granted(), 1).renew

    def test_slots_that_others_are_due_are_no_longer_used(self) -> None:
        held = granted(cap=4)
        for number in range(4):
            held.begin(number, "a", 100.0)
        held.held = 4
        found = self.assess(fleet({"me": 4, "other": 4}), held, 2)
        assert found.slots.scarce
        assert found.slots.cap < 4

    @pytest.mark.parametrize("me", ["first", "second"])
    def test_two_holders_agree_who_hands_a_slot_over(self, me: str) -> None:
        """Each knows how long its own requests wait by now, and how long those of the other waited at its last renew."""
        document = fleet({"first": 2, "second": 2, "new": 2}, callers=2)
        for lease in document.state.leases.values():
            lease.want_slots = 4
        held = granted(cap=2)
        held.config = replace(held.config, instance=me)
        for number in range(2):
            held.begin(number, "a", 100.0)
        later = Document(document.value, document.state, START_MS + 1_500)
        later.state.now_ms = later.now_ms
        assert self.assess(later, held, 2).slots.cap == {"first": 2, "second": 1}[me]

    def test_slots_are_scarce_for_an_instance_that_holds_all(self) -> None:
        """It reads, and does not write: it would get no more."""
        held = granted(cap=4)
        for number in range(4):
            held.begin(number, "a", 100.0)
        assert self.assess(fleet({"me": 6}), held, 2).slots.scarce

    def test_without_a_shortage_nothing_is_written(self) -> None:
        held = granted(cap=1)
        held.begin(1, "a", 100.0)
        found = self.assess(fleet({"me": 1}), held)
        assert (found.renew, found.slots.scarce) == (False, False)

    def test_free_permits_are_worth_a_renew_once_per_document(self) -> None:
        held = granted({}, cap=1, unmet=ONE, per_s=1.0)
        document = fleet({"me": 1})
        found = self.assess(document, held, 1)
        assert (found.renew, found.looked.tried) == (True, document.value)
        again = self.assess(read_again(document, 0.5 * TRY_AGAIN_S), held, 1, found.looked)
        assert not again.renew, "the document has not changed"
        assert self.assess(read_again(document, 1.1 * TRY_AGAIN_S), held, 1, found.looked).renew

    def test_unclaimed_slots_are_taken_after_a_while(self) -> None:
        place = Standing(held=1, due=1, free=2, before=2, owed=2)
        takes, looked = Policy._takes_slots(place, 3, UNSEEN, 100.0)
        assert (takes, looked) == (False, Looked(unclaimed_since_s=100.0))
        takes, looked = Policy._takes_slots(place, 3, looked, 100.1 + PASSED_OVER_S)
        assert (takes, looked.unclaimed, looked.claimed().unclaimed) == (True, True, False)
        assert Policy._takes_slots(place._replace(free=0), 3, looked, 102.0)[1].unclaimed_since_s == 0.0


# -- deciding changes nothing --------------------------------------------------------------------------------------------

DECISIONS: dict[str, Callable[[Policy], object]] = {
    "next_action": lambda made: made.next_action(at(), pending=False),
    "contact": lambda made: made.contact(at(), pending=False),
    "plan": lambda made: made.plan(at(), Looked(), MESSAGE),
    "assess": lambda made: made.assess(fleet({"me": 2, "other": 4}), Looked(), MESSAGE, at()),
    "linger_s": lambda made: made.linger_s(at()),
}


def state_of(value: Any) -> Any:
    """Everything that `value` is made of, as plain data that a later change does not reach."""
    if isinstance(value, dict):
        return [(key, state_of(one)) for key, one in value.items()]
    if isinstance(value, list | tuple | set | frozenset):
        return [state_of(one) for one in value]
    if type(value).__module__.startswith("shared.") and not isinstance(value, Secret):
        slots = [name for kind in type(value).__mro__ for name in getattr(kind, "__slots__", ())]
        return [(name, state_of(getattr(value, name))) for name in [*slots, *getattr(value, "__dict__", {})]]
    return value


def changes(decide: Callable[[Policy], object], made: Policy) -> bool:
    """Whether a decision changed what is held or what waits."""
    before = state_of((made.holdings, made.waiting))
    decide(made)
    return bool(state_of((made.holdings, made.waiting)) != before)


def busy() -> Policy:
    held = granted({NOW: Cost(1, 10)}, unmet=ONE, per_s=1.0)
    held.begin(1, "a", 100.0)
    held.cancelled.add(99.0)
    held.permits("m").correct(ONE, NOW.first)
    held.permits("m").per_s = 3.0
    return policy(held, waiting=3)


@pytest.mark.parametrize("name", DECISIONS)
@pytest.mark.parametrize("situation", [busy, lambda: policy(granted()), lambda: policy(holdings(), waiting=1)])
def test_a_decision_changes_nothing(name: str, situation: Callable[[], Policy]) -> None:
    assert not changes(DECISIONS[name], situation())


def test_a_policy_that_writes_an_attribute_is_noticed() -> None:
    """The defect that the test above is for, put in on purpose."""

    def writes(made: Policy) -> object:
        made.holdings.cap += 1
        return made.next_action(at(), pending=False)

    assert changes(writes, busy())


def test_the_source_assigns_no_attribute() -> None:
    tree = ast.parse(inspect.getsource(module))
    targets = [
        node for node in ast.walk(tree) if isinstance(node, ast.Attribute) and not isinstance(node.ctx, ast.Load)
    ]
    assert [ast.unparse(target) for target in targets] == []
