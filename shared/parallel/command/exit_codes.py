"""The command's exit codes; `--help` lists them."""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    OK = 0
    FAILED = 1
    USAGE = 2
    BUDGET = 3
    EXHAUSTED = 4
    UNWRITABLE = 5
    UNREACHABLE = 6
    INTERRUPTED = 130


MEANINGS = {
    ExitCode.OK: "every prompt has an answer",
    ExitCode.FAILED: "every prompt has a result, and some failed (--retry-failed runs these again)",
    ExitCode.USAGE: "the command, its input or its keys are wrong; nothing was sent",
    ExitCode.BUDGET: "the budget is used up; the same command with a higher one continues",
    ExitCode.EXHAUSTED: "all keys are exhausted; the same command continues later",
    ExitCode.UNWRITABLE: "the results cannot be written; nothing is counted as done that is not in the file",
    ExitCode.UNREACHABLE: "the ledger or the gateway does not answer",
    ExitCode.INTERRUPTED: "interrupted; the same command continues",
}
