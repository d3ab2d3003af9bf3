"""Sends the local server what its specification allows and what it does not: `python -m tests.fuzz [--seconds 60] [--seed N]`.

The server has the offline Gemini behind it, with no limits in the way. With CI set the requests are the same each time.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.support.processes import ADMIN, ADMIN_KEY, ROOT, environment, request, served

CONFIG = Path(__file__).with_name("schemathesis.toml")
SERVER = {
    "GEMINI_TIER": "custom",
    "GEMINI_RPM": "unlimited",
    "GEMINI_TPM": "unlimited",
    "GEMINI_RPD": "unlimited",
    "GEMINI_CONCURRENCY_LIMIT": "200",
    "RATE_LIMIT_PER_MINUTE": "unlimited",
    "LOG_LEVEL": "error",
}


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--seed", type=int, help="of an earlier run, which said it")
    return asyncio.run(_fuzz(parser.parse_args(arguments)))


async def _fuzz(options: argparse.Namespace) -> int:
    with tempfile.TemporaryDirectory() as folder:
        return await _fuzz_with(options, {**SERVER, "STORAGE_URL": f"file://{folder}"})


async def _fuzz_with(options: argparse.Namespace, settings: dict[str, str]) -> int:
    async with served(settings) as server:
        images = {f"FUZZ_IMAGE_{method}": await _image(server.url) for method in ("GET", "DELETE")}
        process = await asyncio.create_subprocess_exec(
            *_command(server.url, options), cwd=ROOT, env=environment({"PYTHONPATH": str(ROOT), **images})
        )
        try:
            status = await process.wait()
        finally:
            if process.returncode is None:
                process.kill()
        defects = [line for line in server.lines if '"message":"Unexpected ' in line]
    for line in defects[:5]:
        sys.stderr.write(f"{line}\n")
    return status or int(bool(defects))


async def _image(url: str) -> str:
    """The name of one that was made just now."""
    _, _, answer = await request("POST", f"{url}/generate", json={"prompt": "A lighthouse"}, headers=ADMIN)
    return str(answer["images"][0]["name"])


def _command(url: str, options: argparse.Namespace) -> list[str]:
    command = [sys.executable, "-m", "schemathesis.cli", "--config-file", str(CONFIG), "run", f"{url}/openapi.json"]
    command += ["--header", f"Admin-API-Key: {ADMIN_KEY}", "--max-time", str(options.seconds)]
    if options.seed is None and os.environ.get("CI"):
        return [*command, "--generation-deterministic"]
    return [*command, "--seed", str(random.randrange(2**31) if options.seed is None else options.seed)]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
