"""The board as a command: it goes on after a failure, and does not measure twice."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from tests.benchmarks.board import __main__ as command
from tests.benchmarks.board import plot
from tests.benchmarks.board.judge import Figures, Series
from tests.benchmarks.board.results import Result, load, save
from tests.unit.benchmarks.test_board_report import GOOD

TWO = "300-saturated,300-saturated-naive"


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The cells that were to be measured, in order; those of 300-saturated fail. Results are first looks, kept apart, and
    no plot is drawn of them, which takes a second."""
    names: list[str] = []

    def measured(name: str, _options: object) -> bool:
        names.append(name)
        if name == "300-saturated":
            return False
        save(tmp_path, saved(name))
        return True

    monkeypatch.setattr(command, "_measured", measured)
    monkeypatch.setattr(command, "FIRST_LOOKS", tmp_path)
    monkeypatch.setattr(plot, "draw", lambda _results, _folder: [])
    return names


def saved(name: str, figures: Figures = GOOD) -> Result:
    return Result(
        name, figures, Series([1], [1]), {"machine": "m", "load_average": 1.5, "measured_at": "2026-11-21"}, {}
    )


def test_failed_cell_is_reported_and_others_run(asked: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["--only", TWO, "--window", "6"]) == 1
    assert asked == TWO.split(",")
    assert "Not measured: 300-saturated." in capsys.readouterr().out


def test_only_what_is_not_measured_yet_is_measured(asked: list[str]) -> None:
    command.main(["--only", TWO, "--window", "6"])
    command.main(["--only", TWO, "--window", "6"])
    assert asked == [*TWO.split(","), "300-saturated"]


def test_what_was_measured_is_measured_again_when_forced(asked: list[str]) -> None:
    for _ in range(2):
        assert command.main(["--only", "300-saturated-naive", "--window", "6", "--force"]) == 0
    assert asked == ["300-saturated-naive"] * 2


def test_a_result_of_another_version_is_measured_again(asked: list[str], tmp_path: Path) -> None:
    (tmp_path / "300-saturated-naive.json").write_text("{}")
    assert command.main(["--only", "300-saturated-naive", "--window", "6"]) == 0
    assert load(tmp_path, "300-saturated-naive") is not None


def test_plot_is_drawn_for_light_and_dark_pages(tmp_path: Path) -> None:
    assert plot.draw({}, tmp_path) == []
    drawn = plot.draw({name: saved(name) for name in TWO.split(",")}, tmp_path)
    sizes = [Image.open(path).size for path in drawn]
    assert [path.name for path in drawn] == ["board-light.png", "board-dark.png"]
    assert len(set(sizes)) == 1 and min(sizes[0]) > 500


def test_unknown_cell_is_rejected_with_the_known_ones(asked: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["--only", "300"]) == 2
    assert asked == []
    assert "10000-saturated" in capsys.readouterr().err


def test_shortened_runs_are_not_published() -> None:
    assert command._options(["--duration", "60"]).folder == command.FIRST_LOOKS
    assert command._options(["--window", "6"]).folder == command.FIRST_LOOKS
    assert command._options([]).folder == command.COMMITTED
