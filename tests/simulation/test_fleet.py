"""The fleet's table: what a row says, and that a cell is measured as it says."""

from __future__ import annotations

from dataclasses import replace

from tests.simulation.fleet import CELLS, Cell, Figures, chosen, measure, row

FIGURES = Figures(1.2, 0.3, 9.0, 0.4, 292.0, 310.0, 300.0, 15.0, 30.0, 28.0, (7, 8))


def test_a_row_marks_what_misses_its_goal() -> None:
    cell = Cell(20, 300, 15, 8)
    assert "**" not in row(cell, FIGURES)
    assert "**4.8 + 0.3**" in row(cell, replace(FIGURES, commits_per_s=4.8))
    assert "**20.1**" in row(cell, replace(FIGURES, reads_per_s=20.1))
    assert "**290 of 300**" in row(cell, replace(FIGURES, served_per_min=290.0))
    assert "**301**" in row(cell, replace(FIGURES, worst_window=301.0))
    assert "**300**" in row(cell, replace(FIGURES, worst_at_once=16.0))


def test_rows_are_chosen_by_a_part_of_their_names() -> None:
    assert [cell.name for cell in chosen("20-300,10-300")] == ["20-300-15-saturated", "10-300-15-60%"]
    assert tuple(chosen("")) == CELLS


def test_a_small_fleet_is_measured() -> None:
    one = measure(Cell(2, 60, 8, 4))
    assert 56 <= one.served_per_min <= 66
    assert one.worst_window <= 60
    assert one.worst_at_once <= 8
    assert 0 < one.commits_per_s + one.refused_per_s < 3
    assert len(one.sizes) == 2
