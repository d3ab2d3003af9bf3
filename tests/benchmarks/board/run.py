"""One cell from end to end: `python -m tests.benchmarks.board.run <cell>` starts everything, measures, judges, writes."""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import orjson

from tests.benchmarks.board.cells import (
    AFTER_S,
    CALLERS,
    CELLS,
    PROCESSES,
    QUEUE_TIMEOUT_S,
    RTT_S,
    Cell,
    Plan,
    goals,
    plan,
)
from tests.benchmarks.board.driver import MODEL, Order, Times
from tests.benchmarks.board.fleets import FLEETS, FleetCell, run_processes
from tests.benchmarks.board.judge import Asked, Observed, judge, series
from tests.benchmarks.board.link import FarFirestore
from tests.benchmarks.board.results import FleetResult, Result, save
from tests.simulation import fleet
from tests.support.firestore_emulator import firestore_emulator
from tests.support.goals import Goal
from tests.support.processes import ROOT, START_S, environment, request, started

_KEY = "AQ.key-of-the-board"
_METERED = "1000000000"
"""A limit that counts and does not bind."""
_LEAD_S = 0.5
_END_S = 60.0
"""What ending may take, beyond the cell's own time, on a machine that has other work as well."""


class CellFailed(Exception):
    """Why there is no result, in a sentence."""


class Driver:
    """One process of callers. It ends with this one, whatever happens: it reads its standard input."""

    def __init__(self, process: asyncio.subprocess.Process, output: Path) -> None:
        self.process, self._output = process, output

    async def ready(self) -> None:
        assert self.process.stdout is not None
        async with asyncio.timeout(2 * START_S):
            if await self.process.stdout.readline() != b"ready\n":
                raise CellFailed("a process of callers did not start; what it said is above")

    def begin(self, times: Times) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(orjson.dumps(asdict(times)) + b"\n")

    def kill(self) -> None:
        self.process.kill()

    async def saw(self, end_s: float) -> dict[str, Any]:
        """`end_s`: when its callers stop. Raises CellFailed, TimeoutError."""
        async with asyncio.timeout(end_s - time.monotonic() + _END_S):
            if await self.process.wait() != 0:
                raise CellFailed(f"a process of callers ended with {self.process.returncode}; what it said is above")
        seen: dict[str, Any] = orjson.loads(self._output.read_bytes())
        return seen


async def run_cell(cell: Cell, planned: Plan, firestore_host: str) -> Result:
    """Raises CellFailed, TimeoutError, ValueError (nothing was to be judged)."""
    async with asyncio.timeout(planned.ends_s + 3 * START_S + _END_S), AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        link = FarFirestore(firestore_host, RTT_S)
        await stack.enter_async_context(link)
        gemini = await stack.enter_async_context(_gemini(cell, planned))
        env = _settings(cell, planned, gemini, link.host)
        drivers = [
            await stack.enter_async_context(_driver(cell, planned, number, env, folder)) for number in range(PROCESSES)
        ]
        for driver in drivers:
            await driver.ready()
        times = _times(planned)
        for driver in drivers:
            driver.begin(times)
        killed = None
        if planned.kill_s is not None:
            await asyncio.sleep(times.begin_s + planned.kill_s - time.monotonic())
            killed = drivers.pop(0)
            killed.kill()
        killed_s = time.monotonic() if killed is not None else None
        saw = [await driver.saw(times.end_s) for driver in drivers]
        _, _, stats = await request("GET", f"{gemini}/stats?arrivals=1")
    seen = _observed(cell, planned, times, saw, stats, link, killed_s)
    figures = judge(seen)
    failures = {code: told for one in saw for code, told in one["failures"].items()}
    history = series(seen.arrivals_s, seen.begin_s, seen.until_s, seen.window_s)
    return Result(cell.name, figures, history, _setup(cell, planned), failures)


def _times(planned: Plan) -> Times:
    begin_s = time.monotonic() + _LEAD_S
    since_s = begin_s + planned.warm_s
    until_s = since_s + planned.measured_s
    return Times(begin_s, since_s, until_s, until_s + AFTER_S)


def _observed(
    cell: Cell,
    planned: Plan,
    times: Times,
    saw: Sequence[Mapping[str, Any]],
    stats: Mapping[str, Any],
    link: FarFirestore,
    killed_s: float | None,
) -> Observed:
    if len(stats["projects"]) != 1:
        raise CellFailed(f"Gemini saw {len(stats['projects'])} projects, not one")
    (project,) = stats["projects"].values()
    model = project["models"][MODEL]
    return Observed(
        begin_s=times.begin_s,
        since_s=times.since_s,
        until_s=times.until_s,
        window_s=planned.window_s,
        limit=planned.limit,
        closed_loop=planned.per_s is None,
        service_s=cell.latency_s,
        asked=[Asked(*one) for each in saw for one in each["asked"]],
        arrivals_s=sorted(model["arrivals"]["at_s"]),
        most_offered=model["max_offered_requests_in_window"],
        most_at_once=project["max_open"],
        refused=stats["refused"],
        commits_s=link.commits_s,
        conflicts_s=link.conflicts_s,
        reads_s=link.reads_s,
        steps_ms=[step_ms for each in saw for step_ms in each["steps_ms"]],
        state_bytes=max(each["state_bytes"] for each in saw),
        cpu_ms=sum(each["cpu_ms"] for each in saw),
        killed_s=killed_s,
    )


def _settings(cell: Cell, planned: Plan, gemini: str, ledger_host: str) -> dict[str, str]:
    lease = {} if cell.kill is None else {"LEDGER_LEASE_SECONDS": str(cell.kill.ttl_s)}
    return {
        **lease,
        "GEMINI_BASE_URL": gemini,
        "GEMINI_API_KEY": _KEY,
        "GEMINI_API_KEY_PROJECT": f"project-{uuid.uuid4().hex[:12]}",
        "GEMINI_RPM": str(planned.limit),
        "GEMINI_TPM": _METERED,
        "GEMINI_RPD": _METERED,
        "GEMINI_CONCURRENCY_LIMIT": str(cell.concurrency),
        "LEDGER_URL": "firestore://exactness-board/(default)",
        "FIRESTORE_EMULATOR_HOST": ledger_host,
        "LEDGER_WINDOW_SECONDS": str(planned.window_s),
        "QUEUE_TIMEOUT_SECONDS": str(QUEUE_TIMEOUT_S),
        "REQUEST_TIMEOUT_SECONDS": str(cell.tau_s),
        "LOG_LEVEL": "WARNING",
    }


@asynccontextmanager
async def _gemini(cell: Cell, planned: Plan) -> AsyncIterator[str]:
    """The judge: it enforces the limits exactly, and remembers when each request arrived."""
    env = {
        "EMULATOR_LATENCY_MS": str(1000 * cell.latency_s),
        "EMULATOR_RPM": str(planned.limit),
        "EMULATOR_CONCURRENCY": str(cell.concurrency),
        "LEDGER_WINDOW_SECONDS": str(planned.window_s),
    }
    arguments = [sys.executable, "-m", "shared.emulator", "--port", "0"]
    async with started(arguments, env, ready=r"^offline Gemini on (\S+)") as running:
        yield running.url


@asynccontextmanager
async def _driver(
    cell: Cell, planned: Plan, number: int, env: Mapping[str, str], folder: Path
) -> AsyncIterator[Driver]:
    output = folder / f"{number}.json"
    order = Order(number, cell.lease, CALLERS, planned.per_s, str(output))
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.benchmarks.board.driver",
        orjson.dumps(asdict(order)).decode(),
        cwd=ROOT,
        env=environment(env),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        yield Driver(process, output)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def run_fleet(fleet_cell: FleetCell, firestore_host: str) -> FleetResult:
    """A cell with processes. Raises TimeoutError, AssertionError (a process did not start), ValueError."""
    async with asyncio.timeout(fleet_cell.ends_s + 6 * START_S + _END_S):
        measured = await run_processes(fleet_cell.cell, firestore_host)
    return FleetResult(
        fleet_cell.name, measured.figures, {**asdict(fleet_cell), "rtt_s": RTT_S, **_where()}, measured.answers
    )


def _setup(cell: Cell, planned: Plan) -> dict[str, Any]:
    return {
        **asdict(cell),
        **asdict(planned),
        "processes": PROCESSES,
        "callers_per_process": CALLERS,
        "rtt_s": RTT_S,
        **_where(),
    }


def _where() -> dict[str, Any]:
    """When it was measured, of which commit and on which machine."""
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return {
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit.stdout.strip(),
        "machine": f"{os.cpu_count()} cores, {platform.system()}, Python {platform.python_version()}, "
        f"grpcio {version('grpcio')}",
        "load_average": round(os.getloadavg()[0], 1),
    }


def _measured(options: argparse.Namespace) -> tuple[Result | FleetResult, list[Goal]]:
    """With the goals of the cell. Raises CellFailed, TimeoutError, ValueError, AssertionError, OSError."""
    fleet_cell = FLEETS.get(options.cell)
    if fleet_cell is None:
        cell = CELLS[options.cell]
        planned = plan(cell, window_s=options.window, measure_s=options.measure)
        with firestore_emulator() as host:
            result = asyncio.run(run_cell(cell, planned, host))
        return result, goals(cell, result.figures)
    if fleet_cell.is_simulated:
        found = FleetResult(fleet_cell.name, fleet.measure(fleet_cell.cell), {**asdict(fleet_cell), **_where()}, {})
    else:
        with firestore_emulator() as host:
            found = asyncio.run(run_fleet(fleet_cell, host))
    return found, fleet.goals(fleet_cell.cell, found.figures)


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.board.run", description=__doc__)
    parser.add_argument("cell", choices=[*CELLS, *FLEETS])
    parser.add_argument("--into", type=Path, required=True, help="the folder for <cell>.json")
    parser.add_argument("--window", type=float, default=60.0, help="seconds that stand for a minute; not of a fleet")
    parser.add_argument("--measure", type=float, help="seconds, for a minute of 60 s; not of a fleet")
    options = parser.parse_args(arguments)
    # An emulator of its own: what another one was put through must not be measured.
    os.environ.pop("FIRESTORE_EMULATOR_HOST", None)
    # So that everything is ended when this process is told to end.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        result, reached = _measured(options)
    except (CellFailed, TimeoutError, ValueError, AssertionError, OSError, RuntimeError) as error:
        print(f"{options.cell}: not measured: {str(error) or type(error).__name__}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"{options.cell}: stopped", file=sys.stderr)
        return 130
    save(options.into, result)
    if not reached:
        print(f"{options.cell}: measured, to compare with", flush=True)
        return 0
    missed = [f"{goal.name} {goal.value:.4g} (goal {goal.bound:g})" for goal in reached if not goal.met]
    print(f"{options.cell}: {'missed: ' + '; '.join(missed) if missed else 'every goal is met'}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
