"""Models that a project does not have are remembered for ten minutes."""

from __future__ import annotations

from shared.gemini.missing import MAX_MESSAGE_CHARS, MAX_MISSING, MISSING_FOR_S, MissingModels


class Clock:
    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def test_known_for_ten_minutes_and_per_project():
    clock = Clock()
    missing = MissingModels(clock)
    missing.add("p", "m", "models/m is not found")
    assert missing.message("p", "m") == "models/m is not found"
    assert missing.message("q", "m") is None
    assert missing.message("p", "n") is None
    clock.now_s += MISSING_FOR_S - 1
    assert missing.message("p", "m") is not None
    clock.now_s += 1
    assert missing.message("p", "m") is None
    assert len(missing) == 0


def test_bounded_and_the_least_asked_for_goes_first():
    missing = MissingModels(Clock())
    missing.add("p", "first", "x")
    missing.add("p", "second", "x")
    assert missing.message("p", "first")
    for at in range(MAX_MISSING - 1):
        missing.add("p", f"m{at}", "x")
    assert len(missing) == MAX_MISSING
    assert missing.message("p", "first")
    assert missing.message("p", "second") is None


def test_a_long_message_is_cut():
    missing = MissingModels(Clock())
    missing.add("p", "m", "x" * 10_000)
    assert len(missing.message("p", "m") or "") == MAX_MESSAGE_CHARS
