"""The verdict on one promise."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Verdict:
    """`worst` is the worst value found, `limit` the allowed one; None if nothing is judged."""

    promise: str
    ok: bool
    worst: float = 0.0
    limit: float | None = None
    where: str = ""

    def __str__(self) -> str:
        bound = "" if self.limit is None else f" (limit {self.limit:g})"
        return f"{'ok  ' if self.ok else 'FAIL'} {self.promise}: {self.worst:g}{bound} {self.where}".rstrip()
