"""The fleet's table: what a row says, and that a cell is measured as it says."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.simulation.fleet import CELLS, COLUMNS, HEAD, Cell, Figures, chosen, measure, row

FIGURES = Figures(1.2, 0.3, 9.0, 0.4, 292.0, 310.0, 300.0, 15.0, 0, 30.0, 28.0, (7, 8))


def test_a_row_marks_what_misses_its_goal() -> None:
    cell = Cell(20, 300, 15, 8)
    assert "**" not in row(cell, FIGURES)
    assert "**4.8 + 0.3**" in row(cell, replace(FIGURES, commits_per_s=4.8))
    assert "**20.1**" in row(cell, replace(FIGURES, reads_per_s=20.1))
    assert "**290 of 300**" in row(cell, replace(FIGURES, served_per_min=290.0))
    assert "**301, 15**" in row(cell, replace(FIGURES, worst_window=301.0))
    assert "**300, 16**" in row(cell, replace(FIGURES, worst_at_once=16.0))
    assert "**1**" in row(cell, replace(FIGURES, rejected=1))
    assert "**0 % of 1; 2.0, 0.0**" in row(cell, replace(FIGURES, given=1, accurate=0.0, early_p99_s=2.0))
    assert "**" not in row(cell, replace(FIGURES, given=1, early_p99_s=0.5, late_p99_s=0.5))
    ordered = replace(cell, max_wait=(1.0, 1.5), max_difference=1)
    assert "**30.0, 28.0; 7-8**" in row(ordered, FIGURES)
    assert "**" not in row(ordered, replace(FIGURES, wait_p99_s=29.5))
    assert "**29.5, 28.0; 6-8**" in row(ordered, replace(FIGURES, wait_p99_s=29.5, sizes=(6, 8)))


def test_head_and_rows_have_the_same_number_of_columns() -> None:
    assert {line.count("|") for line in [*HEAD.splitlines(), row(CELLS[0], FIGURES)]} == {len(COLUMNS) + 1}


def test_rows_are_chosen_by_a_part_of_their_names() -> None:
    assert [cell.name for cell in chosen("10-300-15-6,hurried-roams")] == [
        "10-300-15-60%",
        "4-1000-256-saturated-hurried-roams",
    ]
    assert tuple(chosen("")) == CELLS


def test_a_small_fleet_is_measured() -> None:
    one = measure(Cell(2, 60, 8, 4))
    assert 54 <= one.served_per_min <= 72, "60 in any minute, but less than a minute is measured"
    assert one.worst_window <= 60
    assert one.worst_at_once <= 8
    assert one.rejected == 0
    assert 0 < one.commits_per_s + one.refused_per_s < 3
    # Eight callers go round one queue of one request a second, and each request takes two seconds at Gemini.
    assert one.ideal_p99_s == pytest.approx(6.0)
    assert len(one.sizes) == 2


def test_retry_after_is_measured_where_callers_hurry() -> None:
    one = measure(Cell(1, 300, 60, 64, patience_s=5.0))
    assert one.given > 60
    assert one.accurate >= 0.7
