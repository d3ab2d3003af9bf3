"""`gemini-parallel keys`: the state of each key, for each model that was used."""

from __future__ import annotations

import argparse
import sys

import orjson
from rich.console import Console
from rich.table import Table

from shared.errors import GatewayError
from shared.stores.port import StoreError

from .exit_codes import ExitCode
from .local_time import until
from .setup import backend_of, manager_of

TABLE_CHARS = 200
"""The width of the table where there is no terminal, so that no name is cut off."""


async def show_keys(given: argparse.Namespace) -> int:
    """Raises UsageError."""
    async with backend_of(manager_of(given)) as backend:
        try:
            found = await backend.states()
        except (StoreError, GatewayError) as error:
            print(f"gemini-parallel: the states of the keys cannot be read: {error}", file=sys.stderr)
            return int(ExitCode.UNREACHABLE)
    if given.json:
        sys.stdout.buffer.write(orjson.dumps(found, option=orjson.OPT_INDENT_2) + b"\n")
        return int(ExitCode.OK)
    table = Table(box=None, padding=(0, 2), header_style="dim")
    for title in ("key", "state", "rejections", "until", "models", "why"):
        table.add_column(title)
    for name, state in found.items():
        models = ", ".join(
            model if now == state["status"] else f"{model} ({now})" for model, now in state["models"].items()
        )
        table.add_row(name, state["status"], str(state["exhausted_count"]), until(state["until"]), models, state["why"])
    console = Console()
    console.print(table, width=None if console.is_terminal else TABLE_CHARS)
    return int(ExitCode.OK)
