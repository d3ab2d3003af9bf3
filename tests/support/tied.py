"""Servers that tests start as processes, and that end with them whatever happens: their group is tied to this process."""

from __future__ import annotations

import contextlib
import fcntl
import http.client
import os
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO

_TIED_TO_US = '("$0" "$@" </dev/null; kill -9 0) & read -r _; kill -9 0'
"""The server's group ends with the server, and with us: then `read` meets the end of our pipe, even after a kill -9."""
_START_TIMEOUT_S = 60.0
_STOP_TIMEOUT_S = 5.0
FIRST_PORT, LAST_PORT, PORTS_PER_BLOCK = 20_000, 32_000, 100


class DidNotStart(Exception):
    """The server ended, or took too long to start; the message has its last output."""


def free_port() -> int:
    """A port of 127.0.0.1 that no other caller of this function gets while this process lives."""
    with _ports_lock:
        return next(_ports)


def _reserved_ports(folder: Path) -> Iterator[int]:
    """Free ports of blocks that this process has locked. They lie below those that the kernel gives to outgoing connections
    and to servers on port 0, so these cannot take a port between its reservation and its use."""
    folder.mkdir(mode=0o700, exist_ok=True)
    for first in range(FIRST_PORT, LAST_PORT, PORTS_PER_BLOCK):
        block = (folder / str(first)).open("w")
        try:
            fcntl.flock(block, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            block.close()
            continue
        _locked_blocks.append(block)
        yield from filter(_is_free, range(first, first + PORTS_PER_BLOCK))
    raise RuntimeError("All ports for tests are reserved: end other test runs on this machine.")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


_locked_blocks: list[IO[str]] = []
"""Open files: their locks last as long as this process."""
_ports = _reserved_ports(Path(tempfile.gettempdir()) / f"gateway-test-ports-{os.getuid()}")
_ports_lock = threading.Lock()


@contextlib.contextmanager
def tied(
    command: Sequence[str], port: int, *, ready: str = "/", env: Mapping[str, str] | None = None
) -> Iterator[None]:
    """A server on `port` of 127.0.0.1, for as long as the block lasts. It has started when it answers 200 to a GET of the
    path `ready`. Raises DidNotStart."""
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            ["/bin/sh", "-c", _TIED_TO_US, *command],
            env={**os.environ, **(env or {})},
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            if not _answers(process, port, ready):
                log.seek(0)
                said = log.read()[-1000:].decode(errors="replace")
                raise DidNotStart(f"{command[0]} did not start. It said: {said}")
            yield
        finally:
            _stop(process, port)


def _answers(process: subprocess.Popen[bytes], port: int, path: str) -> bool:
    end_s = time.monotonic() + _START_TIMEOUT_S
    while time.monotonic() < end_s and process.poll() is None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
        try:
            connection.request("GET", path)
            if connection.getresponse().status == 200:
                return True
        except (OSError, http.client.HTTPException):
            pass  # The server is still starting.
        finally:
            connection.close()
        time.sleep(0.05)
    return False


def _stop(process: subprocess.Popen[bytes], port: int) -> None:
    """Kills the whole group, since the server may be a script's child. It has nothing to save."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    end_s = time.monotonic() + _STOP_TIMEOUT_S
    while time.monotonic() < end_s:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            return
        time.sleep(0.02)
