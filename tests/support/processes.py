"""Starts real processes on this machine, reads their output, and always ends them, by their id."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import functions_framework

from tests.support.tied import free_port

ROOT = Path(__file__).resolve().parents[2]
SITE_PACKAGES = str(Path(functions_framework.__file__).parents[1])
ISOLATED_FRAMEWORK = (
    f"import sys; sys.path.append({SITE_PACKAGES!r}); from functions_framework._cli import _cli; _cli()"
)
"""functions-framework's command for `python -I -S -c`: the checkout is installed editable by a .pth file, which Python does
not read with -S."""
START_S = 30.0
ADMIN_KEY = "admin-key-of-the-tests"
ADMIN = {"Admin-API-Key": ADMIN_KEY}
_SETTINGS = re.compile(
    r"(ADMIN_API_KEY|GEMINI_.*|GOOGLE_.*|LEDGER_.*|OTEL_.*|CALLER_.*|EMULATOR_.*|ALLOW_ANONYMOUS|CORS_ORIGIN|LOG_LEVEL|HOST|PORT"
    r"|STORAGE_.*|IMAGE_.*|PUBLIC_.*|AWS_.*"
    r"|WORKERS|K_SERVICE|FUNCTION_.*|.*_TIMEOUT_SECONDS|MAX_.*|RATE_.*|QUEUE_.*|(HTTPS?|ALL|NO)_PROXY|(https?|all|no)_proxy|PYTHON.*)"
)


def environment(given: Mapping[str, str]) -> dict[str, str]:
    """This process's environment with the given variables, and without those that would change the product's behaviour."""
    return {**{name: value for name, value in os.environ.items() if not _SETTINGS.fullmatch(name)}, **given}


class Running:
    """A process that was started here; `lines` is its output so far, from both streams."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.lines: list[str] = []
        self.url = ""
        self._more = asyncio.Event()
        self._reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        assert self.process.stdout is not None
        while line := await self.process.stdout.readline():
            self.lines.append(line.decode().rstrip("\n"))
            self._more.set()
        self._more.set()

    @property
    def output(self) -> str:
        return "\n".join(self.lines)

    async def line(self, pattern: str, timeout_s: float = START_S) -> re.Match[str]:
        """The first line that contains `pattern`; waits for it if necessary."""
        async with asyncio.timeout(timeout_s):
            while True:
                for line in self.lines:
                    if match := re.search(pattern, line):
                        return match
                if self._reading.done():
                    raise AssertionError(f"it ended without a line like {pattern!r}; it said:\n{self.output}")
                self._more.clear()
                await self._more.wait()

    def signal_group(self, number: signal.Signals) -> None:
        """Signals the process and its children; it was started with a group of its own."""
        os.killpg(self.process.pid, number)

    async def end(self, number: signal.Signals = signal.SIGTERM, timeout_s: float = START_S) -> int:
        """Sends the signal `number`; returns the exit status."""
        if self.process.returncode is None:
            self.process.send_signal(number)
        return await self.ended(timeout_s)

    async def ended(self, timeout_s: float = START_S) -> int:
        async with asyncio.timeout(timeout_s):
            await self._reading
            return await self.process.wait()


@asynccontextmanager
async def started(
    arguments: Sequence[str],
    env: Mapping[str, str],
    cwd: Path = ROOT,
    ready: str | None = None,
    *,
    own_group: bool = False,
) -> AsyncIterator[Running]:
    """A process with only the settings given. `ready` is a line to wait for, whose group 1 is the address. `own_group`:
    it leads a process group, to be signalled with all that it starts."""
    process = await asyncio.create_subprocess_exec(
        *arguments,
        cwd=cwd,
        env=environment(env),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        limit=2**24,
        start_new_session=own_group,
    )
    running = Running(process)
    try:
        if ready is not None:
            running.url = (await running.line(ready))[1]
        yield running
    finally:
        if process.returncode is None:
            process.terminate()
            try:
                await running.ended(10)
            except TimeoutError:
                running.signal_group(signal.SIGKILL) if own_group else process.kill()
        await running.ended()


@asynccontextmanager
async def served(env: Mapping[str, str], cwd: Path = ROOT) -> AsyncIterator[Running]:
    """The local server of the checkout at `cwd`, on a free port."""
    given = {"PORT": "0", "LEDGER_URL": "memory://", "ADMIN_API_KEY": ADMIN_KEY, **env}
    arguments = [sys.executable, "-m", "functions.serve"]
    async with started(arguments, given, cwd, r"^Serving on (\S+)") as running:
        yield running


@asynccontextmanager
async def framework(
    target: str,
    source: str,
    env: Mapping[str, str],
    cwd: Path = ROOT,
    *,
    isolated: bool = False,
    own_group: bool = False,
    python: str = sys.executable,
) -> AsyncIterator[Running]:
    """functions-framework's own command on one function. `isolated`: it sees the installed packages, but not this
    checkout. `python`: the interpreter of another environment, which has functions-framework."""
    command = [python, "-m", "functions_framework"]
    if isolated:
        command = [python, "-I", "-S", "-c", ISOLATED_FRAMEWORK]
    port = free_port()
    arguments = [*command, "--target", target, "--source", source, "--host", "127.0.0.1", "--port", str(port)]
    given = {"LEDGER_URL": "memory://", "ADMIN_API_KEY": ADMIN_KEY, **env}
    async with started(arguments, given, cwd, own_group=own_group) as running:
        running.url = f"http://127.0.0.1:{port}"
        await _accepting(running, port)
        yield running


async def _accepting(running: Running, port: int) -> None:
    async with asyncio.timeout(START_S):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                if running.process.returncode is not None:
                    await running.ended()
                    raise AssertionError(f"it ended at once; it said:\n{running.output}") from None
                await asyncio.sleep(0.02)
            else:
                writer.close()
                return


async def request(method: str, url: str, **rest: Any) -> tuple[int, Mapping[str, str], Any]:
    """(status, headers, body: JSON decoded if it is JSON)."""
    async with aiohttp.ClientSession() as session, session.request(method, url, **rest) as response:
        is_json = response.content_type == "application/json"
        return response.status, response.headers, await (response.json() if is_json else response.text())
