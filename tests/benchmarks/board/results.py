"""A cell's result as a file of JSON: written whole or not at all, so that a board that was stopped goes on where it was."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import orjson

from tests.benchmarks.board.judge import Fairness, Figures, Series
from tests.simulation import fleet
from tests.support.processes import ROOT

T = TypeVar("T")

COMMITTED = ROOT / "tests" / "benchmarks" / "board" / "results"
FIRST_LOOKS = ROOT / "dist" / "board"
"""Results of shortened runs: they prove nothing, and are not published."""


@dataclass(frozen=True)
class Result:
    """`setup` says where, when and how it was measured; `failures` what the first request with each error was told."""

    cell: str
    figures: Figures
    series: Series
    setup: Mapping[str, Any]
    failures: Mapping[str, str]


@dataclass(frozen=True)
class FleetResult:
    """`answers`: how many requests of real callers had each outcome; empty if the cell was simulated."""

    cell: str
    figures: fleet.Figures
    setup: Mapping[str, Any]
    answers: Mapping[str, int]


def path_of(folder: Path, cell: str) -> Path:
    return folder / f"{cell}.json"


def save(folder: Path, result: Result | FleetResult) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    path = path_of(folder, result.cell)
    written = path.with_suffix(".part")
    told = asdict(result)
    series = orjson.dumps(told.pop("series", None)).decode()
    text = orjson.dumps({**told, "series": None}, option=orjson.OPT_INDENT_2).decode()
    # The series in one line: it is for a plot, and would be hundreds of lines.
    written.write_text(text.replace('"series": null', f'"series": {series}', 1) + "\n")
    written.replace(path)


def load(folder: Path, cell: str) -> Result | None:
    """None where there is none. Raises ValueError for a file that another version of the board wrote."""
    return _read(folder, cell, _result)


def load_fleet(folder: Path, cell: str) -> FleetResult | None:
    """As `load`."""
    return _read(folder, cell, _fleet_result)


def _read(folder: Path, cell: str, made: Callable[[str, Mapping[str, Any]], T]) -> T | None:
    try:
        return made(cell, orjson.loads(path_of(folder, cell).read_bytes()))
    except FileNotFoundError:
        return None
    except (KeyError, TypeError, orjson.JSONDecodeError) as error:
        raise ValueError(f"{cell}.json is of another version of the board; measure it again with FORCE=1") from error


def _result(cell: str, read: Mapping[str, Any]) -> Result:
    figures = read["figures"]
    parties = {name: Fairness(**figures[name]) for name in ("callers", "processes")}
    return Result(cell, Figures(**{**figures, **parties}), Series(**read["series"]), read["setup"], read["failures"])


def _fleet_result(cell: str, read: Mapping[str, Any]) -> FleetResult:
    figures = fleet.Figures(**{**read["figures"], "sizes": tuple(read["figures"]["sizes"])})
    return FleetResult(cell, figures, read["setup"], read["answers"])
