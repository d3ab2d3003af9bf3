"""`make bench-ledger`: the exactness board. Every cell in a process of its own; what was measured before is not measured again.

Detached, it goes on when its terminal closes; `ONLY=<cell>[,<cell>]` measures those in the foreground. Then the tables of
three READMEs and the plots are written from all results."""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from tests.benchmarks.board.cells import AFTER_S, CELLS, plan
from tests.benchmarks.board.fleets import FLEETS
from tests.benchmarks.board.report import FLEET_BEGIN, FLEET_END, board, ceiling, into, pictures, summary
from tests.benchmarks.board.results import COMMITTED, FIRST_LOOKS, FleetResult, Result, load, load_fleet, path_of
from tests.support.processes import ROOT

README, BOARD = ROOT / "README.md", Path(__file__).with_name("README.md")
LEDGER = ROOT / "shared" / "ledger" / "README.md"
NAMES = (*CELLS, *FLEETS)
LOG, PID = ROOT / "dist" / "board.log", ROOT / "dist" / "board.pid"
_OVERHEAD_S = 240.0
"""What a cell may take beyond its own time: to start, to end, and to wait for a machine that is busy."""
_STOP_S = 30.0
"""A fleet's processes end one after another, and each is in a group of its own: only their parent can end them."""


def main(arguments: Sequence[str]) -> int:
    options = _options(arguments)
    try:
        cells = _chosen(options.only)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    if options.report:
        return _report(options.folder)
    if not (options.only or options.foreground):
        return _detach(arguments)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    failed = []
    try:
        for name in cells:
            if not options.force and _known(options.folder, name) is not None:
                print(f"{name}: measured before (FORCE=1 measures it again)", flush=True)
            elif not _measured(name, options):
                failed.append(name)
    except KeyboardInterrupt:
        print("Stopped; what was measured is kept, and the next run goes on from there.", flush=True)
        return 130
    status = _report(options.folder)
    if failed:
        print(f"Not measured: {', '.join(failed)}. Run it again: only these are measured.", flush=True)
    return 1 if failed else status


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.board", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--only", default="", help=f"cells, separated by commas, of: {' '.join(NAMES)}")
    parser.add_argument("--force", action="store_true", help="also what was measured before")
    parser.add_argument("--foreground", action="store_true", help="all cells, but not detached")
    parser.add_argument("--report", action="store_true", help="measure nothing; write the tables and the plots")
    parser.add_argument("--duration", type=float, help="seconds measured of each cell (a first look, not published)")
    parser.add_argument("--window", type=float, default=60.0, help="seconds for a minute (a first look, not published)")
    options = parser.parse_args(arguments)
    options.folder = COMMITTED if options.duration is None and options.window == 60 else FIRST_LOOKS
    return options


def _chosen(only: str) -> list[str]:
    """Raises ValueError."""
    names = [name for name in only.split(",") if name] or list(NAMES)
    unknown = [name for name in names if name not in NAMES]
    if unknown:
        raise ValueError(f"There is no cell {', '.join(unknown)}; there are {', '.join(NAMES)}.")
    return names


def _known(folder: Path, name: str) -> Result | FleetResult | None:
    try:
        return load_fleet(folder, name) if name in FLEETS else load(folder, name)
    except ValueError:
        return None


def _length_s(name: str, window_s: float, measure_s: float | None) -> float:
    """How long a cell takes once it has started. A fleet's is never shortened: its ledger's costs are per real second."""
    if name in FLEETS:
        return FLEETS[name].ends_s
    return plan(CELLS[name], window_s=window_s, measure_s=measure_s).ends_s


def _measured(name: str, options: argparse.Namespace) -> bool:
    """Whether the cell was. Its processes are in a group of their own, which is ended with it."""
    length_s = _length_s(name, options.window, options.duration)
    command = [sys.executable, "-m", "tests.benchmarks.board.run", name, "--into", str(options.folder)]
    command += ["--window", str(options.window)]
    if options.duration is not None:
        command += ["--measure", str(options.duration)]
    print(f"{time.strftime('%H:%M:%S')} {name}: {length_s + AFTER_S:.0f} s and a little", flush=True)
    process = subprocess.Popen(command, cwd=ROOT, start_new_session=True)
    try:
        return process.wait(length_s + _OVERHEAD_S) == 0
    except subprocess.TimeoutExpired:
        print(f"{name}: not measured: it did not end in time", flush=True)
        return False
    finally:
        _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        if process.poll() is None:
            os.killpg(process.pid, number)
            try:
                process.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                continue


def _report(folder: Path) -> int:
    known = {name: result for name in NAMES if (result := _known(folder, name)) is not None}
    results = {name: result for name, result in known.items() if isinstance(result, Result)}
    fleets = {name: result for name, result in known.items() if isinstance(result, FleetResult)}
    text = board(results, fleets)
    # Imported on demand: nothing else here needs it, and it takes half a second.
    from tests.benchmarks.board.plot import draw

    drawn = draw(results, folder)
    if folder != COMMITTED:
        print(text)
        return 0
    short = summary(results, fleets)
    if drawn:
        text = f"{text}\n\n{pictures()}"
        short = f"{short}\n\n{pictures('tests/benchmarks/board/')}"
    try:
        written = [
            (README, into(README.read_text(), short)),
            (BOARD, into(BOARD.read_text(), text)),
            (LEDGER, into(LEDGER.read_text(), ceiling(fleets), (FLEET_BEGIN, FLEET_END))),
        ]
    except ValueError as error:
        print(error, file=sys.stderr)
        return 1
    for readme, content in written:
        readme.write_text(content)
    files = ", ".join(str(path.relative_to(ROOT)) for path in (README, BOARD, LEDGER, path_of(folder, "*")))
    print(f"Written: {files}, {len(drawn)} plots", flush=True)
    return 0


def _detach(arguments: Sequence[str]) -> int:
    if (running := _running()) is not None:
        print(f"The board is being measured already. Follow it: tail -f {LOG}; stop it: kill {running}")
        return 1
    LOG.parent.mkdir(exist_ok=True)
    with LOG.open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.benchmarks.board", "--foreground", *arguments],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    PID.write_text(str(process.pid))
    minutes = sum(_length_s(name, 60.0, None) + 15 for name in NAMES) / 60
    print(f"All {len(NAMES)} cells, at their full length, take {minutes:.0f} minutes; finished ones are skipped.")
    print(f"Follow: tail -f {LOG}\nStop:   kill {process.pid}   (what is measured is kept)")
    return 0


def _running() -> int | None:
    """The id of a board that goes on; a file may be left from one that does not."""
    try:
        pid = int(PID.read_text())
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
    except (OSError, ValueError):
        return None
    return pid if b"tests.benchmarks.board" in command else None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
