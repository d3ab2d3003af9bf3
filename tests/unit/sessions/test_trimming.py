"""Which turns of a history are sent, and as what."""

from __future__ import annotations

import pytest

from shared.generation import UNKNOWN_USAGE
from shared.sessions.session import Answer, FileRef, TurnEntry
from shared.sessions.trimming import (
    HIGH_BY,
    MAX_COUNTS,
    contents,
    file_cost,
    first_fitting,
    text_cost,
    without_rejected,
)

CAT = FileRef("file-1", "cat.png", "image/png", 10)


def turn(number: int, text: str = "Hello", said: str | None = "Hi", *files: FileRef) -> TurnEntry:
    return TurnEntry(f"turn-{number}", number, text, files, 0, None if said is None else Answer("done", said))


class Counts:
    """Counts the turns from an index on; `per_cost` is how many tokens Gemini sees in what is estimated as 1."""

    def __init__(self, costs: list[float], per_cost: float | None) -> None:
        self.costs, self.per_cost = costs, per_cost
        self.asked: list[int] = []

    async def __call__(self, first: int) -> int | None:
        self.asked.append(first)
        return None if self.per_cost is None else int(sum(self.costs[first:]) * self.per_cost)


async def test_a_short_history_is_sent_whole_without_a_count() -> None:
    counts = Counts([10.0] * 50, 1)
    assert await first_fitting(counts.costs, 1000, counts) == 0
    assert counts.asked == []


@pytest.mark.parametrize("per_cost", [0.25, 0.3, 0.5, 0.77, 1.0])
async def test_near_the_limit_gemini_counts(per_cost: float) -> None:
    """The turns that are sent stay below the limit, and use it up but for a few per cent, however high the estimate is."""
    counts = Counts([10.0] * 1000, per_cost)
    first = await first_fitting(counts.costs, 1000, counts)
    tokens = sum(counts.costs[first:]) * per_cost
    assert 0.94 * 1000 < tokens <= 1000
    assert len(counts.asked) <= MAX_COUNTS


@pytest.mark.parametrize("counted", [None, 1000, 10**9])
def test_a_file_that_gemini_counted_is_not_estimated(counted: int | None) -> None:
    film = FileRef("file-2", "film.mp4", "video/mp4", 60 << 20)
    pending = turn(0, "What is this?", None, film)
    answer = Answer("done", "A film.", usage=UNKNOWN_USAGE._replace(prompt_tokens=counted))
    estimate = file_cost(pending)
    assert estimate > 500_000
    assert file_cost(pending._replace(answer=answer)) == min(estimate, counted or estimate)


async def test_turns_that_differ_are_counted_again() -> None:
    """Old turns have fewer tokens than their estimate, new ones more: the first correction is not enough."""
    costs = [10.0] * 1000

    async def count(first: int) -> int:
        return sum(2 if at < 800 else 10 for at in range(first, 1000))

    first = await first_fitting(costs, 1500, count)
    assert await count(first) <= 1500


async def test_without_a_count_the_estimate_decides() -> None:
    counts = Counts([10.0] * 100, None)
    first = await first_fitting(counts.costs, 500, counts)
    assert 480 < sum(counts.costs[first:]) <= 500
    assert counts.asked == [0]


async def test_counts_that_never_fit_end_with_the_estimate() -> None:
    costs, asked = [10.0] * 100, []

    async def count(first: int) -> int:
        asked.append(first)
        return 501

    first = await first_fitting(costs, 500, count)
    assert len(asked) == MAX_COUNTS
    assert 480 < sum(costs[first:]) <= 500


@pytest.mark.parametrize("per_cost", [None, 1.0])
async def test_the_newest_turn_is_always_sent(per_cost: float | None) -> None:
    counts = Counts([10.0, 10.0, 10_000.0], per_cost)
    assert await first_fitting(counts.costs, 500, counts) == 2


async def test_what_is_certainly_too_long_is_not_even_counted() -> None:
    counts = Counts([10.0] * 1000, 0.25)
    await first_fitting(counts.costs, 500, counts)
    assert sum(counts.costs[counts.asked[0] :]) <= HIGH_BY * 500


def test_roles_alternate() -> None:
    """Messages without an answer are joined with the next one."""
    found = contents(
        [turn(0), turn(1, "One", None), turn(2, "Two", None), turn(3, "Three", "Answer"), turn(4, "", None)], {}
    )
    assert [(one["role"], [part.get("text") for part in one["parts"]]) for one in found] == [
        ("user", ["Hello"]),
        ("model", ["Hi"]),
        ("user", ["One", "Two", "Three"]),
        ("model", ["Answer"]),
        ("user", []),
    ]


def test_files_come_before_their_message() -> None:
    part = {"fileData": {"mimeType": "image/png", "fileUri": "u"}}
    (one,) = contents([turn(0, "What is this?", None, CAT)], {"file-1": part})
    assert one["parts"] == [part, {"text": "What is this?"}]


def test_a_file_that_expired_is_named() -> None:
    (one,) = contents([turn(0, "", None, CAT)], {})
    assert one["parts"] == [{"text": "[The file cat.png is no longer stored.]"}]


def test_costs_cover_message_answer_and_files() -> None:
    assert text_cost(turn(0, "a" * 100, "b" * 200)) > 150
    assert text_cost(turn(0, "a" * 100, None)) < text_cost(turn(0, "a" * 100, "b"))
    assert file_cost(turn(0)) == 0
    assert file_cost(turn(0, "", None, CAT, CAT)) > 2000


@pytest.mark.parametrize(
    ("unanswered", "rejected", "kept"),
    [
        ((), (), [0, 1, 2, 3, 4]),
        ((1,), (), [0, 1, 2, 3, 4]),
        ((1,), (1,), [0, 2, 3, 4]),
        ((1, 2), (2,), [0, 3, 4]),
        ((1, 2), (1,), [0, 2, 3, 4]),
        ((2, 3), (3,), [0, 1, 4]),
        ((), (2,), [0, 1, 3, 4]),
        ((1,), (2,), [0, 3, 4]),
        ((0, 1, 2, 3, 4), (4,), [0, 1, 2, 3, 4]),
    ],
)
def test_rejected_turns_are_not_sent_again(
    unanswered: tuple[int, ...], rejected: tuple[int, ...], kept: list[int]
) -> None:
    """Nor the unanswered ones before them, which were in the same request."""
    turns = [turn(number, said=None if number in unanswered else "Hi") for number in range(5)]
    found = without_rejected(turns, {f"turn-{number}" for number in rejected})
    assert [one.number for one in found] == kept
