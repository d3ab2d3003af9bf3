"""The results as Markdown: a summary for the top README, everything for the board's own. Missed goals are bold. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from tests.benchmarks.board.cells import CALLERS, CELLS, PROCESSES, RTT_S, Cell, goals
from tests.benchmarks.board.fleets import FLEETS, FleetCell
from tests.benchmarks.board.judge import Fairness, Figures
from tests.benchmarks.board.results import FleetResult, Result
from tests.simulation import fleet
from tests.simulation.fleet import COMMITS, READS
from tests.support.goals import Goal

BEGIN, END = "<!-- the board: written by make bench-ledger -->", "<!-- end of the board -->"
FLEET_BEGIN, FLEET_END = "<!-- the fleet's table: written by make bench-ledger -->", "<!-- end of the fleet's table -->"
PLOTS = "results/board-{theme}.png"
"""Relative to the board's folder."""
SUMMARY_CELLS = ("300-saturated", "1000-saturated", "10000-saturated")
SUMMARY_FLEET = "simulated-40-1000-256-saturated"


def _recovery(cell: Cell, figures: Figures) -> str:
    if cell.binds == "rate":
        return "-"
    return "not until the end" if figures.recovery_s is None else f"{figures.recovery_s:.1f} s"


def _fair(fairness: Fairness) -> str:
    return f"{fairness.jain:.3f} ({fairness.least}-{fairness.most})"


def _s(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds >= 1 else f"{seconds:.2f} s"


def _ms(seconds: float) -> str:
    return (
        f"{seconds:.1f} s"
        if seconds >= 10
        else f"{1000 * seconds:.0f} ms"
        if seconds >= 0.01
        else f"{1000 * seconds:.2f} ms"
    )


_SATURATED: Mapping[str, Callable[[Cell, Figures], str]] = {
    "worst window": lambda _, f: f"{f.worst_window:,} of {f.limit:,}",
    "used": lambda _, f: f"{100 * f.used:.1f} %",
    "writes / request": lambda _, f: f"{f.writes_per_request:.3f}",
    "conflicts / write": lambda _, f: f"{f.conflicts_per_write:.2f}",
    COMMITS: lambda _, f: f"{f.commits_per_s:.1f} + {f.refused_per_s:.1f}",
    READS: lambda _, f: f"{f.reads_per_s:.1f}",
    "wait p50 / p99": lambda _, f: f"{_s(f.wait_p50_s)} / {_s(f.wait_p99_s)}",
    "ideal FIFO p50 / p99": lambda _, f: f"{_s(f.ideal_p50_s)} / {_s(f.ideal_p99_s)}",
    "Jain callers, processes": lambda _, f: f"{_fair(f.callers)}, {_fair(f.processes)}",
    "refused": lambda _, f: f"{f.refused}",
    "$ / million": lambda _, f: f"{f.usd_per_million:.2f}",
    "step CPU, state": lambda _, f: f"{f.step_ms:.2f} ms, {f.state_bytes / 1024:.1f} KB",
}
_SUMMARY = {
    column: _SATURATED[column]
    for column in ("worst window", "used", "writes / request", COMMITS, READS, "wait p50 / p99", "refused")
}
_AT_60: Mapping[str, Callable[[Cell, Figures], str]] = {
    "worst window": _SATURATED["worst window"],
    "dispatched, of the ideal": lambda _, f: f"{100 * f.requests / max(1, f.ideal_requests):.1f} %",
    "writes / request": _SATURATED["writes / request"],
    "conflicts / write": _SATURATED["conflicts / write"],
    COMMITS: _SATURATED[COMMITS],
    READS: _SATURATED[READS],
    "wait p50 / p99": lambda _, f: f"{_ms(f.wait_p50_s)} / {_ms(f.wait_p99_s)}",
    "with permits held": lambda _, f: f"{_ms(f.held_p50_s)} / {_ms(f.held_p99_s)} (n = {f.held})" if f.held else "-",
    "refused": _SATURATED["refused"],
    "$ / million": _SATURATED["$ / million"],
    "step CPU, state": _SATURATED["step CPU, state"],
}
_KILLED: Mapping[str, Callable[[Cell, Figures], str]] = {
    "ttl + tau": lambda c, _: f"{c.kill.ttl_s + c.kill.tau_s:.0f} s" if c.kill else "-",
    "service back after": _recovery,
    "used in the minute after": lambda c, f: f"{100 * f.used:.1f} %" if c.binds == "rate" else "-",
    "worst window": lambda c, f: _SATURATED["worst window"](c, f) if c.binds == "rate" else "-",
    "most at once": lambda c, f: f"{f.most_at_once} of {c.concurrency}",
    "refused": _SATURATED["refused"],
    "writes / request": _SATURATED["writes / request"],
}


COLUMNS_OF: Mapping[str, str | None] = {
    "worst window": "worst window",
    "most at once": "most at once",
    "refused by Gemini": "refused",
    "told an error": None,
    "step CPU, ms": "step CPU, state",
    "state, bytes": "step CPU, state",
    "conflicts per write": "conflicts / write",
    "commits attempted a second": COMMITS,
    "reads a second": READS,
    "of the ideal queue's dispatches": "dispatched, of the ideal",
    "wait p50 with permits held, s": "with permits held",
    "wait p99 with permits held, s": "with permits held",
    "used": "used",
    "used after the kill": "used in the minute after",
    "writes per request": "writes / request",
    "wait p99 against ideal FIFO": "wait p50 / p99",
    "recovery, s": "service back after",
    "Jain over callers": "Jain callers, processes",
    "Jain over processes": "Jain callers, processes",
    "counts of callers differ by": "Jain callers, processes",
    "counts of processes differ by": "Jain callers, processes",
}
"""Which column shows the figure of a goal. Where none does, the list of missed goals tells it."""


_SUMMARY_OF_FLEETS: Mapping[str, str] = {
    fleet.SERVED: "used",
    fleet.WORST: "worst window",
    fleet.REJECTED: "refused",
    fleet.WAIT: "wait p50 / p99",
    COMMITS: COMMITS,
    READS: READS,
}
"""Which column of the summary shows the figure of a fleet's goal."""


def board(results: Mapping[str, Result], fleets: Mapping[str, FleetResult]) -> str:
    """`results` and `fleets` by cell; what is not there was not measured."""
    if not results and not fleets:
        return "Nothing is measured yet."
    naive = "*Naive* is a lease that calls the ledger twice for every request, on the same store."
    lines = [f"{_heading([*results.values(), *_real(fleets)])} {naive}", ""]
    saturated, at_60, killed = (
        [cell for cell in CELLS.values() if cell.kill is None and cell.load == "saturated"],
        [cell for cell in CELLS.values() if cell.load == "60"],
        [cell for cell in CELLS.values() if cell.kill is not None],
    )
    lines += [
        "**Saturated**: each caller asks again as soon as it was answered.",
        "",
        _table(saturated, _SATURATED, results),
    ]
    lines += ["", "**At 60 % of the limit**: requests come at random (Poisson).", "", _table(at_60, _AT_60, results)]
    lines += ["", "**After `kill -9`** of one of the four processes.", "", _table(killed, _KILLED, results)]
    lines += ["", _FLEETS, "", _fleet_table(fleets), ""]
    return "\n".join([*lines, *missed(results, fleets)])


_FLEETS = (
    "**By the number of instances.** *Processes* are functions-framework's, on the Firestore emulator with 20 ms injected into "
    "every call, behind one load balancer that gives each request to the next of them; after a first minute one is measured. "
    "*Simulated* instances are the real admission and ledger in virtual time (`make fleet`): a commit takes 20 to 60 ms, the "
    "commits on a document are served one after another and fail where more than ten wait, and callers stay at their instance. "
    "In both a request takes 1 to 3 s at Gemini. Commits are refused where the document has changed, or where too many wait."
)


def _fleet_table(fleets: Mapping[str, FleetResult]) -> str:
    rows = [[*fleet.COLUMNS]]
    for name, cell in FLEETS.items():
        result = fleets.get(name)
        if result is None:
            rows.append([_instances(cell), _fleet_load(cell), "not measured", *[""] * (len(fleet.COLUMNS) - 3)])
            continue
        _, _, *texts = fleet.columns(cell.cell, result.figures).values()
        rows.append([_instances(cell), _fleet_load(cell), *texts])
    return _markdown(rows)


def ceiling(fleets: Mapping[str, FleetResult]) -> str:
    """The simulated rows as `make fleet` prints them, for the ledger's README."""
    rows = [
        fleet.row(FLEETS[name].cell, result.figures) for name, result in fleets.items() if FLEETS[name].is_simulated
    ]
    return "\n".join([fleet.HEAD, *rows]) if rows else "Nothing is measured yet."


def _instances(cell: FleetCell) -> str:
    return f"{cell.cell.instances} {'simulated' if cell.is_simulated else 'processes'}"


def _fleet_load(cell: FleetCell) -> str:
    load = fleet.load_of(cell.cell)
    return load if cell.is_simulated else load.replace(")", " in all)")


def summary(results: Mapping[str, Result], fleets: Mapping[str, FleetResult]) -> str:
    """Four rows of the board."""
    if not results and not fleets:
        return "Nothing is measured yet."
    shown = [results[name] for name in SUMMARY_CELLS if name in results]
    simulated = "The row of 40 instances is simulated (`make fleet`): real admission and ledger, virtual time."
    rows = _rows([CELLS[name] for name in SUMMARY_CELLS], _SUMMARY, results)
    rows.append(_summary_of_fleet(FLEETS[SUMMARY_FLEET], fleets.get(SUMMARY_FLEET)))
    return f"{_heading(shown)} {simulated}\n\n{_markdown(rows)}"


def _summary_of_fleet(cell: FleetCell, result: FleetResult | None) -> list[str]:
    title = f"{cell.cell.requests:,} RPM, {cell.cell.instances} instances"
    if result is None:
        return [title, "not measured", *[""] * (len(_SUMMARY) - 1)]
    one = result.figures
    texts = {
        "worst window": f"{one.worst_window:,.0f} of {cell.cell.requests:,}",
        "used": f"{100 * one.served_per_min / cell.cell.requests:.1f} %",
        "writes / request": f"{one.writes_per_request:.3f}",
        COMMITS: f"{one.commits_per_s:.1f} + {one.refused_per_s:.1f}",
        READS: f"{one.reads_per_s:.1f}",
        "wait p50 / p99": f"- / {_s(one.wait_p99_s)}",
        "refused": f"{one.rejected}",
    }
    bad = {_SUMMARY_OF_FLEETS[goal.name] for goal in fleet.goals(cell.cell, one) if not goal.met}
    return [title, *(_bold(texts[name], name in bad) for name in _SUMMARY)]


def missed(results: Mapping[str, Result], fleets: Mapping[str, FleetResult]) -> list[str]:
    """What the board has to admit, as a list in Markdown."""
    reached = [(_title(cell), goals(cell, results[name].figures)) for name, cell in CELLS.items() if name in results]
    reached += [
        (_fleet_title(cell), fleet.goals(cell.cell, fleets[name].figures))
        for name, cell in FLEETS.items()
        if name in fleets
    ]
    told = [_miss(title, goal) for title, all_goals in reached for goal in all_goals if not goal.met]
    lines = [f"Goals missed ({len(told)}):", "", *told] if told else ["Every goal is met."]
    absent = [_title(cell) for name, cell in CELLS.items() if name not in results]
    absent += [_fleet_title(cell) for name, cell in FLEETS.items() if name not in fleets]
    return [*lines, "", f"Not measured: {'; '.join(absent)}."] if absent else lines


def _fleet_title(cell: FleetCell) -> str:
    load = "saturated" if cell.cell.load is None else f"{100 * cell.cell.load:.0f} %"
    return f"{_instances(cell)}, {cell.cell.requests:,} RPM, C = {cell.cell.concurrency:,}, {load}"


def _miss(title: str, goal: Goal) -> str:
    return (
        f"- {title}: {goal.name} is **{goal.value:.4g}**, the goal {'>=' if goal.at_least else '<='} {goal.bound:.4g}"
    )


def into(readme: str, text: str, marks: tuple[str, str] = (BEGIN, END)) -> str:
    """A README with `text` between its marks. Raises ValueError unless they are there once each, in this order."""
    first, last = marks
    before, begin, rest = readme.partition(first)
    _, end, after = rest.partition(last)
    if not begin or not end or first in after or last in after:
        raise ValueError(f"A README must have these two lines once, in this order: {first} and {last}")
    return f"{before}{first}\n{text}\n{last}{after}"


def pictures(folder: str = "") -> str:
    """The plot that fits the reader's theme, for a README from which `folder` leads to the board's."""
    light, dark = (folder + PLOTS.format(theme=theme) for theme in ("light", "dark"))
    return (
        f'<picture><source media="(prefers-color-scheme: dark)" srcset="{dark}">'
        f'<img alt="Requests per second, and requests in the sliding window against the limit" src="{light}"></picture>'
    )


def _real(fleets: Mapping[str, FleetResult]) -> list[FleetResult]:
    return [result for name, result in fleets.items() if not FLEETS[name].is_simulated]


def _heading(results: Iterable[Result | FleetResult]) -> str:
    """`results`: those that were measured in real time, whose machine and date matter."""
    setups = [result.setup for result in results]
    where = sorted({str(setup["machine"]) for setup in setups})
    when = sorted({str(setup["measured_at"])[:10] for setup in setups})
    loads = sorted(setup["load_average"] for setup in setups)
    told = "; ".join(where)
    if setups:
        told += f", load average {loads[0]:.1f} to {loads[-1]:.1f}, {' to '.join(sorted({when[0], when[-1]}))}"
    return (
        f"{PROCESSES} processes x {CALLERS} callers on Google's Firestore emulator with {1000 * RTT_S:.0f} ms injected into "
        f"every call, real windows of 60 s, judged by the times at which requests arrived at the offline Gemini "
        f"({told or 'none was measured'}). Figures in **bold** miss their goal."
    )


def _table(
    cells: Sequence[Cell], columns: Mapping[str, Callable[[Cell, Figures], str]], results: Mapping[str, Result]
) -> str:
    return _markdown(_rows(cells, columns, results))


def _rows(
    cells: Sequence[Cell], columns: Mapping[str, Callable[[Cell, Figures], str]], results: Mapping[str, Result]
) -> list[list[str]]:
    """The first has the names of the columns."""
    rows = [["", *columns]]
    for cell in cells:
        result = results.get(cell.name)
        if result is None:
            rows.append([_title(cell), "not measured", *[""] * (len(columns) - 1)])
            continue
        bad = {COLUMNS_OF[goal.name] for goal in goals(cell, result.figures) if not goal.met}
        rows.append([_title(cell), *(_bold(show(cell, result.figures), name in bad) for name, show in columns.items())])
    return rows


def _markdown(rows: Sequence[Sequence[str]]) -> str:
    head, *rest = rows
    return "\n".join(f"| {' | '.join(row)} |" for row in [head, ["---"] * len(head), *rest])


def _bold(text: str, is_missed: bool) -> str:
    return f"**{text}**" if is_missed else text


def _title(cell: Cell) -> str:
    if cell.binds == "slots":
        name = f"{cell.concurrency} at once"
    else:
        name = f"{cell.rpm:,} RPM" + (" at 60 %" if cell.load == "60" else "")
    return name + (", naive" if cell.lease == "naive" else "") + (", kill -9" if cell.kill else "")
