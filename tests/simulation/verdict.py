"""What is found of one promise."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Verdict:
    """`worst` is what was found at the worst place, `limit` what may be there; None where there is nothing to judge by."""

    promise: str
    ok: bool
    worst: float = 0.0
    limit: float | None = None
    where: str = ""

    def __str__(self) -> str:
        bound = "" if self.limit is None else f" (limit {self.limit:g})"
        return f"{'ok  ' if self.ok else 'FAIL'} {self.promise}: {self.worst:g}{bound} {self.where}".rstrip()
