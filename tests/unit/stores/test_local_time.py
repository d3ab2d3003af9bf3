"""The time of a store on this machine: as exact as a float allows, and not more so."""

from __future__ import annotations

import random

import pytest

from shared.admission.server_clock import ServerClock
from shared.clock import elapsed_s
from shared.stores import local_time

DAY_S = 86_400.0


@pytest.mark.parametrize("offset_ms", [0.0, 1.8e12 + 1 / 3, 4e12 - 0.7])
@pytest.mark.parametrize("uptime_s", [0.0, 12 * DAY_S, 400 * DAY_S])
def test_no_two_samples_contradict_each_other(
    monkeypatch: pytest.MonkeyPatch, uptime_s: float, offset_ms: float
) -> None:
    """By the rounding of a float, they would."""
    chance = random.Random(1)
    now_s = uptime_s
    monkeypatch.setattr(local_time, "elapsed_s", lambda: now_s)
    clock = ServerClock(lambda: now_s)
    for _ in range(10_000):
        now_s += chance.randrange(100) * 1e-7
        assert clock.observe(local_time.sample(offset_ms))
    earliest_ms, latest_ms = clock.bounds_ms()
    assert latest_ms - earliest_ms < 0.01, "and they are exact to some us"


def test_it_goes_with_elapsed_time() -> None:
    before_s = elapsed_s()
    sample = local_time.sample(5_000.0)
    assert before_s * 1000 + 5_000 <= sample.server_ms <= elapsed_s() * 1000 + 5_000
