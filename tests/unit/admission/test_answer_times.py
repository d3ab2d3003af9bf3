"""What a model's recent answers tell about the time that a request needs."""

from __future__ import annotations

from collections.abc import Iterable

from shared.admission.answer_times import MAX_AGE_S, MAX_ANSWERS, MAX_MODELS, MIN_DURATIONS, AnswerTimes


def times_of(took_s: Iterable[float], model: str = "m", *, streamed: bool = False) -> AnswerTimes:
    times = AnswerTimes()
    for one in took_s:
        times.record(model, one, 0.0, streamed=streamed)
    return times


def test_nothing_is_known_of_fewer_than_ten() -> None:
    times = times_of([5.0] * 9)
    assert (times.fastest_tenth_s("m", 0.0), times.median_s("m", 0.0)) == (0.0, None)
    times.record("m", 5.0, 0.0)
    assert (times.fastest_tenth_s("m", 0.0), times.median_s("m", 0.0)) == (5.0, 5.0)


def test_the_fastest_tenth_of_fifty_are_five() -> None:
    times = times_of(float(n) for n in reversed(range(1, 51)))
    assert (times.fastest_tenth_s("m", 0.0), times.median_s("m", 0.0)) == (5.0, 25.0)


def test_only_the_last_fifty_count() -> None:
    times = times_of([1.0] * 100 + [9.0] * MAX_ANSWERS)
    assert times.fastest_tenth_s("m", 0.0) == 9.0


def test_models_and_kinds_are_apart() -> None:
    times = times_of([5.0] * 10)
    for _ in range(10):
        times.record("m", 0.5, 0.0, streamed=True)
    assert times.fastest_tenth_s("m", 0.0, streamed=True) == 0.5
    assert times.fastest_tenth_s("m", 0.0) == 5.0
    assert times.fastest_tenth_s("n", 0.0) == 0.0


def test_old_answers_are_forgotten() -> None:
    """Otherwise a model that became faster would be closed to impatient callers for good."""
    times = times_of([60.0] * 50)
    assert times.fastest_tenth_s("m", MAX_AGE_S) == 60.0
    assert times.fastest_tenth_s("m", MAX_AGE_S + 1) == 0.0


def test_a_faster_model_corrects_its_record() -> None:
    times = times_of([60.0] * 50)
    for _ in range(5):
        times.record("m", 1.0, 1.0)
    assert times.fastest_tenth_s("m", 1.0) == 1.0


def test_models_are_bounded() -> None:
    times = AnswerTimes()
    for number in range(MAX_MODELS + 5):
        for _ in range(10):
            times.record(f"m{number}", 1.0, 0.0)
    assert (times.fastest_tenth_s("m4", 0.0), times.fastest_tenth_s("m5", 0.0)) == (0.0, 1.0)


def test_the_rest_is_that_of_answers_that_took_longer() -> None:
    times = times_of(float(n) for n in range(1, 21))
    assert times.left_s("m", 0.0, 0.0) == 18.0
    assert times.left_s("m", 10.0, 0.0) == 9.0
    assert times.left_s("m", 19.5, 0.0) == 0.5


def test_beyond_every_answer_the_rest_is_as_long_again() -> None:
    """Otherwise each 50th caller who leaves would keep a slot to its deadline."""
    assert times_of([1.0, 2.0, 3.0]).left_s("m", 4.0, 0.0) == 4.0


def test_the_slowest_model_stands_for_an_unknown_one() -> None:
    times = times_of([1.0] * 3)
    for _ in range(3):
        times.record("slow", 20.0, 0.0)
    times.record("rare", 50.0, 0.0)
    assert times.left_s("other", 0.0, 0.0) == 20.0
    assert times.left_s("rare", 0.0, 0.0) == 20.0
    assert times.left_s("m", 0.0, 0.0) == 1.0


def test_the_rest_is_unknown_without_recent_answers() -> None:
    assert times_of([1.0] * (MIN_DURATIONS - 1)).left_s("m", 0.0, 0.0) is None
    assert times_of([1.0] * 9).left_s("m", 0.0, MAX_AGE_S + 1) is None
