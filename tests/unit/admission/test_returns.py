"""Appointments of rejected requests: who is expected, in which order, for how long, and how many."""

from __future__ import annotations

import itertools
import random

import pytest

from shared.admission.returns import EARLY_S, GRACE_S, Appointment, Returns
from shared.generation import Cost

NUMBERS = itertools.count(1)


def appointment(due_s: float, tag: float = 1.0, caller: str = "a", **more: object) -> Appointment:
    values = {"ledger": "p", "section": "m", "batch": False, "cost": Cost(1, 10), **more}
    return Appointment(caller=caller, due_s=due_s, tag=tag, sequence=next(NUMBERS), **values)  # type: ignore[arg-type]


def waiting(tag: float, *, batch: bool = False) -> Appointment:
    """Any request whose place in the order is asked for."""
    return appointment(0.0, tag, batch=batch)


def expecting(*appointments: Appointment, most: int = 100) -> Returns:
    returns = Returns(600.0, most)
    assert all(returns.expect(one, 0.0) for one in appointments)
    return returns


def test_a_returning_caller_gets_its_place_back() -> None:
    one = appointment(10.0, tag=7.0)
    returns = expecting(one)
    assert returns.back([("p", "m")], "a", 10.0) is one
    assert len(returns) == 0
    assert returns.back([("p", "m")], "a", 10.0) is None


def test_the_earliest_due_appointment_is_fulfilled_first() -> None:
    later, sooner = appointment(11.0), appointment(10.0)
    returns = expecting(later, sooner)
    assert returns.back([("p", "m")], "a", 11.0) is sooner
    assert returns.back([("p", "m")], "a", 11.0) is later


def test_an_early_arrival_fulfils_nothing() -> None:
    returns = expecting(appointment(10.0))
    assert returns.back([("p", "m")], "a", 10.0 - EARLY_S - 0.01) is None
    assert returns.back([("p", "m")], "a", 10.0 - EARLY_S + 0.01) is not None


@pytest.mark.parametrize(
    ("ledgers", "model", "caller", "batch"),
    [(["q"], "m", "a", False), (["p"], "n", "a", False), (["p"], "m", "b", False), (["p"], "m", "a", True)],
    ids=["ledger", "model", "caller", "priority"],
)
def test_another_request_fulfils_nothing(ledgers: list[str], model: str, caller: str, batch: bool) -> None:
    returns = expecting(appointment(10.0))
    assert returns.back([(ledger, model) for ledger in ledgers], caller, 10.0, batch=batch) is None
    assert len(returns) == 1


def test_appointment_is_found_in_any_project() -> None:
    one = appointment(10.0, ledger="q")
    assert expecting(one).back([("p", "m"), ("q", "m")], "a", 10.0) is one


def test_late_caller_is_forgotten() -> None:
    returns = expecting(appointment(10.0))
    assert returns.ahead("p", "m", waiting(5.0), 10.0 + GRACE_S - 0.01)[::2] == (1, 10)
    assert returns.ahead("p", "m", waiting(5.0), 10.0 + GRACE_S)[::2] == (0, 0)
    assert returns.back([("p", "m")], "a", 10.0 + GRACE_S) is None
    assert (len(returns), returns.last_tag("a")) == (0, 0.0)


def test_only_earlier_places_are_ahead() -> None:
    returns = expecting(*(appointment(10.0, tag, cost=Cost(1, int(tag) * 100)) for tag in (3.0, 1.0, 2.0)))
    returns.expect(appointment(10.0, 1.0, section="n"), 0.0)
    assert returns.ahead("p", "m", waiting(2.5), 0.0)[::2] == (2, 300)
    assert returns.ahead("p", "m", waiting(0.5), 0.0)[::2] == (0, 0)


def test_batch_requests_come_after_all_interactive_ones() -> None:
    returns = expecting(appointment(10.0, 9.0), appointment(10.0, 1.0, batch=True))
    assert returns.ahead("p", "m", waiting(0.5, batch=True), 0.0)[::2] == (1, 10)
    assert returns.ahead("p", "m", waiting(9.5), 0.0)[::2] == (1, 10)


def test_new_requests_of_a_caller_come_after_its_appointments() -> None:
    returns = expecting(appointment(10.0, 4.0), appointment(11.0, 8.0))
    assert (returns.last_tag("a"), returns.last_tag("b")) == (8.0, 0.0)


def test_one_caller_leaves_room_for_others() -> None:
    returns = Returns(600.0, 100)
    flood = sum(returns.expect(appointment(10.0), 0.0) for _ in range(1_000))
    assert flood == 50
    assert sum(returns.expect(appointment(10.0, caller=f"c{n}"), 0.0) for n in range(1_000)) == 50
    assert len(returns) == 100


def test_appointments_reach_no_further_than_the_horizon() -> None:
    returns = Returns(60.0)
    assert not returns.expect(appointment(61.5), 1.0)
    assert returns.expect(appointment(60.5), 1.0)


def test_random_returns_leave_nothing_behind() -> None:
    """Whatever comes back or stays away, sums and counts end at zero."""
    chance = random.Random(3)
    returns, now_s = Returns(600.0, 500), 0.0
    for _ in range(3_000):
        now_s += chance.random() / 10
        caller = chance.choice("abcd")
        if chance.random() < 0.6:
            due_s, tag, cost = now_s + chance.randint(1, 20), chance.random() * 50, Cost(1, chance.randint(1, 9))
            returns.expect(appointment(due_s, tag, caller, batch=chance.random() < 0.2, cost=cost), now_s)
        else:
            returns.back([("p", "m")], caller, now_s, batch=chance.random() < 0.2)
        assert len(returns) <= 500
    returns.forget(now_s + 30)
    assert len(returns) == 0
    assert returns._away == {}
    assert returns._callers == {}
    assert returns._by_end == []
