"""The archive as the platform builds it: the lock's packages in an empty environment, then functions-framework. It reads
the package index."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from shared.emulator import EmulatorConfig, running
from tests.support.checkout import unpacked_bundle
from tests.support.interpreters import interpreter
from tests.support.processes import ADMIN, ROOT, environment, framework, request

pytestmark = pytest.mark.heavy
_INSTALL_S = 600


@pytest.mark.parametrize("version", ["3.11", "3.13"])
async def test_it_serves_from_an_empty_environment(version: str, tmp_path: Path) -> None:
    """`pip check` ends the platform's build where two packages contradict each other."""
    if (base := interpreter(version)) is None:
        pytest.skip(f"There is no Python {version} on this machine.")
    unpacked = unpacked_bundle(ROOT, tmp_path)
    python = str(tmp_path / "env/bin/python")
    run([base, "-m", "venv", str(tmp_path / "env")])
    run([python, "-m", "pip", "install", "--quiet", "--require-hashes", "-r", str(unpacked / "requirements.txt")])
    assert "No broken requirements found." in run([python, "-m", "pip", "check"])
    async with running(EmulatorConfig()) as gemini:
        env = {
            "K_SERVICE": "gemini-chat",
            "GOOGLE_CLOUD_PROJECT": "demo-project",
            "LEDGER_URL": f"sqlite:///{tmp_path}/ledger.db",
            "GEMINI_BASE_URL": gemini.url,
            "GEMINI_API_KEY": "AQ.key-of-the-server",
        }
        async with framework("chat", "main.py", env, unpacked, python=python) as server:
            status, _, health = await request("GET", f"{server.url}/health")
            assert (status, health["status"], health["ledger"]["reachable"]) == (200, "healthy", True), server.output
            status, _, body = await request("POST", server.url, json={"prompt": "Hello"}, headers=ADMIN)
            assert (status, bool(body.get("text"))) == (200, True), server.output


def run(command: list[str]) -> str:
    """What a command printed; it must succeed, and sees no package of the environment that the tests run in."""
    done = subprocess.run(command, env=environment({}), capture_output=True, text=True, timeout=_INSTALL_S, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
