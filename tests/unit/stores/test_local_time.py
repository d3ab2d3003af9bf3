"""The time of a store on this machine: as exact as a float allows, and not more so."""

from __future__ import annotations

import random

import pytest

from shared.clock import elapsed_s
from shared.stores import local_time

DAY_S = 86_400.0


@pytest.mark.parametrize("offset_ms", [0.0, 1.8e12 + 1 / 3, 4e12 - 0.7])
@pytest.mark.parametrize("uptime_s", [0.0, 12 * DAY_S, 400 * DAY_S])
def test_no_two_samples_contradict_each_other_by_a_rounding(
    monkeypatch: pytest.MonkeyPatch, uptime_s: float, offset_ms: float
) -> None:
    """Each says that the offset to elapsed time lies in [low, high], which is how ServerClock reads it."""
    chance = random.Random(1)
    monkeypatch.setattr(local_time, "elapsed_s", lambda: uptime_s + chance.randrange(10**12) * 1e-9)
    samples = [local_time.sample(offset_ms) for _ in range(10_000)]
    lows = [sample.server_ms - sample.received_s * 1000 for sample in samples]
    highs = [sample.server_ms - sample.sent_s * 1000 for sample in samples]
    assert max(lows) <= min(highs)
    assert max(highs) - min(lows) < 0.01, "and they are exact to some us"


def test_it_goes_with_elapsed_time() -> None:
    before_s = elapsed_s()
    sample = local_time.sample(5_000.0)
    assert before_s * 1000 + 5_000 <= sample.server_ms <= elapsed_s() * 1000 + 5_000
