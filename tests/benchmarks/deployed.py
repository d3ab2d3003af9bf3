"""What each function is when it is deployed: the archive's size, a process's start, its memory, and what it imports."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from shared.http.manifest import load_all
from tests.benchmarks.servers import GATEWAY, Function, served
from tests.support.processes import ROOT, SITE_PACKAGES, environment

HEAVIEST = 4
_LINE = re.compile(r"import time:\s+(\d+) \|\s+\d+ \| +(\S+)")


@dataclass(frozen=True)
class Imports:
    """Of a function's module, before the first request. `heaviest`: top-level package -> its own ms, the slowest first."""

    modules: int
    ms: float
    heaviest: Mapping[str, float]


@dataclass(frozen=True)
class Deployed:
    name: str
    starts_s: Sequence[float]
    """From the start of the process to the first answer's last byte: chat's to a prompt, the others' to GET /health."""
    rss_mb: float
    """Of the worker after that answer."""
    imports: Imports


def measure(bundle: Path, upstream_url: str, first: Mapping[str, str], tries: int, core: int | None) -> list[Deployed]:
    """`first`: function -> the body that it is asked first. Raises BenchmarkError."""
    env = {**GATEWAY, "GEMINI_BASE_URL": upstream_url, "LEDGER_URL": "memory://"}
    found = []
    for manifest in load_all(ROOT / "functions"):
        function = Function(manifest.name, manifest.name, bundle, env)
        starts_s, rss_mb = [], 0.0
        for _ in range(tries):
            with served(function, first.get(manifest.name), core) as one:
                starts_s.append(one.first_answer_s)
                rss_mb = max(rss_mb, one.rss_mb())
        found.append(Deployed(manifest.name, starts_s, rss_mb, imports(bundle, manifest.name)))
    return found


def imports(bundle: Path, name: str) -> Imports:
    start = f"import sys; sys.path[:0] = [{str(bundle)!r}]; sys.path.append({SITE_PACKAGES!r}); import main"
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-X", "importtime", "-c", start],
        env=environment({"FUNCTION_TARGET": name}),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return import_table(done.stderr.splitlines())


def import_table(lines: Iterable[str]) -> Imports:
    """From what `python -X importtime` writes: a module's own time (us), and its name."""
    own_us: Counter[str] = Counter()
    modules = 0
    for line in lines:
        if match := _LINE.fullmatch(line.rstrip()):
            modules += 1
            own_us[match[2].partition(".")[0]] += int(match[1])
    heaviest = {package: us / 1000 for package, us in own_us.most_common(HEAVIEST)}
    return Imports(modules, own_us.total() / 1000, heaviest)
