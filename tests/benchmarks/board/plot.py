"""The plot: requests per second, and requests in the sliding window against the limit, ours and the naive lease's."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from tests.benchmarks.board.cells import NAIVE_RATES
from tests.benchmarks.board.results import Result

_THEMES = {
    "light": {"ground": "#ffffff", "ink": "#1f2328", "grid": "#d0d7de", "ours": "#0969da", "naive": "#bc4c00"},
    "dark": {"ground": "#0d1117", "ink": "#e6edf3", "grid": "#30363d", "ours": "#58a6ff", "naive": "#f0883e"},
}


def draw(results: Mapping[str, Result], folder: Path) -> list[Path]:
    """board-light.png and board-dark.png of what is there. Nothing, when no saturated cell is."""
    if not any(_name(rpm, lease) in results for rpm in NAIVE_RATES for lease in ("ours", "naive")):
        return []
    written = []
    for theme, colours in _THEMES.items():
        path = folder / f"board-{theme}.png"
        _draw(results, colours, path)
        written.append(path)
    return written


def _name(rpm: int, lease: str) -> str:
    return f"{rpm}-saturated" + ("-naive" if lease == "naive" else "")


def _draw(results: Mapping[str, Result], colours: Mapping[str, str], path: Path) -> None:
    ink = colours["ink"]
    style: dict[Any, Any] = {
        "text.color": ink,
        "axes.labelcolor": ink,
        "xtick.color": ink,
        "ytick.color": ink,
        "axes.edgecolor": colours["grid"],
        "axes.facecolor": colours["ground"],
        "figure.facecolor": colours["ground"],
        "grid.color": colours["grid"],
        "axes.grid": True,
        "grid.linewidth": 0.6,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "font.size": 9,
    }
    with rc_context(style):
        figure = Figure(figsize=(12, 5.2), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.subplots(2, len(NAIVE_RATES), sharex="col")
        for column, rpm in enumerate(NAIVE_RATES):
            _column(axes[0][column], axes[1][column], rpm, results, colours)
        axes[0][0].set_ylabel("requests per second")
        axes[1][0].set_ylabel("requests in the window")
        axes[0][0].legend(loc="upper right", frameon=False)
        figure.savefig(path, dpi=110, metadata={"Software": None})


def _column(rates: Any, windows: Any, rpm: int, results: Mapping[str, Result], colours: Mapping[str, str]) -> None:
    rates.set_title(f"{rpm:,} RPM, saturated")
    limit = rpm
    for lease, label in (("naive", "naive lease"), ("ours", "gateway")):
        result = results.get(_name(rpm, lease))
        if result is not None:
            history, limit = result.series, result.figures.limit
            rates.plot(history.per_s, color=colours[lease], label=label, linewidth=1.0)
            windows.plot(history.in_window, color=colours[lease], linewidth=1.6)
    rates.axhline(rpm / 60, color=colours["ink"], linestyle=":", linewidth=1.0, label="limit / 60")
    windows.axhline(limit, color=colours["ink"], linestyle="--", linewidth=1.0)
    windows.annotate("limit", (0, limit), xytext=(2, 3), textcoords="offset points", fontsize=8)
    rates.set_ylim(bottom=0)
    windows.set_ylim(0, limit * 1.12)
    windows.set_xlabel("seconds from the start")
