"""What a run has done so far. Pure."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Any

from shared.batch.result import Result

RATE_S = 60.0


@dataclass(slots=True)
class Counts:
    """Times are elapsed seconds."""

    began_s: float
    total: int | None = None
    """Prompts in the input; None while they are counted."""
    limit: int | None = None
    """Prompts that this run may send."""
    skipped: int = 0
    """Prompts that had a result when the run began."""
    changed: int = 0
    """Of these, prompts whose line has changed since."""
    answered: int = 0
    failed: int = 0
    in_flight: int = 0
    attempts: int = 0
    prompt_tokens: int = 0
    output_tokens: int = 0
    uncounted: int = 0
    """Answers whose tokens Gemini did not count."""
    recent: deque[float] = field(default_factory=deque)
    """When the results of the last minute came."""

    @property
    def done(self) -> int:
        return self.answered + self.failed

    def add(self, result: Result, now_s: float) -> None:
        self.answered += result.error is None
        self.failed += result.error is not None
        self.attempts += result.attempts
        usage = result.usage
        if usage.prompt_tokens is not None:
            self.prompt_tokens += usage.prompt_tokens
            self.output_tokens += max(0, (usage.total_tokens or usage.prompt_tokens) - usage.prompt_tokens)
        elif result.error is None:
            self.uncounted += 1
        if result.attempts:
            self.recent.append(now_s)

    def last_minute(self, now_s: float) -> int:
        """Results of the last minute that took a request to Gemini."""
        while self.recent and self.recent[0] <= now_s - RATE_S:
            self.recent.popleft()
        return len(self.recent)

    def per_minute(self, now_s: float) -> float:
        """The same as a rate, also while the run is shorter than a minute."""
        return self.last_minute(now_s) * 60 / max(1.0, min(RATE_S, now_s - self.began_s))

    def left(self) -> int | None:
        if self.total is None:
            return None
        left = max(0, self.total - self.skipped - self.done)
        return left if self.limit is None else min(left, max(0, self.limit - self.done))

    def eta_s(self, now_s: float) -> float | None:
        left, rate = self.left(), self.per_minute(now_s)
        return None if left is None or not rate else 60 * left / rate

    def as_json(self, now_s: float, spent: float | None) -> dict[str, Any]:
        return {
            "total": self.total,
            "skipped": self.skipped,
            "answered": self.answered,
            "failed": self.failed,
            "in_flight": self.in_flight,
            "left": self.left(),
            "per_minute": round(self.per_minute(now_s), 1),
            "prompt_tokens": self.prompt_tokens,
            "output_tokens": self.output_tokens,
            "cost": None if spent is None else round(spent, 6),
            "eta_s": None if (eta := self.eta_s(now_s)) is None else round(eta, 1),
        }
