"""A cell's result as a file of JSON: written whole or not at all, so that a board that was stopped goes on where it was."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import orjson

from tests.benchmarks.board.judge import Fairness, Figures, Series
from tests.support.processes import ROOT

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


def path_of(folder: Path, cell: str) -> Path:
    return folder / f"{cell}.json"


def save(folder: Path, result: Result) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    path = path_of(folder, result.cell)
    written = path.with_suffix(".part")
    series = orjson.dumps(asdict(result.series)).decode()
    told = orjson.dumps({**asdict(result), "series": None}, option=orjson.OPT_INDENT_2).decode()
    # The series in one line: it is for a plot, and would be hundreds of lines.
    written.write_text(told.replace('"series": null', f'"series": {series}', 1) + "\n")
    written.replace(path)


def load(folder: Path, cell: str) -> Result | None:
    """None where there is none. Raises ValueError for a file that another version of the board wrote."""
    try:
        content = path_of(folder, cell).read_bytes()
    except FileNotFoundError:
        return None
    try:
        read = orjson.loads(content)
        figures = read["figures"]
        parties = {name: Fairness(**figures[name]) for name in ("callers", "processes")}
        return Result(
            cell, Figures(**{**figures, **parties}), Series(**read["series"]), read["setup"], read["failures"]
        )
    except (KeyError, TypeError, orjson.JSONDecodeError) as error:
        raise ValueError(f"{cell}.json is of another version of the board; measure it again with FORCE=1") from error
