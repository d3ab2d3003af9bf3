"""--budget: how much a run may spend. Pure.

A prompt is sent only if spent + (in flight + 1) x the dearest answer so far stays within the budget. Until the first answer the
dearest is not known, and one prompt is sent alone. An answer that is dearer than all before it can overshoot, by at most what is
in flight then.
"""

from __future__ import annotations

from shared.batch.item import Item
from shared.batch.prices import MAX_INPUT_TOKENS, MAX_OUTPUT_TOKENS, Price
from shared.batch.result import Result
from shared.gemini.native_body import turn
from shared.gemini.tokens import estimate_input_tokens
from shared.generation import Usage


class Budget:
    def __init__(self, dollars: float | None, price: Price | None) -> None:
        """`dollars`: None for no limit; then `price` may be None too, and nothing is counted."""
        assert dollars is None or price is not None, "a budget needs a price"
        self.dollars, self._price = dollars, price
        self.spent = 0.0
        self.uncounted = 0
        """Answers whose tokens Gemini did not count; each is charged as the dearest that its item can have."""
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

    def answered(self, result: Result, item: Item | None) -> None:
        """What Gemini counted is charged by its price. An answer without a count, or one that did not arrive whole, is charged as
        the dearest that the item can have, and does not change the dearest so far."""
        self.in_flight -= 1
        if self._price is None:
            return
        cost = self._price.of(result.usage)
        if cost is not None:
            self.spent += cost
            self.dearest = max(cost, self.dearest or 0.0)
        if result.lost and item is not None:
            times = result.lost if cost is not None else result.attempts
            self.spent += times * highest_of(self._price, item, result.usage)
            self.uncounted += times


def highest_of(price: Price, item: Item, usage: Usage) -> float:
    """The dearest answer that an item can have: by its own maximum of output tokens, and by its input as far as that is known."""
    given = (item.config or {}).get("maxOutputTokens")
    output_tokens = given if isinstance(given, int) else MAX_OUTPUT_TOKENS
    if usage.prompt_tokens is not None:
        return price.of_tokens(usage.prompt_tokens, output_tokens)
    if item.media:
        return price.of_tokens(MAX_INPUT_TOKENS, output_tokens)
    text = "".join([item.system_prompt or "", *(part for part in item.parts if isinstance(part, str))])
    return price.of_tokens(estimate_input_tokens({"contents": [turn("user", text)]}), output_tokens)
