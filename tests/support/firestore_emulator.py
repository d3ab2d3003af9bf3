"""Google's Firestore emulator as a context manager, for tests and benchmarks."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests.support.tied import DidNotStart, free_port, tied

_SCRIPT = Path("platform/cloud-firestore-emulator/cloud_firestore_emulator")
_JVM = "-Xmx512m -XX:+UseSerialGC"
_TRIES = 3


class EmulatorMissing(Exception):
    """The emulator is not installed; the message says what to do."""


@contextlib.contextmanager
def firestore_emulator() -> Iterator[str]:
    """`host:port` of the emulator that FIRESTORE_EMULATOR_HOST names, otherwise of a new one, which ends with the block.

    It is empty when new, and shared: use a project of your own. Raises EmulatorMissing, DidNotStart."""
    if running := os.environ.get("FIRESTORE_EMULATOR_HOST"):
        yield running
        return
    command, tries = [str(_find_script()), "--host=127.0.0.1"], 0
    env = {"JAVA_TOOL_OPTIONS": f"{os.environ.get('JAVA_TOOL_OPTIONS', '')} {_JVM}".strip()}
    with contextlib.ExitStack() as stack:
        while True:
            port, tries = free_port(), tries + 1
            try:
                stack.enter_context(tied([*command, f"--port={port}"], port, env=env))
                break
            except DidNotStart:  # Another program may have taken the port.
                if tries == _TRIES:
                    raise
        yield f"127.0.0.1:{port}"


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
    """Where the Cloud SDK may be; the slow check comes last."""
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
