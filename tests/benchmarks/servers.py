"""The processes of a benchmark: functions as they are deployed, the upstream and the callers, each on its core."""

from __future__ import annotations

import compileall
import contextlib
import http.client
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

import orjson

from tests.benchmarks.load import Order, Window
from tests.support.checkout import unpacked_bundle
from tests.support.processes import ADMIN_KEY, ISOLATED_FRAMEWORK, ROOT, environment
from tests.support.tied import free_port

GATEWAY = {
    "ADMIN_API_KEY": ADMIN_KEY,
    "GEMINI_API_KEY": "AQ.key-of-the-benchmarks",
    "GEMINI_CONCURRENCY_LIMIT": "1000",
    "MAX_CONNECTIONS": "1000",
}
UNLIMITED = {f"GEMINI_{limit}": "unlimited" for limit in ("RPM", "TPM", "RPD")}
METERED = {"GEMINI_RPM": "1000000", "GEMINI_TPM": "1000000000", "GEMINI_RPD": "1000000000"}
HEADERS = {"Content-Type": "application/json", "Admin-API-Key": ADMIN_KEY}
_PATIENCE_S = 20.0


class BenchmarkError(Exception):
    """Why there is nothing to measure, in one sentence."""


@dataclass(frozen=True)
class Function:
    """One function and what it is deployed with. `folder` holds its main.py; `path` is the one that is called."""

    name: str
    target: str
    folder: Path
    env: Mapping[str, str]
    path: str = "/"


@dataclass(frozen=True)
class Served:
    """A function that answers. `pid` is the worker's; functions-framework's own process waits beside it."""

    function: Function
    url: str
    pid: int
    first_answer_s: float
    """From the start of the process to the first answer's last byte."""

    def rss_mb(self) -> float:
        return _field_kb(Path(f"/proc/{self.pid}/status"), "VmRSS") / 1024


def cores() -> tuple[int | None, int | None]:
    """(the function's, everything else's). Alone on its core a function is not slowed down by what drives it."""
    available = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    return (available[0], available[-1]) if len(available) > 1 else (None, None)


def compiled_bundle(folder: Path) -> Path:
    """The archive that is deployed, with the bytecode that Google's buildpack makes of it."""
    target = unpacked_bundle(ROOT, folder)
    compileall.compile_dir(target, quiet=2, force=True)
    return target


@contextlib.contextmanager
def served(function: Function, body: str | None, core: int | None) -> Iterator[Served]:
    """functions-framework on one function, ended with the block; `body` is its first request, GET /health where there is
    none. Raises BenchmarkError."""
    port = free_port()
    place = ["--target", function.target, "--source", "main.py", "--host", "127.0.0.1", "--port", str(port)]
    with tempfile.TemporaryFile() as log:
        began_s = time.perf_counter()
        with _process(
            [sys.executable, "-I", "-S", "-c", ISOLATED_FRAMEWORK, *place],
            function.env,
            function.folder,
            core,
            log,
            log,
        ) as process:
            try:
                _first_answer(process, port, function.path, body)
                took_s, pid = time.perf_counter() - began_s, _worker(process.pid)
            except (OSError, http.client.HTTPException, BenchmarkError) as error:
                log.seek(0)
                said = log.read()[-2000:].decode(errors="replace")
                raise BenchmarkError(f"{function.name} does not serve ({error}); it said:\n{said}") from error
            yield Served(function, f"http://127.0.0.1:{port}{function.path}", pid, took_s)


@contextlib.contextmanager
def upstream(core: int | None) -> Iterator[str]:
    """The address of the stand-in for Gemini."""
    with _helper("tests.benchmarks.upstream", core) as process:
        yield _line(process)


@contextlib.contextmanager
def upstream_with_tls(core: int | None, certificate: Path) -> Iterator[tuple[str, str]]:
    """Its address, and the one with TLS, whose `certificate` is a file with the key, for localhost."""
    with _helper("tests.benchmarks.upstream", core, str(certificate)) as process:
        yield _line(process), _line(process)


def set_latency(url: str, latency_ms: int) -> None:
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=_PATIENCE_S)
    with contextlib.closing(connection):
        connection.request("GET", f"/latency/{latency_ms}")
        connection.getresponse().read()


@contextlib.contextmanager
def load(core: int | None) -> Iterator[Load]:
    with _helper("tests.benchmarks.load", core) as process:
        yield Load(process)


class Load:
    """The process with the callers."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process

    def run(self, order: Order) -> Window:
        """Raises BenchmarkError."""
        assert self._process.stdin is not None
        self._process.stdin.write(orjson.dumps(asdict(order)) + b"\n")
        self._process.stdin.flush()
        result = orjson.loads(_line(self._process))
        if "error" in result:
            raise BenchmarkError(result["error"])
        return Window(**result)


def _helper(
    module: str, core: int | None, *arguments: str
) -> contextlib.AbstractContextManager[subprocess.Popen[bytes]]:
    return _process([sys.executable, "-m", module, *arguments], {}, ROOT, core, subprocess.PIPE)


@contextlib.contextmanager
def _process(
    arguments: list[str],
    env: Mapping[str, str],
    cwd: Path,
    core: int | None,
    stdout: IO[bytes] | int,
    stderr: IO[bytes] | None = None,
) -> Iterator[subprocess.Popen[bytes]]:
    with _on(core):
        process = subprocess.Popen(
            arguments, env=environment(env), cwd=cwd, stdin=subprocess.PIPE, stdout=stdout, stderr=stderr
        )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(_PATIENCE_S / 2)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextlib.contextmanager
def _on(core: int | None) -> Iterator[None]:
    """What is started within is bound to `core`: a process begins with the affinity of the one that started it."""
    if core is None:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _line(process: subprocess.Popen[bytes]) -> str:
    assert process.stdout is not None
    line = process.stdout.readline().decode().strip()
    if not line:
        raise BenchmarkError("a process of the benchmark ended; what it said is above")
    return line


def _first_answer(process: subprocess.Popen[bytes], port: int, path: str, body: str | None) -> None:
    """Asks as soon as the port is open, as a platform does that has a request waiting."""
    end_s = time.perf_counter() + _PATIENCE_S
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_PATIENCE_S)
    with contextlib.closing(connection):
        while True:
            try:
                connection.connect()
                break
            except ConnectionRefusedError:
                if process.poll() is not None or time.perf_counter() > end_s:
                    raise BenchmarkError("its port stays closed") from None
                time.sleep(0.002)
        connection.request(*(("GET", "/health") if body is None else ("POST", path, body, HEADERS)))
        answer = connection.getresponse()
        content = answer.read()
        if answer.status != 200:
            raise BenchmarkError(f"HTTP {answer.status}: {content[:500]!r}")


def _worker(pid: int) -> int:
    """The one process that functions-framework's own has started."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    if len(children) != 1:
        raise BenchmarkError(f"it has {len(children)} workers, not one")
    return int(children[0])


def _field_kb(file: Path, name: str) -> int:
    for line in file.read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1])
    raise BenchmarkError(f"{file} has no {name}")
