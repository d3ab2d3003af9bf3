"""What a progress callback gets. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from shared.batch.result import Result


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
    """Counts results, and reports each."""
    done = failed = 0

    def count(result: Result) -> None:
        nonlocal done, failed
        done, failed = done + 1, failed + (result.error is not None)
        if report is not None:
            report(Progress(done, failed, total, result))

    return count
