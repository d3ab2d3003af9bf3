"""What the last answers of a model took."""

from __future__ import annotations

from shared.admission.answer_times import MAX_ANSWERS, MAX_MODELS, MIN_ANSWERS, AnswerTimes, Kind

UNARY, STREAMED = Kind("some-model", False), Kind("some-model", True)


def test_nothing_is_known_of_few_answers() -> None:
    times = AnswerTimes()
    for _ in range(MIN_ANSWERS - 1):
        times.record(UNARY, 1.0)
    assert (times.median_s(UNARY), times.fastest_tenth_s(UNARY)) == (None, None)
    times.record(UNARY, 1.0)
    assert (times.median_s(UNARY), times.fastest_tenth_s(UNARY)) == (1.0, 1.0)
    assert times.median_s(STREAMED) is None


def test_the_last_fifty_count() -> None:
    times = AnswerTimes()
    for took_s in [*[900.0] * 50, *range(MAX_ANSWERS)]:
        times.record(UNARY, took_s)
    assert (times.median_s(UNARY), times.fastest_tenth_s(UNARY)) == (24.5, 4)


def test_the_model_that_was_not_used_for_longest_is_forgotten() -> None:
    times = AnswerTimes()
    for kind in (UNARY, STREAMED):
        for _ in range(MIN_ANSWERS):
            times.record(kind, 2.0)
    times.record(UNARY, 2.0)
    for number in range(MAX_MODELS - 1):
        times.record(Kind(str(number), False), 1.0)
    assert (times.median_s(UNARY), times.median_s(STREAMED)) == (2.0, None)
