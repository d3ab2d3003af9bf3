"""The emulator that tests and benchmarks start: found or not with a sentence, and ended whatever happens."""

from __future__ import annotations

import http.client
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.firestore_emulator import EmulatorMissing, firestore_emulator
from tests.support.tied import DidNotStart

ROOT = Path(__file__).parents[3]


@pytest.fixture
def nothing_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    for name in ("FIRESTORE_EMULATOR_HOST", "JAVA", "CLOUDSDK_ROOT_DIR"):
        monkeypatch.delenv(name, raising=False)


def groups_of_emulators(port: str) -> set[int]:
    """Process groups that run the emulator's Java program on this port: others may run on this machine."""
    found = set()
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes()
            if b"firestore.CloudFirestore" in command and port.encode() in command:
                found.add(os.getpgid(int(process.name)))
        except (OSError, ProcessLookupError):
            continue
    return found


@pytest.mark.usefixtures("nothing_installed")
def test_missing_java_is_reported() -> None:
    with pytest.raises(EmulatorMissing, match="Java"), firestore_emulator():
        pass


def fake_sdk(root: Path, script: str) -> None:
    path = root / "platform/cloud-firestore-emulator/cloud_firestore_emulator"
    path.parent.mkdir(parents=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


@pytest.mark.usefixtures("nothing_installed")
def test_one_that_does_not_start_is_an_error_with_its_own_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_sdk(tmp_path, "echo it needs Java 99")
    monkeypatch.setenv("CLOUDSDK_ROOT_DIR", str(tmp_path))
    monkeypatch.setenv("JAVA", "java")
    with pytest.raises(DidNotStart, match="it needs Java 99"), firestore_emulator():
        pass


def test_one_that_already_runs_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", "elsewhere:1")
    with firestore_emulator() as host:
        assert host == "elsewhere:1"


@pytest.mark.usefixtures("firestore_host")
def test_it_ends_with_the_block_also_when_that_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FIRESTORE_EMULATOR_HOST", raising=False)
    with pytest.raises(ZeroDivisionError), firestore_emulator() as host:
        port = host.rpartition(":")[2]
        assert groups_of_emulators(port)
        raise ZeroDivisionError
    assert not groups_of_emulators(port)
    assert not answers(host)


@pytest.mark.parametrize("sign", [signal.SIGTERM, signal.SIGKILL])
def test_emulator_ends_with_its_starter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sign: signal.Signals) -> None:
    fake_sdk(tmp_path, f'exec {sys.executable} -m http.server --bind 127.0.0.1 --directory {tmp_path} "${{2#--port=}}"')
    for name, value in (("CLOUDSDK_ROOT_DIR", str(tmp_path)), ("JAVA", "java")):
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("FIRESTORE_EMULATOR_HOST", raising=False)
    script = (
        "import time\nfrom tests.support.firestore_emulator import firestore_emulator\n"
        "with firestore_emulator() as host:\n    print(host, flush=True)\n    time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", script], cwd=ROOT, stdout=subprocess.PIPE, text=True) as program:
        assert program.stdout is not None
        host = program.stdout.readline().strip()
        assert answers(host)
        program.send_signal(sign)
    end_s = time.monotonic() + 10
    while answers(host):
        assert time.monotonic() < end_s, "it still runs"
        time.sleep(0.02)


def answers(host: str) -> bool:
    connection = http.client.HTTPConnection(host, timeout=5)
    try:
        connection.request("GET", "/")
    except OSError:
        return False
    finally:
        connection.close()
    return True


@pytest.mark.usefixtures("nothing_installed")
@pytest.mark.parametrize(("required", "outcome"), [("0", "1 skipped"), ("1", "1 error")])
def test_missing_emulator_skips_or_fails_tests(monkeypatch: pytest.MonkeyPatch, required: str, outcome: str) -> None:
    monkeypatch.setenv("REQUIRE_EMULATORS", required)
    one = "tests/unit/stores/test_firestore.py::test_databases_of_one_project_are_apart"
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-rs", one]
    done = subprocess.run(command, check=False, cwd=ROOT, capture_output=True, text=True)
    assert outcome in done.stdout
    assert "needs Java" in done.stdout
