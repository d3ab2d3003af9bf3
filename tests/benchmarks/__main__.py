"""`make bench`: what /chat costs beside a bare pass-through function, and a chat completion of OpenAI's beside /chat, as
Markdown, and every round in dist/bench.json."""

from __future__ import annotations

import argparse
import contextlib
import os
import platform
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import orjson

from functions.bundle import TARGET, build
from tests.benchmarks.deployed import Deployed
from tests.benchmarks.deployed import measure as measure_deployed
from tests.benchmarks.figures import Cell, Comparison, Figures, best, compare, figures
from tests.benchmarks.load import Order
from tests.benchmarks.servers import (
    GATEWAY,
    HEADERS,
    METERED,
    UNLIMITED,
    BenchmarkError,
    Function,
    Load,
    Served,
    compiled_bundle,
    cores,
    load,
    served,
    set_latency,
    upstream,
)
from tests.benchmarks.table import (
    Goal,
    Process,
    deployed_table,
    goals,
    goals_table,
    lags_table,
    processes_table,
    section,
)
from tests.benchmarks.upstream import END
from tests.support.processes import ROOT

OUTPUT = ROOT / "dist" / "bench.json"
STREAM = Cell(32, 0, stream=True)
CELLS = (*(Cell(callers, latency_ms) for latency_ms in (0, 50) for callers in (1, 32, 128)), STREAM)
BASE, UNMETERED, COUNTED = "pass-through", "chat, no limits", "chat, limits far away"
TRANSLATED = "chat completions, no limits"
TRANSLATED_CELLS = (Cell(32, 0), STREAM)
TITLES = {
    UNMETERED: "Without limits (every limit `unlimited`)",
    COUNTED: "With limits that count but do not bind (1,000,000 RPM, 1,000,000,000 TPM; ledger: SQLite)",
    TRANSLATED: "POST /v1/chat/completions, beside POST /chat in place of the pass-through (every limit `unlimited`)",
}
LITELLM = (
    "For comparison, LiteLLM publishes for its gateway before a mock endpoint (docs.litellm.ai/docs/benchmarks): an overhead of "
    "2 ms (median) and 8 ms (95 %) at 1,170 requests/s on 4 machines of 4 cores; and in October 2026 a latency of 31 ms (median) "
    "and 54 ms (95 %) at 3,000 requests/s on 33 pods of 4 cores, with prompts of 50,000 to 100,000 tokens. It publishes no CPU."
)
_ASKED = {
    "prompt": "Write a short text about a harbour at night, with boats, lamps and a dog that waits for its fisherman. "
    * 4,
    "model": "gemini-3.8-flash",
}
FIRST = orjson.dumps(_ASKED).decode()
STREAMED = orjson.dumps({**_ASKED, "stream": True}).decode()
_COMPLETION = {"model": _ASKED["model"], "messages": [{"role": "user", "content": _ASKED["prompt"]}]}
_BODIES = {"openai_api": (orjson.dumps(_COMPLETION).decode(), orjson.dumps({**_COMPLETION, "stream": True}).decode())}
"""By function: the body of a request, and that of one whose answer is a stream. The others have FIRST and STREAMED."""


@dataclass(frozen=True)
class Effort:
    """How much is measured. No round begins that would not end within `budget_s`, measured by the longest so far."""

    rounds: int
    warm_s: float
    measure_s: float
    starts: int
    starts_each: int
    """Of every function."""
    budget_s: float


FULL = Effort(rounds=4, warm_s=0.25, measure_s=1.2, starts=5, starts_each=2, budget_s=165)
QUICK = Effort(rounds=1, warm_s=0.1, measure_s=0.3, starts=1, starts_each=1, budget_s=25)
Rounds = dict[tuple[str, Cell], list[Figures]]


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a first look in half a minute: one short round")
    effort = QUICK if parser.parse_args(arguments).quick else FULL
    if not Path("/proc/self/status").exists():
        print("The benchmarks read CPU and memory of other processes as Linux tells them; run them there.")
        return 1
    began_s = time.perf_counter()
    try:
        rounds, processes, functions = measure(effort, began_s)
    except BenchmarkError as error:
        print(error, file=sys.stderr)
        return 1
    sections = {
        name: [compare(cell, rounds[name, cell], rounds[BASE, cell]) for cell in CELLS] for name in (UNMETERED, COUNTED)
    }
    translated = [compare(cell, rounds[TRANSLATED, cell], rounds[UNMETERED, cell]) for cell in TRANSLATED_CELLS]
    reached = goals(sections, processes, translated)
    count, took_s = len(rounds[BASE, CELLS[0]]), time.perf_counter() - began_s
    print(*paragraphs({**sections, TRANSLATED: translated}, processes, reached, count, took_s), sep="\n")
    print(*lags({name: best(rounds[name, STREAM]) for name in (BASE, *TITLES)}), sep="\n")
    print(*deployment(functions, build(ROOT, ROOT / TARGET).stat().st_size), sep="\n", flush=True)
    OUTPUT.parent.mkdir(exist_ok=True)
    OUTPUT.write_bytes(
        orjson.dumps(
            record({**sections, TRANSLATED: translated}, processes, reached, rounds, functions),
            option=orjson.OPT_INDENT_2,
        )
    )
    print(f"Every round: {OUTPUT.relative_to(ROOT)}", file=sys.stderr)
    return 0


def measure(effort: Effort, began_s: float) -> tuple[Rounds, dict[str, Process], list[Deployed]]:
    """Raises BenchmarkError."""
    own, other = cores()
    if other is not None:
        os.sched_setaffinity(0, {other})
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        url = stack.enter_context(upstream(other))
        load_process = stack.enter_context(load(other))
        functions = deployed(folder, url)
        starts_s = first_answers(functions, effort.starts - 1, own)
        each = measure_deployed(functions[-1].folder, url, {"chat": FIRST}, effort.starts_each, own)
        running = [stack.enter_context(served(function, _body(function), own)) for function in functions]
        rounds: Rounds = {}
        longest_s = 0.0
        for number in range(effort.rounds):
            round_s = time.perf_counter()
            if number and round_s - began_s + longest_s > effort.budget_s:
                break
            print(f"round {number + 1} of {effort.rounds}", file=sys.stderr)
            one_round(running[:: -1 if number % 2 else 1], effort, url, load_process, rounds)
            longest_s = max(longest_s, time.perf_counter() - round_s)
        return (
            rounds,
            {
                one.function.name: Process([*starts_s[one.function.name], one.first_answer_s], one.rss_mb())
                for one in running
            },
            each,
        )


def deployed(folder: Path, upstream_url: str) -> list[Function]:
    bundle = compiled_bundle(folder)
    common = {**GATEWAY, "GEMINI_BASE_URL": upstream_url, "GEMINI_TIER": "custom"}

    def chat(name: str, ledger: str, limits: Mapping[str, str]) -> Function:
        return Function(name, "chat", bundle, {**common, **limits, "LEDGER_URL": f"sqlite:///{folder / ledger}"})

    return [
        Function(BASE, "passthrough", Path(__file__).parent / "passthrough", common),
        chat(UNMETERED, "unlimited.db", UNLIMITED),
        chat(COUNTED, "metered.db", METERED),
        Function(
            TRANSLATED,
            "openai_api",
            bundle,
            {**common, **UNLIMITED, "LEDGER_URL": f"sqlite:///{folder / 'openai.db'}"},
            "/v1/chat/completions",
        ),
    ]


def _body(function: Function, *, stream: bool = False) -> str:
    return _BODIES.get(function.target, (FIRST, STREAMED))[stream]


def first_answers(functions: Sequence[Function], tries: int, core: int | None) -> dict[str, list[float]]:
    """In turns. One more before them, so that files are in memory and ledgers exist."""
    starts_s: dict[str, list[float]] = {function.name: [] for function in functions}
    for number in range(tries + 1):
        for function in functions:
            with served(function, _body(function), core) as one:
                if number:
                    starts_s[function.name].append(one.first_answer_s)
    return starts_s


def one_round(running: Sequence[Served], effort: Effort, upstream_url: str, callers: Load, rounds: Rounds) -> None:
    """Every cell once, in each the functions one after the other."""
    for cell in CELLS:
        set_latency(upstream_url, cell.latency_ms)
        for one in running:
            if one.function.name == TRANSLATED and cell not in TRANSLATED_CELLS:
                continue
            order = Order(
                one.url,
                HEADERS,
                _body(one.function, stream=cell.stream),
                END,
                cell.callers,
                effort.warm_s,
                effort.measure_s,
                one.pid,
            )
            try:
                found = figures(callers.run(order))
            except (BenchmarkError, ValueError) as error:
                raise BenchmarkError(f"{one.function.name}, {cell}: {error}") from error
            rounds.setdefault((one.function.name, cell), []).append(found)


def paragraphs(
    sections: Mapping[str, Sequence[Comparison]],
    processes: Mapping[str, Process],
    reached: Sequence[Goal],
    rounds: int,
    took_s: float,
) -> Iterator[str]:
    yield (
        f"POST /chat on one functions-framework process (gunicorn, one uvicorn worker, the bundle as it is deployed) "
        f"beside a bare function that passes the prompt on with aiohttp, in turns, in one run: {machine()}. The function "
        f"has one core; callers and upstream share the other. The upstream is a canned answer in Gemini's shape, not the "
        f"offline Gemini, which would take too much of that core. Each figure is the best of {rounds} round(s) in {took_s:.0f} "
        f"s; the range is over all. CPU is the worker's alone, user and system time, per request. Where the "
        f"callers keep the core busy (0 ms, or 128 of them), a percentile tells how long the line for that core is."
    )
    for name, rows in sections.items():
        yield ""
        yield section(TITLES[name], rows)
    yield ""
    yield LITELLM
    yield ""
    yield "### Start and memory"
    yield ""
    yield processes_table(processes)
    yield ""
    yield "### Goals"
    yield ""
    yield goals_table(reached)


def lags(streamed: Mapping[str, Figures]) -> Iterator[str]:
    """Of the function of each name, in the cell STREAM."""
    yield ""
    yield f"### From Gemini's frame to the caller's event ({STREAM.callers} callers)"
    yield ""
    yield lags_table({name: streamed[name] for name in TITLES}, streamed[BASE])


def deployment(functions: Sequence[Deployed], bundle_bytes: int) -> Iterator[str]:
    yield ""
    yield f"### Each function as it is deployed (one archive for all, {bundle_bytes / 1024:.0f} KB)"
    yield ""
    yield deployed_table(functions)


def machine() -> str:
    parts = ", ".join(f"{name} {version(name)}" for name in ("functions-framework", "aiohttp", "uvloop"))
    return f"{os.cpu_count()} cores, {platform.system()}, Python {platform.python_version()}, {parts}"


def record(
    sections: Mapping[str, Sequence[Comparison]],
    processes: Mapping[str, Process],
    reached: Sequence[Goal],
    rounds: Rounds,
    functions: Sequence[Deployed],
) -> dict[str, Any]:
    return {
        "machine": machine(),
        "sections": {name: [asdict(row) for row in rows] for name, rows in sections.items()},
        "processes": {name: asdict(process) for name, process in processes.items()},
        "deployed": [asdict(one) for one in functions],
        "goals": [{**asdict(goal), "met": goal.met} for goal in reached],
        "rounds": [
            {"function": name, **asdict(cell), "rounds": [asdict(one) for one in found]}
            for (name, cell), found in rounds.items()
        ],
    }


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
