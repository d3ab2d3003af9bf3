"""Starts the gateway as its users do, `python -m functions.serve` with the offline Gemini, and always ends it, by its id.

The server runs in the project's environment; the tests run in that of OpenAI's SDK, where no package of the project is.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import tempfile
import threading
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
PYTHON = ROOT / ".venv" / "bin" / "python"
ADMIN_KEY = "admin-key-of-the-tests"
START_S = 60.0
STOP_S = 20.0
_INHERITED = re.compile(r"PATH|HOME|LANG|LC_.*|TMPDIR|TZ|SSL_CERT_.*|VIRTUAL_ENV")
"""Variables that the server gets from this process: none of those that the gateway reads."""


@dataclass(frozen=True)
class Gateway:
    url: str
    gemini: str
    """The address of the offline Gemini; "" where the server has another upstream."""
    log: Path
    """The server's output."""

    @property
    def base_url(self) -> str:
        return f"{self.url}/v1"

    def stats(self) -> dict[str, Any]:
        """What the offline Gemini has received so far."""
        return dict(_json(f"{self.gemini}/stats"))

    def requests(self, path: str) -> list[dict[str, Any]]:
        """The log records of the requests for `path`."""
        lines = [line for line in self.log.read_text().splitlines() if line.startswith("{")]
        return [record for record in map(json.loads, lines) if _url_of(record) == path]


@contextlib.contextmanager
def served(**settings: str) -> Iterator[Gateway]:
    """The gateway with these settings, on a port that the system chooses."""
    with tempfile.TemporaryDirectory() as folder:
        environment = {
            **{name: value for name, value in os.environ.items() if _INHERITED.fullmatch(name)},
            "PORT": "0",
            "LEDGER_URL": "memory://",
            "STORAGE_URL": f"file://{folder}/images",
            "ADMIN_API_KEY": ADMIN_KEY,
            **settings,
        }
        log = Path(folder) / "log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [str(PYTHON), "-m", "functions.serve"],
                cwd=ROOT,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        try:
            yield _announced(process, log)
        finally:
            process.terminate()
            try:
                process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _announced(process: subprocess.Popen[bytes], log: Path) -> Gateway:
    """Waits for the lines with the addresses. Raises AssertionError with the output if the server ends before it prints them."""
    waited = threading.Event()
    for _ in range(int(START_S / 0.05)):
        text = log.read_text()
        serving = re.search(r"^Serving on (\S+)\n", text, re.MULTILINE)
        if serving is not None and "Admin key" in text:
            gemini = re.search(r"the offline Gemini at (\S+)", text)
            return Gateway(serving[1], "" if gemini is None else gemini[1], log)
        if process.poll() is not None:
            break
        waited.wait(0.05)
    raise AssertionError(f"The server did not start. Its output:\n{log.read_text()}")


def _json(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=30) as response:
        return json.load(response)


def _url_of(record: dict[str, Any]) -> str:
    return str(record.get("httpRequest", {}).get("requestUrl", ""))
