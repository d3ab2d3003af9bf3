"""`python -m shared.emulator --port 8765`: an offline Gemini in a process of its own, configured by the environment."""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys

import uvloop

from .config import ConfigError, EmulatorConfig, from_env
from .running import running

# A person should see how a stream arrives; tests set EMULATOR_LATENCY_MS=0.
_LATENCY_MS = 300.0
_CHUNK_DELAY_MS = 30.0


async def _serve(config: EmulatorConfig, host: str, port: int) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for signum in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signum, stop.set)
    async with running(config, port, host=host) as emulator:
        print(f"offline Gemini on {emulator.url}", flush=True)
        await stop.wait()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m shared.emulator", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8765, help="0 chooses a free port")
    arguments = parser.parse_args()
    try:
        config = from_env(os.environ, latency_ms=_LATENCY_MS, chunk_delay_ms=_CHUNK_DELAY_MS)
        uvloop.run(_serve(config, arguments.host, arguments.port))
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 2
    except OSError as error:
        print(f"Cannot listen on {arguments.host}:{arguments.port}: {error.strerror}.", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
