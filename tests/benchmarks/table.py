"""The figures as Markdown, and what they mean for the goals. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from tests.benchmarks.deployed import Deployed
from tests.benchmarks.figures import Cell, Comparison, Figures
from tests.benchmarks.upstream import FRAME_GAP_S, FRAMES

CPU_MS, P50_MS, START_S, RSS_MB = 0.5, 1.0, 1.2, 130.0
TRANSLATION_MS, EVENT_MS = 0.25, 0.05
"""Of a chat completion of OpenAI's, and of an event of its stream, above POST /chat."""
BUSY_CALLERS = 32
"""With fewer callers a request pays for waking up the process and its cold caches, and not only for its own work."""
_COLUMNS = (
    "callers",
    "upstream",
    "requests/s",
    "of pass-through",
    "CPU ms",
    "of pass-through",
    "**CPU ms added** (range)",
    "p50 ms added",
    "p99 ms added",
)


@dataclass(frozen=True)
class Goal:
    """`value` is to be below `limit`."""

    name: str
    value: float
    limit: float
    unit: str

    @property
    def met(self) -> bool:
        return self.value < self.limit


@dataclass(frozen=True)
class Process:
    """One function's process: from its start to the first answer (each try), and what it holds after the load."""

    starts_s: Sequence[float]
    rss_mb: float


def goals(
    sections: Mapping[str, Sequence[Comparison]], processes: Mapping[str, Process], translated: Sequence[Comparison]
) -> list[Goal]:
    """`processes` has the names of `sections`; the worst of them counts, with the best start of each. `translated`: chat
    completions beside POST /chat."""
    unary = [one for rows in sections.values() for one in rows if not one.cell.stream]
    busy = [one.cpu_ms for one in unary if one.cell.callers >= BUSY_CALLERS]
    alone = [one.p50_ms for one in unary if one.cell.callers == 1]
    ours = [processes[name] for name in sections]
    return [
        Goal(f"CPU added per request, {BUSY_CALLERS} callers and more, not streamed", max(busy), CPU_MS, "ms"),
        Goal("p50 added, one caller", max(alone), P50_MS, "ms"),
        Goal("start to first answer", max(min(process.starts_s) for process in ours), START_S, "s"),
        Goal("memory of the worker after the load", max(process.rss_mb for process in ours), RSS_MB, "MB"),
        *(
            Goal("CPU of a streamed event of a chat completion, above /chat", one.cpu_ms / FRAMES, EVENT_MS, "ms")
            if one.cell.stream
            else Goal("CPU of a chat completion, above /chat", one.cpu_ms, TRANSLATION_MS, "ms")
            for one in translated
        ),
    ]


def section(title: str, rows: Iterable[Comparison]) -> str:
    return "\n".join([f"### {title}", "", _table(_COLUMNS, map(_row, rows))])


def lags_table(measured: Mapping[str, Figures], base: Figures) -> str:
    """How long a streamed event takes from Gemini's frame to its caller, beside the pass-through. All of one cell."""
    return _table(
        ("function", "p50 ms", "of pass-through", "ratio", "p99 ms", "of pass-through"),
        (
            (
                name,
                f"{one.lag_p50_ms:.2f}",
                f"{base.lag_p50_ms:.2f}",
                f"**{one.lag_p50_ms / base.lag_p50_ms:.2f}**",
                f"{one.lag_p99_ms:.2f}",
                f"{base.lag_p99_ms:.2f}",
            )
            for name, one in measured.items()
        ),
    )


def processes_table(processes: Mapping[str, Process]) -> str:
    return _table(
        ("function", "start to first answer, s (each try)", "RSS MB after the load"),
        (
            (name, ", ".join(f"{start_s:.2f}" for start_s in sorted(process.starts_s)), f"{process.rss_mb:.0f}")
            for name, process in processes.items()
        ),
    )


def deployed_table(functions: Iterable[Deployed]) -> str:
    return _table(
        ("function", "start to first answer, s (best)", "RSS MB", "modules", "imports ms", "of which"),
        (
            (
                one.name,
                f"{min(one.starts_s):.2f}",
                f"{one.rss_mb:.0f}",
                str(one.imports.modules),
                f"{one.imports.ms:.0f}",
                ", ".join(f"{package} {ms:.0f}" for package, ms in one.imports.heaviest.items()),
            )
            for one in functions
        ),
    )


def goals_table(reached: Iterable[Goal]) -> str:
    return _table(
        ("goal", "limit", "measured", "met"),
        (
            (goal.name, f"{goal.limit:g} {goal.unit}", f"{goal.value:.2f} {goal.unit}", "yes" if goal.met else "**no**")
            for goal in reached
        ),
    )


def _row(one: Comparison) -> tuple[str, ...]:
    return (
        str(one.cell.callers),
        _upstream(one.cell),
        f"{one.ours.per_s:.0f}",
        f"{one.base.per_s:.0f}",
        f"{one.ours.cpu_ms:.2f}",
        f"{one.base.cpu_ms:.2f}",
        f"**{one.cpu_ms:+.2f}** ({one.least_cpu_ms:+.2f} to {one.most_cpu_ms:+.2f})",
        f"{one.p50_ms:+.1f}",
        f"{one.p99_ms:+.1f}",
    )


def _upstream(cell: Cell) -> str:
    if not cell.stream:
        return f"{cell.latency_ms} ms"
    return f"{FRAMES} frames in {cell.latency_ms + 1000 * FRAME_GAP_S * (FRAMES - 1):.0f} ms"


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
