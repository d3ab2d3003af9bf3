"""The store's time as an interval."""

from __future__ import annotations

import pytest

from shared.admission.server_clock import DRIFT, ServerClock
from shared.stores.port import TimeSample


class Elapsed:
    now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


def test_sample_bounds_the_store_time() -> None:
    elapsed = Elapsed()
    clock = ServerClock(elapsed)
    assert not clock.known
    elapsed.now_s = 1000.2
    clock.observe(TimeSample(server_ms=5_000_000, sent_s=1000.0, received_s=1000.2))
    assert clock.bounds_ms() == pytest.approx((5_000_000, 5_000_200), abs=0.2)


def test_samples_narrow_each_other() -> None:
    elapsed = Elapsed()
    clock = ServerClock(elapsed)
    clock.observe(TimeSample(5_000_000, 999.8, 1000.0))
    assert clock.observe(TimeSample(5_000_150, 1000.0 - 0.010, 1000.0))
    earliest_ms, latest_ms = clock.bounds_ms()
    assert latest_ms - earliest_ms == pytest.approx(10, abs=0.3)


def test_the_interval_widens_with_age_on_both_sides() -> None:
    elapsed = Elapsed()
    clock = ServerClock(elapsed)
    clock.observe(TimeSample(5_000_000, 1000.0, 1000.0))
    elapsed.now_s = 1100.0
    earliest_ms, latest_ms = clock.bounds_ms()
    assert (earliest_ms, latest_ms) == pytest.approx((5_100_000 - 100_000 * DRIFT, 5_100_000 + 100_000 * DRIFT))
    assert (clock.earliest_ms(), clock.latest_ms()) == (earliest_ms, latest_ms)


@pytest.mark.parametrize("error_ms", [-0.001, 0.001])
def test_the_rounding_of_a_time_is_no_contradiction(error_ms: float) -> None:
    elapsed = Elapsed()
    clock = ServerClock(elapsed)
    clock.observe(TimeSample(5_000_000, 1000.0, 1000.0))
    assert clock.observe(TimeSample(5_000_000 + error_ms, 1000.0, 1000.0))
    assert clock.earliest_ms() <= 5_000_000 <= clock.latest_ms()


@pytest.mark.parametrize("step_ms", [-300_000, 300_000])
def test_contradicting_sample_replaces_the_interval(step_ms: int) -> None:
    elapsed = Elapsed()
    clock = ServerClock(elapsed)
    clock.observe(TimeSample(5_000_000, 1000.0, 1000.0))
    assert not clock.observe(TimeSample(5_000_000 + step_ms, 1000.0, 1000.0))
    assert clock.earliest_ms() == pytest.approx(5_000_000 + step_ms)
