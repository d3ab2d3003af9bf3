"""The command's arguments, and what each subcommand calls."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path

from .exit_codes import MEANINGS, ExitCode

_DEFAULT_MODEL = "gemini-2.0-flash-001"


class UsageError(Exception):
    """The command was called in a wrong way. The message says what is wrong, then what to do."""


def parser() -> argparse.ArgumentParser:
    codes = "\n".join(f"  {int(code):>3}  {meaning}" for code, meaning in MEANINGS.items())
    made = argparse.ArgumentParser(
        prog="gemini-parallel",
        description="Sends many prompts to Gemini with several keys, as fast as their limits allow.",
        epilog=f"exit codes:\n{codes}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = made.add_subparsers(dest="command", required=True)
    run = commands.add_parser(
        "run",
        help="answer the prompts of a file; the same command continues a run that was ended",
        epilog=made.epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    run.add_argument("prompts", help="a JSONL or CSV file with a `prompt` in each line; - reads standard input")
    run.add_argument("-o", "--output", type=Path, help="the file of results (JSONL); it is continued if it exists")
    run.add_argument("--format", choices=("jsonl", "csv"), help="of the prompts; default: by the file's name")
    run.add_argument("--model", default=_DEFAULT_MODEL, help="default: %(default)s, which its successor serves")
    run.add_argument("--max-workers", type=_whole(1, 10_000), default=16, help="prompts at once (%(default)s)")
    run.add_argument("--api-call-interval", type=_number(0, 3600), default=0.0, help="seconds between two requests (0)")
    run.add_argument("--limit", type=_whole(1, 10**12), help="send at most so many prompts")
    run.add_argument("--retry-failed", action="store_true", help="run prompts again whose result is an error")
    run.add_argument("--schema", type=Path, help="a file with the JSON Schema that every answer has to conform to")
    run.add_argument("--budget", type=_number(0.000001, 1e9), help="dollars that this run may spend")
    run.add_argument("--dry-run", action="store_true", help="count prompts, tokens, cost and time; generate nothing")
    run.add_argument("--quiet", action="store_true", help="show nothing but errors")
    run.add_argument("--json", action="store_true", help="progress as JSON lines on standard output")
    keys = commands.add_parser("keys", help="show the state of each key")
    keys.add_argument("--json", action="store_true", help="as one JSON object")
    for command in (run, keys):
        command.add_argument(
            "--keys",
            nargs="+",
            metavar="NAME",
            help="variables with keys; default: GOOGLE_API_KEY and all GEMINI_API_KEY*",
        )
        command.add_argument(
            "--key-cooldown", type=_number(0, 3600), default=0.0, help="seconds a key rests after a request (0)"
        )
        command.add_argument("--ledger", help="where the limits are counted, like firestore://project/database")
        command.add_argument("--gateway", help="send the prompts to a gateway, like https://gateway.example")
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    given = parser().parse_args(arguments)
    try:
        if given.command == "keys":
            from .keys import show_keys

            return asyncio.run(show_keys(given))
        if given.output is None and not given.dry_run:
            raise UsageError("-o is missing: name the file of results, like -o results.jsonl.")
        from .runs import run_command

        return asyncio.run(run_command(given))
    except UsageError as error:
        print(f"gemini-parallel: {error}", file=sys.stderr)
        return int(ExitCode.USAGE)
    except KeyboardInterrupt:
        return int(ExitCode.INTERRUPTED)


class _Range:
    """A number of an argument, within a range; argparse shows the sentence."""

    def __init__(self, kind: type[int] | type[float], minimum: float, maximum: float) -> None:
        self._kind, self._minimum, self._maximum = kind, minimum, maximum

    def __call__(self, text: str) -> float:
        try:
            value = self._kind(text)
        except ValueError:
            value = None
        if value is None or not self._minimum <= value <= self._maximum:
            raise argparse.ArgumentTypeError(f"{text!r} is not a number from {self._minimum:g} to {self._maximum:g}")
        return value


def _whole(minimum: float, maximum: float) -> _Range:
    return _Range(int, minimum, maximum)


def _number(minimum: float, maximum: float) -> _Range:
    return _Range(float, minimum, maximum)
