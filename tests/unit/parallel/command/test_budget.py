"""--budget."""

from __future__ import annotations

import pytest
from gemini_parallel.command.budget import Budget
from hypothesis import given
from hypothesis import strategies as st

from shared.batch.prices import Price
from shared.batch.result import Result
from shared.generation import UNKNOWN_USAGE, Usage

DOLLAR = Price(1_000_000.0, 0.0)
"""Each input token costs a dollar."""


def answer(dollars: int) -> Result:
    return Result(0, "text", None, usage=Usage(dollars, 0, 0, dollars))


def test_the_first_prompt_is_sent_alone() -> None:
    budget = Budget(100, DOLLAR)
    assert budget.admits()
    budget.sent()
    assert not budget.admits() and not budget.is_used_up()
    budget.answered(answer(10))
    assert budget.admits()


@given(st.lists(st.integers(1, 50), min_size=1, max_size=60), st.integers(1, 500), st.integers(1, 8))
def test_it_is_passed_by_at_most_what_was_in_flight(costs: list[int], dollars: int, workers: int) -> None:
    """Answers come in the order in which they were sent; a dearer one may be among those in flight."""
    budget, in_flight = Budget(dollars, DOLLAR), list[int]()
    left = list(costs)
    while left or in_flight:
        if left and len(in_flight) < workers and budget.admits():
            if budget.dearest is not None:
                assert budget.spent + (budget.in_flight + 1) * budget.dearest <= dollars
            budget.sent()
            in_flight.append(left.pop(0))
        elif in_flight:
            budget.answered(answer(in_flight.pop(0)))
        else:
            assert budget.is_used_up()
            break
    assert budget.spent <= dollars + workers * 50


def test_an_answer_without_a_count_costs_the_most() -> None:
    price = Price(1.0, 10.0)
    budget = Budget(5.0, price)
    budget.sent()
    budget.answered(Result(0, "text", None, usage=UNKNOWN_USAGE))
    assert (budget.spent, budget.uncounted) == (pytest.approx(price.highest), 1)


@pytest.mark.parametrize(("code", "is_charged"), [("upstream_timeout", True), ("upstream_failed", False)])
def test_what_may_have_been_generated_is_charged(code: str, is_charged: bool) -> None:
    budget = Budget(5.0, Price(1.0, 10.0))
    budget.sent()
    budget.answered(Result(0, None, "failed", code=code))
    assert (budget.spent > 0) is is_charged


def test_without_a_budget_everything_is_sent() -> None:
    budget = Budget(None, None)
    for _ in range(100):
        assert budget.admits()
        budget.sent()
    budget.answered(answer(5))
    assert budget.spent == 0
