"""--budget: how much a run may spend. Pure.

A prompt is sent only if spent + (in flight + 1) x the dearest answer so far stays within the budget. Until the first answer the
dearest is not known, and one prompt is sent alone. An answer that is dearer than all before it can overshoot, by at most what is
in flight then.
"""

from __future__ import annotations

from shared.batch.prices import Price
from shared.batch.result import Result

MAYBE_CHARGED = frozenset({"upstream_timeout", "caller_gone"})
"""Errors after which Gemini may have generated an answer that did not arrive."""


class Budget:
    def __init__(self, dollars: float | None, price: Price | None) -> None:
        """`dollars`: None for no limit; then `price` may be None too, and nothing is counted."""
        assert dollars is None or price is not None, "a budget needs a price"
        self.dollars, self._price = dollars, price
        self.spent = 0.0
        self.uncounted = 0
        """Answers whose tokens Gemini did not count; each is charged as the dearest that the model can give."""
        self.dearest: float | None = None
        self.in_flight = 0

    def admits(self) -> bool:
        """Whether another prompt may be sent now."""
        if self.dollars is None:
            return True
        if self.dearest is None:
            return self.in_flight == 0 and self.spent < self.dollars
        return self.spent + (self.in_flight + 1) * self.dearest <= self.dollars

    def is_used_up(self) -> bool:
        """Whether no other prompt will be sent, whatever those in flight cost."""
        return self.in_flight == 0 and not self.admits()

    def sent(self) -> None:
        self.in_flight += 1

    def unsent(self) -> None:
        """A prompt that cost nothing."""
        self.in_flight -= 1

    def answered(self, result: Result) -> None:
        self.in_flight -= 1
        if self._price is None:
            return
        cost = self._price.of(result.usage)
        if cost is None and (result.response is not None or result.code in MAYBE_CHARGED):
            cost = self._price.highest
            self.uncounted += 1
        if cost is not None:
            self.spent += cost
            if result.response is not None:
                self.dearest = max(cost, self.dearest or 0.0)
