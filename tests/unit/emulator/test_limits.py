"""The windows and days of shared.emulator.limits, against a count by hand."""

from __future__ import annotations

import random
from datetime import UTC, datetime

import pytest

from shared.emulator.config import Limits
from shared.emulator.limits import ModelQuota, SlidingWindow, next_midnight_s

NO_DAY = 1_800_000_000.0


def held(times: list[tuple[float, int]], end_s: float, length_s: float) -> tuple[int, int]:
    inside = [cost for at_s, cost in times if end_s - length_s < at_s <= end_s]
    return len(inside), sum(inside)


@pytest.mark.parametrize("seed", range(20))
def test_peak_is_over_all_windows_with_the_arrival(seed: int) -> None:
    rng = random.Random(seed)
    window, kept = SlidingWindow(10.0), []
    for _ in range(120):
        # A coarse clock makes arrivals coincide with each other and with the ends of windows.
        at_s, cost = 100 + rng.randint(0, 60) / 2, rng.randint(0, 9)
        ends = [at_s, *(other for other, _ in kept if at_s <= other < at_s + 10)]
        counts = [held([*kept, (at_s, cost)], end_s, 10.0) for end_s in ends]
        assert window.peak_with(at_s, cost) == (max(c for c, _ in counts), max(s for _, s in counts))
        window.add(at_s, cost)
        kept.append((at_s, cost))


def test_a_request_fits_again_exactly_one_window_later() -> None:
    quota, limits = ModelQuota(60.0), Limits(rpm=2)
    assert not quota.admit(100.0, 1, limits, NO_DAY)
    assert not quota.admit(101.0, 1, limits, NO_DAY)
    assert quota.admit(159.999, 1, limits, NO_DAY)
    assert not quota.admit(160.0, 1, limits, NO_DAY)


def test_a_refused_request_does_not_count() -> None:
    quota, limits = ModelQuota(60.0), Limits(rpm=1)
    quota.admit(0.0, 1, limits, NO_DAY)
    assert all(quota.admit(float(t), 1, limits, NO_DAY) for t in range(1, 60))
    assert not quota.admit(60.0, 1, limits, NO_DAY)
    assert (quota.max_requests, quota.max_offered_requests) == (1, 60)


def test_late_decision_does_not_overfill_a_window() -> None:
    quota, limits = ModelQuota(60.0), Limits(rpm=1)
    assert not quota.admit(100.0, 1, limits, NO_DAY)
    assert quota.admit(99.0, 1, limits, NO_DAY), "the window (40, 100] would hold two"
    assert not quota.admit(40.0, 1, limits, NO_DAY)


@pytest.mark.parametrize("seed", range(5))
def test_named_wait_is_exact(seed: int) -> None:
    rng = random.Random(seed)
    quota, limits = ModelQuota(10.0), Limits(rpm=6, tpm=100)
    now_s = 0.0
    for _ in range(200):
        now_s += rng.random() * 2
        tokens = rng.randint(1, 50)
        if exceeded := quota.admit(now_s, tokens, limits, NO_DAY):
            wait_s = max(one.wait_s for one in exceeded)
            assert 0 < wait_s <= 10
            assert quota.admit(now_s + wait_s - 0.001, tokens, limits, NO_DAY)
            now_s += wait_s + 1e-9
            assert not quota.admit(now_s, tokens, limits, NO_DAY)


def test_a_request_larger_than_the_whole_limit_is_never_admitted() -> None:
    exceeded = ModelQuota(60.0).admit(0.0, 101, Limits(tpm=100), NO_DAY)
    assert [(one.dimension, one.limit, one.wait_s) for one in exceeded] == [("tpm", 100, 60.0)]


def test_zero_limit_rejects_every_request() -> None:
    exceeded = ModelQuota(60.0).admit(0.0, 1, Limits(rpm=0, tpm=0, rpd=0), NO_DAY)
    assert {one.dimension for one in exceeded} == {"rpm", "tpm", "rpd"}


def test_memory_stays_bounded_while_counts_stay_exact() -> None:
    window = SlidingWindow(1.0)
    for number in range(300_000):
        window.add(number / 1000, 1)
    assert len(window._times) < 200_000
    assert window.peak_with(299.999, 1) == (1001, 1001)


@pytest.mark.parametrize(
    ("now", "midnight"),
    [
        ("2026-07-01T12:00:00", "2026-07-02T07:00:00"),
        ("2026-12-01T12:00:00", "2026-12-02T08:00:00"),
        ("2026-03-08T09:00:00", "2026-03-09T07:00:00"),
        ("2026-11-01T08:30:00", "2026-11-02T08:00:00"),
    ],
)
def test_day_ends_at_midnight_pacific(now: str, midnight: str) -> None:
    def utc(text: str) -> float:
        return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()

    assert next_midnight_s(utc(now)) == utc(midnight)


def test_day_has_its_own_count_and_wait() -> None:
    quota, limits = ModelQuota(60.0), Limits(rpd=1)
    end_s = next_midnight_s(NO_DAY)
    assert not quota.admit(0.0, 1, limits, end_s - 100)
    assert [one.wait_s for one in quota.admit(90.0, 1, limits, end_s - 10)] == [10]
    assert not quota.admit(100.0, 1, limits, end_s)
