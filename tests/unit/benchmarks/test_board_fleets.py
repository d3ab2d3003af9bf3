"""What a fleet of real processes is judged by: what arrived at Gemini, what its callers saw, what the store was sent."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.benchmarks.board.fleets import FLEETS, _takes_1_to_3_s, answers_of, figures_of
from tests.benchmarks.board.link import FarFirestore
from tests.benchmarks.board.results import FleetResult, load_fleet, save
from tests.support.fleet import MODELS, Seen
from tests.support.load import Load, Sent

CELL = FLEETS["processes-12-300-15-saturated"].cell
PERIOD = (160.0, 220.0)


def sent(start_s: float, queued_s: float | None, service_s: float = 2.0) -> Sent:
    end_s = start_s + (queued_s or 0.0) + service_s
    return Sent(0, 0, MODELS[0], start_s, end_s, 200 if queued_s is not None else 429, "", True, queued_s)


def load(*requests: Sent) -> Load:
    return Load(["http://balancer"], 64, MODELS[:1], 60.0, sent=list(requests), started_s=100.0)


def link(commits_s: list[float], conflicts_s: list[float], reads_s: list[float]) -> FarFirestore:
    made = FarFirestore("127.0.0.1:9", 0.02)
    made.commits_s, made.conflicts_s, made.reads_s = commits_s, conflicts_s, reads_s
    return made


def seen(arrivals_s: list[float], **refused: int) -> Seen:
    return Seen(refused, 14, {MODELS[0]: arrivals_s})


def test_rates_are_of_the_measured_time() -> None:
    arrivals_s = [150.0, *(160.0 + number / 4 for number in range(240)), 220.0]
    store = link([155.0, *(160.0 + number for number in range(60)), 221.0], [170.0] * 6, [165.0] * 120 + [159.9])
    figures = figures_of(CELL, seen(arrivals_s), load(), store, PERIOD, (20,) * 12)
    assert figures.served_per_min == pytest.approx(240)
    assert (figures.commits_per_s, figures.refused_per_s) == (pytest.approx(0.9), pytest.approx(0.1))
    assert figures.reads_per_s == pytest.approx(2.0)
    assert figures.writes_per_request == pytest.approx(0.25)
    assert figures.worst_at_once == 14
    assert figures.sizes == (20,) * 12


def test_limits_are_judged_over_the_whole_run() -> None:
    arrivals_s = [101.0] * 301 + [170.0]
    figures = figures_of(CELL, seen(arrivals_s, rpm=2), load(), link([], [], []), PERIOD, ())
    assert (figures.worst_window, figures.rejected) == (301, 2)


def test_waits_are_those_of_answered_requests_in_the_period() -> None:
    requests = [sent(150.0, 12.0), sent(180.0, 5.0), sent(100.0, 50.0), sent(190.0, None)]
    figures = figures_of(CELL, seen([170.0]), load(*requests), link([], [], []), PERIOD, ())
    assert 5.0 < figures.wait_p99_s <= 12.0
    # 64 callers go round one queue of five a second, and are two seconds at Gemini.
    assert figures.ideal_p99_s == pytest.approx(64 / 5 - 2.0)
    assert figures.offered_per_min == pytest.approx(2.0)


def test_a_run_without_arrivals_has_no_figures() -> None:
    with pytest.raises(ValueError, match="nothing arrived"):
        figures_of(CELL, seen([101.0]), load(), link([], [], []), PERIOD, ())


def test_outcomes_are_counted_by_status_and_code() -> None:
    limited = replace(sent(160.0, None), told="429 queue_timeout: No permit is free before the deadline.")
    assert answers_of(load(sent(150.0, 1.0), limited, limited)) == {"answered": 1, "429 queue_timeout": 2}


def test_a_result_with_outcomes_is_saved(tmp_path: Path) -> None:
    figures = figures_of(CELL, seen([170.0]), load(), link([], [], []), PERIOD, (1,))
    one = FleetResult("processes-12-300-15-saturated", figures, {}, answers_of(load(sent(150.0, 1.0))))
    save(tmp_path, one)
    assert load_fleet(tmp_path, one.cell) == one


def test_requests_take_1_to_3_seconds_two_on_average() -> None:
    taken_ms = [int(_takes_1_to_3_s(number).removeprefix("[[latency:").removesuffix("]]")) for number in range(1000)]
    assert min(taken_ms) >= 1000 and max(taken_ms) <= 3000
    assert 1900 < sum(taken_ms) / len(taken_ms) < 2100
