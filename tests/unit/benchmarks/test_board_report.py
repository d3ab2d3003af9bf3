"""What the board publishes: which cells there are, which goals they reach, and what it says where one is missed."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from tests.benchmarks.board.__main__ import BOARD, LEDGER, NAMES, README, _length_s
from tests.benchmarks.board.cells import (
    CALLERS,
    CELLS,
    NAIVE_RATES,
    PROCESSES,
    QUEUE_TIMEOUT_S,
    RATES,
    goals,
    period_s,
    plan,
)
from tests.benchmarks.board.fleets import FLEETS
from tests.benchmarks.board.judge import Fairness, Figures, Series
from tests.benchmarks.board.report import (
    BEGIN,
    COLUMNS_OF,
    END,
    FLEET_BEGIN,
    FLEET_END,
    board,
    ceiling,
    into,
    missed,
    pictures,
    summary,
)
from tests.benchmarks.board.results import FleetResult, Result, load, load_fleet, path_of, save
from tests.simulation import fleet
from tests.support.goals import Goal

FAIR = Fairness(jain=0.999, least=20, most=21, mean=20.5)
GOOD = Figures(
    limit=300,
    worst_window=300,
    most_at_once=64,
    requests=600,
    used=0.991,
    ideal_requests=600,
    answered_share=1.0,
    writes_per_request=0.01,
    conflicts_per_write=0.05,
    reads_per_request=0.2,
    commits_per_s=0.9,
    refused_per_s=0.1,
    reads_per_s=2.0,
    usd_per_million=0.19,
    wait_p50_s=12.0,
    wait_p99_s=14.0,
    ideal_p50_s=12.6,
    ideal_p99_s=12.6,
    held=50,
    held_p50_s=0.00005,
    held_p99_s=0.05,
    callers=FAIR,
    processes=FAIR,
    refused=0,
    errors=0,
    step_ms=0.4,
    step_p99_ms=0.9,
    state_bytes=2048,
    cpu_ms_per_request=0.6,
    recovery_s=19.5,
)
"""Every cell's goals are met by it, but for those of `limit` and `concurrency`."""


def result(cell: str, **changes: object) -> Result:
    at_once = min(GOOD.most_at_once, CELLS[cell].concurrency)
    figures = replace(GOOD, **{"most_at_once": at_once, **changes})  # type: ignore[arg-type]
    setup = {"machine": "2 cores", "load_average": 1.5, "measured_at": "2026-11-21T12:00:00+00:00"}
    return Result(cell, figures, Series([1, 2], [1, 3]), setup, {})


def all_good() -> dict[str, Result]:
    return {name: result(name) for name in CELLS}


def fleet_result(name: str, **changes: object) -> FleetResult:
    """Figures that meet every goal of this cell, but for the changed ones."""
    cell = FLEETS[name].cell
    good = fleet.Figures(1.2, 0.3, 9.0, 0.4, cell.requests, cell.requests, cell.requests, 15.0, 0, 28.0, 28.0, (7, 8))
    setup = {"machine": "2 cores", "load_average": 2.5, "measured_at": "2026-11-22T12:00:00+00:00"}
    return FleetResult(name, replace(good, **changes), setup, {"answered": 600})  # type: ignore[arg-type]


def good_fleets() -> dict[str, FleetResult]:
    return {name: fleet_result(name) for name in FLEETS}


def missed_of(cell: str, **changes: object) -> list[str]:
    return [goal.name for goal in goals(CELLS[cell], result(cell, **changes).figures) if not goal.met]


def test_board_has_every_rate_twice_and_three_naive() -> None:
    """Saturated and at 60 % of the limit."""
    kinds = Counter((cell.lease, cell.rpm, cell.load) for cell in CELLS.values() if cell.kill is None)
    ours = {("calendar", rpm, load) for rpm in RATES for load in ("saturated", "60")}
    naive = {("naive", rpm, load) for rpm in NAIVE_RATES for load in ("saturated", "60")}
    assert kinds == Counter([*ours, *naive])
    assert {cell.binds for cell in CELLS.values() if cell.kill} == {"rate", "slots"}


def test_the_whole_board_takes_90_minutes_at_most() -> None:
    assert sum(_length_s(name, 60.0, None) + 10 for name in NAMES) <= 5400


def test_a_limit_is_saturated_by_the_callers_there_are() -> None:
    for cell in CELLS.values():
        if cell.load == "saturated" and cell.binds == "rate":
            assert PROCESSES * CALLERS / cell.latency_s > 1.3 * cell.rpm / 60, cell.name


def test_nobody_waits_until_the_queue_gives_up() -> None:
    for cell in CELLS.values():
        assert plan(cell).ends_s < QUEUE_TIMEOUT_S


def test_saturated_cells_measure_whole_periods() -> None:
    planned = plan(CELLS["300-saturated"])
    assert planned.warm_s == period_s(60)
    assert planned.measured_s == pytest.approx(2 * period_s(60))
    assert plan(CELLS["10-saturated"]).measured_s == pytest.approx(3 * period_s(60))
    assert plan(CELLS["300-saturated"], measure_s=1).measured_s == pytest.approx(period_s(60))


def test_60_percent_cells_offer_60_percent() -> None:
    planned = plan(CELLS["1000-60"])
    assert planned.per_s is not None
    assert planned.per_s * PROCESSES * CALLERS * 60 == pytest.approx(600)


def test_a_shrunk_window_keeps_the_rate_and_shrinks_the_times() -> None:
    planned = plan(CELLS["1000-saturated"], window_s=6.0)
    assert planned.limit == 100
    assert planned.ends_s < 25


def test_good_figures_meet_every_goal_of_every_cell() -> None:
    for name in CELLS:
        assert missed_of(name) == [], name


@pytest.mark.parametrize(
    ("cell", "changes", "name"),
    [
        ("300-saturated", {"worst_window": 301}, "worst window"),
        ("slots-kill", {"most_at_once": 33}, "most at once"),
        ("300-saturated", {"refused": 1}, "refused by Gemini"),
        ("300-saturated", {"errors": 1}, "told an error"),
        ("300-saturated", {"used": 0.984}, "used"),
        ("10-saturated", {"used": 0.949}, "used"),
        ("300-saturated", {"writes_per_request": 0.21}, "writes per request"),
        ("10-saturated", {"writes_per_request": 1.1}, "writes per request"),
        ("1000-saturated", {"writes_per_request": 0.09}, "writes per request"),
        ("4000-saturated", {"writes_per_request": 0.04}, "writes per request"),
        ("10000-saturated", {"writes_per_request": 0.03}, "writes per request"),
        ("4000-60", {"conflicts_per_write": 0.11}, "conflicts per write"),
        ("1000-saturated", {"commits_per_s": 1.8, "refused_per_s": 0.3}, "commits attempted a second"),
        ("1000-60", {"commits_per_s": 4.8, "refused_per_s": 0.3}, "commits attempted a second"),
        ("300-saturated", {"commits_per_s": 5.1, "refused_per_s": 0.0}, "commits attempted a second"),
        ("300-60", {"reads_per_s": 20.1}, "reads a second"),
        ("300-60", {"held_p50_s": 0.00011}, "wait p50 with permits held, s"),
        ("300-60", {"held_p99_s": 0.061}, "wait p99 with permits held, s"),
        ("300-60", {"requests": 590}, "of the ideal queue's dispatches"),
        ("300-saturated", {"wait_p99_s": 19.0}, "wait p99 against ideal FIFO"),
        ("300-saturated", {"callers": replace(FAIR, jain=0.97)}, "Jain over callers"),
        ("300-saturated", {"processes": replace(FAIR, jain=0.97)}, "Jain over processes"),
        ("10-saturated", {"callers": Fairness(0.9, 0, 2, 0.5)}, "counts of callers differ by"),
        ("300-saturated", {"step_ms": 1.1}, "step CPU, ms"),
        ("300-saturated", {"state_bytes": 5000}, "state, bytes"),
        ("slots-kill", {"recovery_s": 21.1}, "recovery, s"),
        ("slots-kill", {"recovery_s": None}, "recovery, s"),
        ("1000-kill", {"used": 0.95}, "used after the kill"),
    ],
)
def test_each_goal_is_missed_alone_and_its_figure_stands_out(cell: str, changes: dict[str, object], name: str) -> None:
    assert missed_of(cell, **changes) == [name]
    results = {**all_good(), cell: result(cell, **changes)}
    (first, blank, line) = missed(results, good_fleets())
    assert (first, blank) == ("Goals missed (1):", "")
    assert f": {name} is **" in line
    bold = [row for row in board(results, good_fleets()).splitlines() if row.startswith("| ") and "**" in row]
    assert len(bold) == (1 if COLUMNS_OF[name] else 0)


def test_counts_of_few_permits_may_differ_by_one() -> None:
    assert missed_of("10-saturated", callers=Fairness(jain=0.5, least=0, most=1, mean=0.5)) == []


def test_the_naive_lease_has_no_goals_and_its_figures_are_shown() -> None:
    results = {**all_good(), "300-saturated-naive": result("300-saturated-naive", worst_window=310, used=0.5)}
    assert missed(results, good_fleets()) == ["Every goal is met."]
    assert "| 300 RPM, naive | 310 of 300 | 50.0 % |" in board(results, good_fleets())


def test_unmeasured_figures_are_marked() -> None:
    results = all_good()
    del results["4000-60"]
    assert missed(results, good_fleets()) == ["Every goal is met.", "", "Not measured: 4,000 RPM at 60 %."]
    assert "| 4,000 RPM at 60 % | not measured |" in board(results, good_fleets())


def test_a_board_without_any_result_can_be_written() -> None:
    assert board({}, {}) == "Nothing is measured yet."


def test_every_line_of_a_table_has_as_many_cells_as_its_head() -> None:
    results = all_good()
    del results["300-saturated"]
    fleets = good_fleets()
    del fleets["processes-12-300-15-saturated"]
    tables = [block for block in board(results, fleets).split("\n\n") if block.startswith("|")]
    assert len(tables) == 4
    for table in tables:
        assert len({line.count("|") for line in table.splitlines()}) == 1


def test_every_goal_has_a_column_or_none_on_purpose() -> None:
    names = {goal.name for cell in CELLS.values() for goal in goals(cell, GOOD)}
    few = replace(GOOD, callers=replace(FAIR, mean=1.0), processes=replace(FAIR, mean=1.0))
    names |= {goal.name for cell in CELLS.values() for goal in goals(cell, few)}
    assert names == set(COLUMNS_OF)


def test_a_goal_is_met_at_its_bound() -> None:
    assert Goal("x", 1.0, 1.0).met
    assert Goal("x", 1.0, 1.0, at_least=True).met
    assert not Goal("x", 1.01, 1.0).met
    assert not Goal("x", 0.99, 1.0, at_least=True).met


def test_board_replaces_only_the_text_between_its_marks() -> None:
    readme = f"# A\n\n{BEGIN}\nold\n{END}\n\nrest\n"
    assert into(readme, "new") == f"# A\n\n{BEGIN}\nnew\n{END}\n\nrest\n"
    assert into(into(readme, "new"), "old") == readme


@pytest.mark.parametrize("readme", ["", BEGIN, f"{END}{BEGIN}", f"{BEGIN}{END}{BEGIN}{END}"])
def test_a_readme_without_the_marks_is_left_alone(readme: str) -> None:
    with pytest.raises(ValueError, match="once"):
        into(readme, "new")


@pytest.mark.parametrize("readme", [README, BOARD])
def test_both_readmes_have_the_marks(readme: Path) -> None:
    into(readme.read_text(), "new")


def test_ledgers_readme_has_the_marks_of_the_fleets_table() -> None:
    into(LEDGER.read_text(), "new", (FLEET_BEGIN, FLEET_END))


def test_ceiling_has_the_simulated_rows_of_make_fleet() -> None:
    fleets = good_fleets()
    lines = ceiling(fleets).splitlines()
    assert len(lines) == 2 + len(fleet.CELLS)
    assert "\n".join(lines[:2]) == fleet.HEAD
    assert lines[2:] == [fleet.row(one.cell, fleets[name].figures) for name, one in FLEETS.items() if one.is_simulated]
    assert ceiling({}) == "Nothing is measured yet."


def test_summary_has_four_rows_of_the_board() -> None:
    results = all_good()
    for fleets in ({}, good_fleets()):
        rows = [line for line in summary(results, fleets).splitlines() if line.startswith("| ") and " RPM" in line]
        titles = ["300 RPM", "1,000 RPM", "10,000 RPM", "1,000 RPM, 40 instances"]
        assert [row.split(" | ")[0] for row in rows] == [f"| {title}" for title in titles]
        assert len({row.count("|") for row in rows}) == 1
        assert "**" not in "".join(rows)
    assert summary({}, {}) == "Nothing is measured yet."


def test_fleets_are_simulated_or_have_processes() -> None:
    simulated = [one.cell for one in FLEETS.values() if one.is_simulated]
    assert tuple(simulated) == fleet.CELLS
    assert {10, 40, 100} <= {cell.instances for cell in simulated}
    assert [one.cell.instances for one in FLEETS.values() if not one.is_simulated] == [4, 12]
    assert {(one.cell.requests, one.cell.concurrency) for one in FLEETS.values() if not one.is_simulated} == {(300, 15)}


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"commits_per_s": 1.8}, fleet.COMMITS),
        ({"reads_per_s": 20.1}, fleet.READS),
        ({"served_per_min": 969.0}, fleet.SERVED),
        ({"worst_window": 1001.0}, fleet.WORST),
        ({"worst_at_once": 257.0}, fleet.WORST),
        ({"rejected": 1}, fleet.REJECTED),
    ],
)
def test_a_fleets_missed_goal_is_bold_and_listed(changes: dict[str, object], name: str) -> None:
    """On the board, and in its row of the summary."""
    cell = "simulated-40-1000-256-saturated"
    results, fleets = all_good(), {**good_fleets(), cell: fleet_result(cell, **changes)}
    (first, blank, line) = missed(results, fleets)
    assert (first, blank) == ("Goals missed (1):", "")
    assert line.startswith(f"- 40 simulated, 1,000 RPM, C = 256, saturated: {name} is **")
    for text in (board(results, fleets), summary(results, fleets)):
        assert len([row for row in text.splitlines() if row.startswith("| ") and "**" in row]) == 1


def test_board_says_which_instances_are_simulated() -> None:
    text = board(all_good(), good_fleets())
    assert "| 12 processes | 300, 15, saturated (64 in all) | 1.2 + 0.3 |" in text
    assert "| 100 simulated | 300, 64, saturated (4) | 1.2 + 0.3 |" in text


def test_unmeasured_fleets_are_named() -> None:
    fleets = good_fleets()
    del fleets["processes-4-300-15-saturated"]
    assert missed(all_good(), fleets)[-1] == "Not measured: 4 processes, 300 RPM, C = 15, saturated."
    assert "| 4 processes | 300, 15, saturated (64 in all) | not measured |" in board({}, fleets)


def test_plots_are_linked_from_both_readmes() -> None:
    assert 'src="tests/benchmarks/board/results/board-light.png"' in pictures("tests/benchmarks/board/")
    assert 'src="results/board-light.png"' in pictures()


def test_a_result_is_the_same_after_it_was_saved(tmp_path: Path) -> None:
    one = result("300-saturated", recovery_s=None)
    save(tmp_path, one)
    assert load(tmp_path, "300-saturated") == one
    assert [path.name for path in tmp_path.iterdir()] == ["300-saturated.json"]


def test_a_fleets_result_is_the_same_after_it_was_saved(tmp_path: Path) -> None:
    one = fleet_result("processes-12-300-15-saturated")
    save(tmp_path, one)
    assert load_fleet(tmp_path, one.cell) == one
    assert load_fleet(tmp_path, "processes-4-300-15-saturated") is None


def test_a_cell_that_was_not_measured_has_no_result(tmp_path: Path) -> None:
    assert load(tmp_path, "300-saturated") is None


@pytest.mark.parametrize("content", ["{}", '{"figures": {"limit": 1}}', "[]", "{"])
def test_a_result_of_another_version_is_refused(tmp_path: Path, content: str) -> None:
    path_of(tmp_path, "300-saturated").write_text(content)
    with pytest.raises(ValueError, match=r"300-saturated\.json"):
        load(tmp_path, "300-saturated")
