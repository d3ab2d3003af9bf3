"""What a progress callback gets, and when it is called."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from shared.batch.result import Result

from .program_code import ProgramEnded


@dataclass(frozen=True, slots=True)
class Progress:
    """After each result."""

    done: int
    """Results so far, failures included."""
    failed: int
    total: int | None
    """None if the input does not tell its length."""
    result: Result


def counting(report: Callable[[Progress], None] | None, total: int | None) -> Callable[[Result], None]:
    """Counts results, and reports each. What `report` raises is raised; ProgramEnded in place of what would end a loop."""
    done = failed = 0

    def count(result: Result) -> None:
        nonlocal done, failed
        done, failed = done + 1, failed + (result.error is not None)
        if report is None:
            return
        try:
            report(Progress(done, failed, total, result))
        except Exception:
            raise
        except BaseException as raised:
            raise ProgramEnded(raised) from raised

    return count
