"""The value types of a generation: rate limits and their combination."""

from __future__ import annotations

import pytest

from shared.generation import RateLimit, RateStatus, Reply, Timeline, Usage

FEW, MANY = RateLimit(300, 2, 50.0), RateLimit(300, 290, 60.0)


@pytest.mark.parametrize(
    ("one", "other", "tightest"),
    [
        (RateStatus(FEW), RateStatus(MANY), RateStatus(FEW)),
        (RateStatus(FEW, MANY), RateStatus(MANY, FEW), RateStatus(FEW, FEW)),
        (RateStatus(), RateStatus(MANY), RateStatus(MANY)),
        (RateStatus(), RateStatus(), RateStatus()),
        (RateStatus(FEW), RateStatus(FEW._replace(limit=10)), RateStatus(FEW._replace(limit=10))),
        (RateStatus(FEW), RateStatus(FEW._replace(reset_s=55.0)), RateStatus(FEW._replace(reset_s=55.0))),
    ],
    ids=["fewer remaining", "each limit by itself", "unlimited", "both unlimited", "smaller limit", "later reset"],
)
def test_tightest_of_two(one: RateStatus, other: RateStatus, tightest: RateStatus) -> None:
    assert one.tightest(other) == other.tightest(one) == tightest


def test_timeline_keeps_the_tightest_limits() -> None:
    timeline = Timeline()
    assert timeline.models is None
    for used, rate in (("m-1", RateStatus(MANY)), ("m-2", RateStatus(FEW)), ("m-3", RateStatus(MANY))):
        timeline.answered(Reply({}, "m", used, "account", Usage(), rate))
    assert (timeline.models, timeline.rate) == (("m", "m-3"), RateStatus(FEW))
