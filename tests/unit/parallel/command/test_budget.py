"""--budget."""

from __future__ import annotations

import pytest
from gemini_parallel.command.budget import Budget, highest_of
from hypothesis import given
from hypothesis import strategies as st

from shared.batch.item import Item, Medium
from shared.batch.prices import MAX_INPUT_TOKENS, Price
from shared.batch.result import Result
from shared.generation import UNKNOWN_USAGE, Usage

DOLLAR = Price(1_000_000.0, 0.0)
"""Each input token costs a dollar."""
ITEM = Item(("x",))


def answer(dollars: int) -> Result:
    return Result(0, "text", None, usage=Usage(dollars, 0, 0, dollars))


def test_the_first_prompt_is_sent_alone() -> None:
    budget = Budget(100, DOLLAR)
    assert budget.admits()
    budget.sent()
    assert not budget.admits() and not budget.is_used_up()
    budget.answered(answer(10), ITEM)
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
            budget.answered(answer(in_flight.pop(0)), ITEM)
        else:
            assert budget.is_used_up()
            break
    assert budget.spent <= dollars + workers * 50


def test_an_answer_without_a_count_costs_the_most() -> None:
    """Of its own item, and it is no measure for the others."""
    budget = Budget(5.0, Price(1.0, 10.0))
    budget.sent()
    item = Item(("x",), {"maxOutputTokens": 1_000_000})
    budget.answered(Result(0, "text", None, usage=UNKNOWN_USAGE, attempts=1, lost=1), item)
    assert (budget.spent, budget.uncounted, budget.dearest) == (pytest.approx(10.0, rel=0.01), 1, None)
    assert not budget.admits() and budget.is_used_up()


def test_what_may_have_been_generated_is_charged() -> None:
    """An answer that was cut, then the whole one; and one that failed before anything was generated."""
    price, item = Price(1.0, 10.0), Item(("x",), {"maxOutputTokens": 100})
    budget = Budget(5.0, price)
    budget.sent()
    budget.answered(Result(0, "text", None, usage=Usage(10, 20, 0, 30), attempts=2, lost=1), item)
    assert budget.spent == pytest.approx(price.of_tokens(10, 20) + price.of_tokens(10, 100))
    assert budget.dearest == pytest.approx(price.of_tokens(10, 20))
    budget.sent()
    before = budget.spent
    budget.answered(Result(0, None, "failed", code="upstream_failed", attempts=3), item)
    assert budget.spent == before


def test_a_file_of_unknown_length_is_charged_as_the_longest() -> None:
    medium = Medium("video", "url", "https://youtu.be/1", "video/mp4", "video_url")
    dollars = highest_of(Price(1.0, 0.0), Item((medium,)), UNKNOWN_USAGE)
    assert dollars == pytest.approx(MAX_INPUT_TOKENS / 1_000_000)


def test_without_a_budget_everything_is_sent() -> None:
    budget = Budget(None, None)
    for _ in range(100):
        assert budget.admits()
        budget.sent()
    budget.answered(answer(5), ITEM)
    assert budget.spent == 0
