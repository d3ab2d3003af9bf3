"""gemini_parallel as it is installed: its packages, and nothing of the server."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.support.parallel import environment as keys
from tests.support.parallel import offline_gemini
from tests.support.processes import ROOT, environment

SERVER_ONLY = (
    "pydantic", "starlette", "functions_framework", "google.cloud", "google.genai", "google.auth", "grpc", "obstore",
    "cryptography", "opentelemetry", "uvloop", "httptools", "python_multipart",
)  # fmt: skip
PROGRAM = """
import asyncio, logging, sys
{block}
from gemini_parallel import AdvancedApiKeyManager, GeminiParallelProcessor

manager = AdvancedApiKeyManager(["KEY_A"], key_cooldown_seconds=0)
processor = GeminiParallelProcessor(manager, api_call_interval=0)
schema = {{"type": "object", "properties": {{"a": {{"type": "string", "pattern": "^.*$"}}}}, "required": ["a"]}}
items = [{{"prompt": "x"}}, {{"prompt": "y", "audio_bytes": b"sound"}}, {{"prompt": "z", "response_schema": schema}}]
assert [error for _, _, error in processor.process_prompts(items)] == [None] * 3

async def streamed():
    return [result.error async for result in processor.stream(items)]

assert asyncio.run(streamed()) == [None] * 3
assert manager.get_keys_status_summary()["KEY_A"]["status"] == "AVAILABLE"
twice = [name for name in sys.modules if name.startswith("shared.parallel")]
assert not twice, twice
print("done")
"""
BLOCK = """
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if any(name == one or name.startswith(one + ".") for one in {names!r}):
            raise ImportError(name + " is not installed here")
sys.meta_path.insert(0, Blocked())
"""
_INSTALL_S = 600


def test_every_package_is_installed() -> None:
    """`shared/parallel` once, as gemini_parallel."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    folders = {path.parent.relative_to(ROOT).as_posix() for path in (ROOT / "shared").rglob("__init__.py")}
    names = {
        name.replace("/", ".").replace("shared.parallel", "gemini_parallel")
        for name in folders
        if "__pycache__" not in name
    }
    assert sorted(settings["packages"]) == sorted({"functions", *names})
    assert settings["package-dir"] == {"gemini_parallel": "shared/parallel"}


def test_it_needs_nothing_of_the_server(tmp_path: Path) -> None:
    with offline_gemini() as gemini:
        env = environment({**keys(gemini.url, f"sqlite:///{tmp_path}/ledger.db"), "HOME": str(tmp_path)})
        program = PROGRAM.format(block=BLOCK.format(names=SERVER_ONLY))
        done = subprocess.run(
            [sys.executable, "-c", program],
            cwd=tmp_path,
            env=env,
            check=False,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0 and done.stdout == "done\n", done.stderr


@pytest.mark.heavy
def test_it_installs_into_an_empty_environment(tmp_path: Path) -> None:
    """`pip install .[parallel]`, a program, and the command. It reads the package index."""
    python = str(tmp_path / "env/bin/python")
    run([sys.executable, "-m", "venv", str(tmp_path / "env")])
    run([python, "-m", "pip", "install", "--quiet", "setuptools>=77"])
    run([python, "-m", "pip", "install", "--quiet", f"{ROOT}[parallel]"])
    assert "No broken requirements found." in run([python, "-m", "pip", "check"])
    with offline_gemini() as gemini:
        env = environment({**keys(gemini.url, f"sqlite:///{tmp_path}/ledger.db"), "HOME": str(tmp_path)})
        env.pop("PYTHONPATH", None)
        done = subprocess.run(
            [python, "-c", PROGRAM.format(block="")],
            cwd=tmp_path,
            env=env,
            check=False,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0 and done.stdout == "done\n", done.stderr
        (tmp_path / "p.jsonl").write_text('{"prompt": "x"}\n')
        command = [str(tmp_path / "env/bin/gemini-parallel"), "run", "p.jsonl", "-o", "r.jsonl", "--keys", "KEY_A"]
        done = subprocess.run(command, cwd=tmp_path, env=env, check=False, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr


def run(command: list[str]) -> str:
    done = subprocess.run(command, env=environment({}), capture_output=True, text=True, timeout=_INSTALL_S, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
