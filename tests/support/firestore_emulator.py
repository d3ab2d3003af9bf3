"""Google's Firestore emulator as a context manager, for tests, benchmarks and whoever else needs one."""

from __future__ import annotations

import contextlib
import http.client
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

_SCRIPT = Path("platform/cloud-firestore-emulator/cloud_firestore_emulator")
_JVM = "-Xmx512m -XX:+UseSerialGC"
TIED_TO_US = '("$0" "$@" </dev/null; kill -9 0) & read -r _; kill -9 0'
"""The emulator's group ends with the emulator, and with us: then `read` meets the end of our pipe, even after a kill -9."""
_START_TIMEOUT_S = 60.0
_STOP_TIMEOUT_S = 5.0
_TRIES = 3


class EmulatorMissing(Exception):
    """It is not installed here; the message says what to do."""


@contextlib.contextmanager
def firestore_emulator() -> Iterator[str]:
    """`host:port` of the emulator that FIRESTORE_EMULATOR_HOST names, else of a new one, ended with the block.

    It is empty when new, and shared: use a project of your own. Raises EmulatorMissing."""
    if running := os.environ.get("FIRESTORE_EMULATOR_HOST"):
        yield running
        return
    script = _find_script()
    with tempfile.TemporaryFile() as log:
        process, host = _start(script, log)
        try:
            yield host
        finally:
            _stop(process, host)


def _find_script() -> Path:
    if shutil.which("java") is None and not os.environ.get("JAVA"):
        raise EmulatorMissing("Google's Firestore emulator needs Java, which is not on the PATH.")
    for root in _sdk_roots():
        if (root / _SCRIPT).is_file():
            return root / _SCRIPT
    raise EmulatorMissing(
        "Google's Firestore emulator was not found: install it with `gcloud components install cloud-firestore-emulator` "
        "(or apt's google-cloud-cli-firestore-emulator), or set FIRESTORE_EMULATOR_HOST."
    )


def _sdk_roots() -> Iterator[Path]:
    """Where the Cloud SDK may be, the slow question last."""
    if root := os.environ.get("CLOUDSDK_ROOT_DIR"):
        yield Path(root)
    gcloud = shutil.which("gcloud")
    if gcloud is not None:
        yield Path(gcloud).resolve().parent.parent
    yield from map(Path, ("/usr/lib/google-cloud-sdk", "/opt/google-cloud-sdk", "/usr/share/google-cloud-sdk"))
    yield Path.home() / "google-cloud-sdk"
    if gcloud is not None:
        with contextlib.suppress(subprocess.SubprocessError):
            command = [gcloud, "info", "--format=value(installation.sdk_root)"]
            told = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True).stdout.strip()
            if told:
                yield Path(told)


def _start(script: Path, log: IO[bytes]) -> tuple[subprocess.Popen[bytes], str]:
    for _ in range(_TRIES):
        host = f"127.0.0.1:{_free_port()}"
        process = subprocess.Popen(
            ["/bin/sh", "-c", TIED_TO_US, str(script), "--host=127.0.0.1", f"--port={host.rpartition(':')[2]}"],
            env={**os.environ, "JAVA_TOOL_OPTIONS": f"{os.environ.get('JAVA_TOOL_OPTIONS', '')} {_JVM}".strip()},
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            if _wait_until_it_answers(process, host):
                return process, host
        except BaseException:
            _stop(process, host)
            raise
        _stop(process, host)
    log.seek(0)
    last = log.read()[-1000:].decode(errors="replace")
    raise RuntimeError(f"Google's Firestore emulator did not start in {_TRIES} tries. It said: {last}")


def _wait_until_it_answers(process: subprocess.Popen[bytes], host: str) -> bool:
    """False when it ended (another program may have taken the port), or took too long."""
    end_s = time.monotonic() + _START_TIMEOUT_S
    while time.monotonic() < end_s and process.poll() is None:
        connection = http.client.HTTPConnection(host, timeout=2)
        try:
            connection.request("GET", "/")
            if connection.getresponse().status == 200:
                return True
        except (OSError, http.client.HTTPException):
            time.sleep(0.05)
        finally:
            connection.close()
    return False


def _stop(process: subprocess.Popen[bytes], host: str) -> None:
    """The script's whole group, since Java is its child. Killed, not asked: it has nothing to save, and shuts down slowly."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    address, _, port = host.rpartition(":")
    end_s = time.monotonic() + _STOP_TIMEOUT_S
    while time.monotonic() < end_s:
        try:
            socket.create_connection((address, int(port)), timeout=1).close()
        except OSError:
            return
        time.sleep(0.02)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
