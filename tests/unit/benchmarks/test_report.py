"""What the benchmarks make of their windows: statistics, goals and the table."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.benchmarks.deployed import Deployed, Imports, import_table
from tests.benchmarks.figures import Cell, Comparison, Figures, best, compare, figures, percentile
from tests.benchmarks.load import Window
from tests.benchmarks.table import Process, deployed_table, goals, goals_table, lags_table, processes_table, section
from tests.benchmarks.upstream import FRAMES, Upstream
from tests.benchmarks.waiting import GOAL_KB, row
from tests.benchmarks.waiting import Figures as Waiting

BUSY = Cell(callers=32, latency_ms=0)
ALONE = Cell(callers=1, latency_ms=50)
STREAM = Cell(callers=32, latency_ms=0, stream=True)


def measured(cpu_ms: float, per_s: float = 1000.0, p50_ms: float = 2.0, p99_ms: float = 5.0) -> Figures:
    return Figures(requests=100, per_s=per_s, cpu_ms=cpu_ms, p50_ms=p50_ms, p99_ms=p99_ms)


def compared(cell: Cell, added_cpu_ms: float, added_p50_ms: float = 0.1) -> Comparison:
    ours = measured(0.2 + added_cpu_ms, per_s=500.0, p50_ms=2.0 + added_p50_ms)
    return compare(cell, [ours], [measured(0.2)])


def rows(table: str) -> list[list[str]]:
    """The cells of a table's lines after the two of its head."""
    lines = [line for line in table.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


@pytest.mark.parametrize(
    ("share", "expected"), [(0.5, 50), (0.99, 99), (0.991, 100), (1.0, 100), (0.0, 1), (0.01, 1), (0.011, 2)]
)
def test_percentile_is_the_smallest_sufficient_value(share: float, expected: int) -> None:
    assert percentile(range(1, 101), share) == expected


def test_a_percentile_of_one_value_is_that_value() -> None:
    assert [percentile([7.0], share) for share in (0.0, 0.5, 0.99)] == [7.0, 7.0, 7.0]


def test_a_window_becomes_rates_and_milliseconds_per_request() -> None:
    found = figures(Window(seconds=2.0, cpu_s=0.1, latencies_s=[0.004, 0.001, 0.003, 0.002], lags_s=[]))
    assert found == Figures(requests=4, per_s=2.0, cpu_ms=25.0, p50_ms=2.0, p99_ms=4.0)


def test_the_lag_of_events_is_compared_as_a_ratio() -> None:
    ours, base = (
        figures(Window(seconds=1.0, cpu_s=0.1, latencies_s=[0.1], lags_s=[lag_s, lag_s, 4 * lag_s]))
        for lag_s in (0.003, 0.002)
    )
    (row,) = rows(lags_table({"one": ours}, base))
    assert row == ["one", "3.00", "2.00", "**1.50**", "12.00", "8.00"]


def test_a_window_without_an_answer_is_no_figure() -> None:
    with pytest.raises(ValueError, match="nothing was answered"):
        figures(Window(seconds=1.0, cpu_s=0.1, latencies_s=[], lags_s=[]))


def test_each_figure_is_taken_from_the_round_where_it_is_best() -> None:
    found = best([measured(0.5, per_s=900, p50_ms=3, p99_ms=4), measured(0.4, per_s=800, p50_ms=2, p99_ms=9)])
    assert found == Figures(requests=200, per_s=900, cpu_ms=0.4, p50_ms=2, p99_ms=4)


def test_added_cost_compares_the_best_runs() -> None:
    """Its range is that of runs next to each other in time."""
    ours, base = [measured(0.6), measured(0.5), measured(0.9)], [measured(0.3), measured(0.35), measured(0.5)]
    found = compare(BUSY, ours, base)
    assert found.cpu_ms == pytest.approx(0.5 - 0.3)
    assert (found.least_cpu_ms, found.most_cpu_ms) == pytest.approx((0.15, 0.4))


def test_a_round_that_only_one_of_the_two_has_is_refused() -> None:
    with pytest.raises(ValueError, match="zip"):
        compare(BUSY, [measured(0.5)], [measured(0.3), measured(0.3)])


def test_worst_section_and_process_decide_the_goal() -> None:
    sections = {
        "free": [compared(BUSY, 0.3), compared(ALONE, 0.9, added_p50_ms=0.4), compared(STREAM, 2.0)],
        "counted": [compared(BUSY, 0.6), compared(ALONE, 0.9, added_p50_ms=0.7), compared(STREAM, 2.0)],
    }
    processes = {
        "pass-through": Process([9.0], 999.0),
        "free": Process([0.9, 0.7], 60.0),
        "counted": Process([1.5, 1.3], 70.0),
    }
    translated = [compared(BUSY, 0.2), compared(STREAM, 0.7)]
    cpu, p50, start, memory, completion, event = goals(sections, processes, translated)
    assert (cpu.value, cpu.met) == (pytest.approx(0.6), False)
    assert (p50.value, p50.met) == (pytest.approx(0.7), True)
    assert (start.value, start.met) == (1.3, False)
    assert (memory.value, memory.met) == (70.0, True)
    assert (completion.value, completion.met) == (pytest.approx(0.2), True)
    assert (event.value, event.met) == (pytest.approx(0.7 / FRAMES), False)


def test_a_goal_is_met_below_its_limit_and_not_at_it() -> None:
    (goal, *_) = goals({"one": [compared(BUSY, 0.1), compared(ALONE, 0.1)]}, {"one": Process([1.0], 1.0)}, [])
    assert not replace(goal, value=goal.limit).met
    assert replace(goal, value=goal.limit - 1e-9).met


def test_row_has_both_figures_and_the_difference() -> None:
    one = replace(compared(BUSY, 0.25), least_cpu_ms=-0.01, most_cpu_ms=0.3)
    (row,) = rows(section("A title", [one]))
    assert row == ["32", "0 ms", "500", "1000", "0.45", "0.20", "**+0.25** (-0.01 to +0.30)", "+0.1", "+0.0"]


def test_a_stream_is_named_by_its_frames() -> None:
    (row,) = rows(section("A title", [compared(STREAM, 0.5)]))
    assert row[1] == "10 frames in 90 ms"
    assert len(Upstream.stream) == FRAMES


def test_every_line_of_a_table_has_as_many_cells_as_its_head() -> None:
    tables = [
        section("A title", [compared(BUSY, 0.1), compared(STREAM, 0.2)]),
        processes_table({"one": Process([0.5, 0.4], 61.4)}),
        goals_table(goals({"one": [compared(BUSY, 0.1), compared(ALONE, 0.1)]}, {"one": Process([1.0], 1.0)}, [])),
    ]
    for table in tables:
        widths = {line.count("|") for line in table.splitlines() if line.startswith("|")}
        assert len(widths) == 1, table


def test_starts_are_listed_from_the_shortest_on() -> None:
    assert rows(processes_table({"one": Process([0.52, 0.41], 61.4)})) == [["one", "0.41, 0.52", "61"]]


def test_imports_are_counted_by_package_in_their_own_time() -> None:
    lines = [
        "import time: self [us] | cumulative | imported package",
        "import time:      1500 |       1500 |     starlette.requests",
        "import time:       500 |       2000 |   starlette",
        "import time:      3000 |       5000 | main",
        "something that a module printed",
    ]
    assert import_table(lines) == Imports(modules=3, ms=5.0, heaviest={"main": 3.0, "starlette": 2.0})


def test_function_is_represented_by_its_best_start() -> None:
    one = Deployed("chat", [0.52, 0.41], 61.6, Imports(300, 123.4, {"starlette": 50.2, "orjson": 3.4}))
    assert rows(deployed_table([one])) == [["chat", "0.41", "62", "300", "123", "starlette 50, orjson 3"]]


def test_a_goal_that_is_missed_stands_out() -> None:
    reached = goals({"one": [compared(BUSY, 0.6), compared(ALONE, 0.1)]}, {"one": Process([1.0], 1.0)}, [])
    cpu, p50, *_ = rows(goals_table(reached))
    assert cpu[1:] == ["0.5 ms", "0.60 ms", "**no**"]
    assert p50[3] == "yes"


def test_row_of_waiting_requests_marks_a_missed_goal() -> None:
    within = Waiting(1000, GOAL_KB, 95.4, (0.5, 15.0), (0.8, 5.0), None)
    assert row("in the queue", within) == (
        "| in the queue | 1,000 | 40.0 | 95 MB | 0.5 ms, 15 at most | 0.8 ms, 5 at most |  |"
    )
    assert " | **40.1** | " in row("on Gemini", replace(within, kb_each=GOAL_KB + 0.1))
