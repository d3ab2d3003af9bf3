"""The retry policy: what follows each failure, and the pauses."""

from __future__ import annotations

from typing import get_args

import pytest

from shared.gateway.failures import PRESSURE_DELAY_S
from shared.gateway.retry import (
    BACKOFF_S,
    MAX_TRIES,
    MIN_AFTER_DEADLINE_S,
    Decision,
    Others,
    Raise,
    Requeue,
    SameAccount,
    decide,
    pause_s,
)
from shared.gemini.errors import Kind, UpstreamFailure, Violation

DAY = Violation("requests", "day", 10)
MINUTE = Violation("requests", "minute", 10)
ZERO = Violation("requests", "minute", 0)
SPEND = Violation("spend", "day", None)


def decided(failure: UpstreamFailure, *, tries: int = 1, others: bool = True, left_s: float = 60.0) -> Decision:
    return decide(failure, tries, others, left_s, min_s=0.5, jitter=1.0)


FAILURES: dict[str, UpstreamFailure] = {
    **{kind: UpstreamFailure(kind, "x") for kind in get_args(Kind) if kind != "quota"},
    "no such model": UpstreamFailure("not_found", "models/gemini-x is not found for API version v1beta.", status=404),
    "unreadable answer": UpstreamFailure("malformed", "x", status=200),
    "quota of the day": UpstreamFailure("quota", "x", status=429, violations=(DAY,)),
    "quota of the minute": UpstreamFailure("quota", "x", status=429, violations=(MINUTE,)),
    "quota of zero": UpstreamFailure("quota", "x", status=429, violations=(ZERO,)),
    "spend": UpstreamFailure("quota", "x", status=429, violations=(SPEND,)),
}
TRANSIENT = SameAccount(2 * BACKOFF_S)
EXPECTED: dict[str, tuple[Decision, Decision]] = {
    "timeout": (Raise(), Raise()),
    "bad_request": (Raise(), Raise()),
    "not_found": (Raise(), Raise()),
    "no such model": (Others(0.0, excludes=True), Raise()),
    "unreadable answer": (Raise(), Raise()),
    "connect": (TRANSIENT, TRANSIENT),
    "reset": (TRANSIENT, TRANSIENT),
    "cut": (TRANSIENT, TRANSIENT),
    "malformed": (TRANSIENT, TRANSIENT),
    "server": (TRANSIENT, TRANSIENT),
    "overloaded": (TRANSIENT, TRANSIENT),
    "deadline": (TRANSIENT, TRANSIENT),
    "pressure": (Others(PRESSURE_DELAY_S, excludes=False), SameAccount(PRESSURE_DELAY_S)),
    "token": (Others(0.0, excludes=False), TRANSIENT),
    "quota of the minute": (Requeue(), Requeue()),
    "quota of zero": (Requeue(), Requeue()),
    "spend": (Requeue(), Requeue()),
    "quota of the day": (Others(0.0, excludes=True), Raise()),
    "account": (Others(0.0, excludes=True), Raise()),
    "key_invalid": (Others(0.0, excludes=True), Raise()),
    "restricted": (Others(0.0, excludes=True), Raise()),
    "permission": (Others(0.0, excludes=True), Raise()),
}
"""The decision with other accounts, and without."""


def test_every_failure_has_a_row() -> None:
    assert FAILURES.keys() == EXPECTED.keys()


@pytest.mark.parametrize("name", FAILURES)
def test_decision_for_each_failure(name: str) -> None:
    assert (decided(FAILURES[name]), decided(FAILURES[name], others=False)) == EXPECTED[name]


@pytest.mark.parametrize("name", FAILURES)
def test_last_try_raises(name: str) -> None:
    assert decided(FAILURES[name], tries=MAX_TRIES) == Raise()
    before = decided(FAILURES[name], tries=MAX_TRIES - 1)
    assert (before == Raise()) == (EXPECTED[name][0] == Raise())


@pytest.mark.parametrize("name", FAILURES)
def test_too_little_time_raises(name: str) -> None:
    assert decided(FAILURES[name], left_s=0.4) == Raise()


def test_pause_beyond_the_deadline_raises() -> None:
    failure = UpstreamFailure("overloaded", "x", retry_delay_s=10.0)
    assert decided(failure, left_s=10.0 + BACKOFF_S + 0.5) == Raise()
    assert decided(failure, left_s=10.0 + BACKOFF_S + 0.6) == SameAccount(10.0 + BACKOFF_S)


def test_gemini_deadline_needs_more_time_than_others() -> None:
    """Gemini rounds deadlines to seconds: its own deadline error comes up to a second before the request's deadline."""
    assert decided(FAILURES["deadline"], left_s=MIN_AFTER_DEADLINE_S - 0.1) == Raise()
    assert decided(FAILURES["server"], left_s=MIN_AFTER_DEADLINE_S - 0.1) == TRANSIENT


class TestPauses:
    @pytest.mark.parametrize("kind", ["overloaded", "server", "deadline", "pressure"])
    def test_google_delay_is_a_minimum(self, kind: Kind) -> None:
        failure = UpstreamFailure(kind, "x", retry_delay_s=30.0)
        shortest, longest = (pause_s(failure, 1, elsewhere=False, jitter=jitter) for jitter in (0.0, 1.0))
        assert (shortest, longest) == (30.0, 30.0 + BACKOFF_S)

    def test_delay_of_one_project_does_not_delay_another(self) -> None:
        failure = UpstreamFailure("pressure", "x", retry_delay_s=30.0)
        pauses = [pause_s(failure, 1, elsewhere=True, jitter=jitter) for jitter in (0.0, 1.0)]
        assert pauses == [PRESSURE_DELAY_S / 2, PRESSURE_DELAY_S]

    def test_backoff_doubles_with_each_try(self) -> None:
        failure = UpstreamFailure("overloaded", "x")
        longest = [pause_s(failure, tries, elsewhere=False, jitter=1.0) for tries in (1, 2, 3)]
        assert longest == [2 * BACKOFF_S, 4 * BACKOFF_S, 8 * BACKOFF_S]
