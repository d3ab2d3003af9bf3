"""Marks for another instance: they expire by themselves, and their number is bounded."""

from __future__ import annotations

from shared.sessions.marks import FOLLOW_MS, MAX_MARKS, STOP_MS, Marks, with_follow, with_stop

NONE = Marks({}, {})


def test_marks_are_added_and_packed() -> None:
    marks = with_follow(with_stop(NONE, "a", 100), ["b"], 100)
    assert marks == Marks({"a": 100 + STOP_MS}, {"b": 100 + FOLLOW_MS})
    assert Marks.unpack(marks.pack()) == marks
    assert Marks.unpack(None) == NONE


def test_the_entry_lives_as_long_as_its_last_mark() -> None:
    assert with_follow(with_stop(NONE, "a", 0), ["b"], STOP_MS).expires_ms == STOP_MS + FOLLOW_MS


def test_an_expired_mark_is_dropped_with_the_next_one() -> None:
    marks = with_follow(with_follow(NONE, ["a"], 0), ["b"], FOLLOW_MS)
    assert marks.follow == {"b": 2 * FOLLOW_MS}


def test_a_repeated_mark_lasts_longer() -> None:
    assert with_follow(with_follow(NONE, ["a"], 0), ["a"], 50).follow == {"a": 50 + FOLLOW_MS}


def test_the_number_of_marks_is_bounded() -> None:
    marks = NONE
    for number in range(MAX_MARKS + 1):
        marks = with_stop(marks, str(number), number)
    assert len(marks.stop) == MAX_MARKS
    assert "0" not in marks.stop
