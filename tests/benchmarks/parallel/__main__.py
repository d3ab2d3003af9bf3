"""`make bench-parallel`: the figures of the batch library, in real minutes: half an hour.

`--quick` has minutes of 6 s, with a tenth of the requests."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tests.benchmarks.parallel.arrivals import Seen, seen
from tests.support.tied import free_port

MODEL = "gemini-3.5-flash-lite"
KEY = "AQ.key-of-the-benchmarks"
PATIENCE_S = 1200
LATENCY_MS = 500
RPM, PROMPTS, WORKERS = 4_000, 10_000, 64
TPM = 2_000_000
TOKEN_PROMPTS = 220


def settings(gemini_url: str, ledger: str, **more: str) -> dict[str, str]:
    return {
        **os.environ,
        "GEMINI_BASE_URL": gemini_url,
        "LEDGER_URL": ledger,
        "GEMINI_API_KEY": KEY,
        "GEMINI_TIER": "tier3",
        "GEMINI_RPM": "unlimited",
        "GEMINI_TPM": "unlimited",
        "GEMINI_RPD": "unlimited",
        "GEMINI_CONCURRENCY_LIMIT": "200",
        **more,
    }


@contextmanager
def process(module: str, env: Mapping[str, str], *arguments: str) -> Iterator[subprocess.Popen[str]]:
    running = subprocess.Popen(
        [sys.executable, "-m", module, *arguments], env=dict(env), stdout=subprocess.PIPE, text=True
    )
    try:
        yield running
    finally:
        running.terminate()
        running.wait(30)


@contextmanager
def offline_gemini(window_s: float, latency_ms: int = LATENCY_MS, **limits: str) -> Iterator[str]:
    port = free_port()
    env = {
        **os.environ,
        "EMULATOR_LATENCY_MS": str(latency_ms),
        "LEDGER_WINDOW_SECONDS": str(window_s),
        **{f"EMULATOR_{name}": value for name, value in limits.items()},
    }
    with process("shared.emulator", env, "--port", str(port)) as running:
        assert running.stdout is not None
        running.stdout.readline()
        yield f"http://127.0.0.1:{port}"


def stats(url: str) -> dict[str, Any]:
    with urllib.request.urlopen(f"{url}/stats?arrivals=1", timeout=60) as response:
        found: dict[str, Any] = json.load(response)
        return found


def report_of(module: str, env: Mapping[str, str], *arguments: str) -> dict[str, Any]:
    """The last line of a program's output."""
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        env=dict(env),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=PATIENCE_S,
    )
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def many_prompts(folder: Path, window_s: float) -> None:
    """At 4,000 requests a minute: the library, then the plain loop on the same prompts."""
    rpm, count = int(RPM * window_s / 60), int(PROMPTS * window_s / 60)
    for name, module in (("gemini_parallel", "ours"), ("plain loop", "plain_loop")):
        with offline_gemini(window_s, RPM=str(rpm)) as url:
            env = settings(
                url, f"sqlite:///{folder}/{module}.db", GEMINI_RPM=str(rpm), LEDGER_WINDOW_SECONDS=str(window_s)
            )
            report = report_of(f"tests.benchmarks.parallel.{module}", env, str(count), str(WORKERS))
            show(name, report, seen(stats(url), MODEL, rpm), rpm)


def token_bound(folder: Path, window_s: float, count: int) -> None:
    """20,000 to 200,000 tokens a prompt, 2 million a window."""
    with offline_gemini(window_s, TPM=str(TPM)) as url:
        env = settings(url, f"sqlite:///{folder}/tokens.db", GEMINI_TPM=str(TPM), LEDGER_WINDOW_SECONDS=str(window_s))
        report = report_of("tests.benchmarks.parallel.ours", env, str(count), "40", "20000", "200000")
        show("token-bound", report, seen(stats(url), MODEL, TPM, tokens=True), TPM)


def show(name: str, report: Mapping[str, Any], found: Seen, limit: int) -> None:
    """Raises AssertionError if Gemini had more than the limit in any window."""
    assert found.most_in_a_window <= limit, f"{name}: {found.most_in_a_window} of {limit} in a window"
    share = "-" if found.used is None else f"{100 * found.used:.2f} %"
    print(
        f"{name}: {report['seconds']:.1f} s, {report['cpu_ms']:.2f} ms CPU a prompt, {report['rss_mb']:.0f} MB, "
        f"{found.admitted:,} requests, {found.rejected:,} rejected by Gemini, {share} of the limit used after the first "
        f"window, at most {found.most_in_a_window:,} of {limit:,} in any window, {report['failed']} failed",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.parallel", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="minutes of 6 s, with a tenth of the requests")
    parser.add_argument("--only", choices=("many", "tokens", "beside"))
    given = parser.parse_args()
    window_s = 6.0 if given.quick else 60.0
    with TemporaryDirectory() as name:
        folder, began_s = Path(name), time.monotonic()
        if given.only in (None, "many"):
            many_prompts(folder, window_s)
        if given.only in (None, "tokens"):
            token_bound(folder, window_s, TOKEN_PROMPTS)
        if given.only in (None, "beside"):
            from tests.benchmarks.parallel.beside import beside_gateways

            beside_gateways(folder, window_s)
        print(f"measured in {time.monotonic() - began_s:.0f} s", flush=True)


if __name__ == "__main__":
    main()
