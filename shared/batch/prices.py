"""What Gemini charges for tokens, where a source says it. Pure.

US dollars for a million tokens of Google's paid tier; thinking counts as output. A model without a source is not in the table:
an unknown price is not zero. As of 2026-12-01.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import NamedTuple

from shared.gemini.models import TABLE
from shared.generation import Usage

MAX_INPUT_TOKENS, MAX_OUTPUT_TOKENS = 1_048_576, 65_536


class Price(NamedTuple):
    """Dollars for a million tokens."""

    input: float
    output: float
    since: date = date.min
    source: str = ""

    def of(self, usage: Usage) -> float | None:
        """Dollars; None if Gemini did not count the tokens."""
        if usage.prompt_tokens is None:
            return None
        if usage.total_tokens is not None:
            output_tokens = max(0, usage.total_tokens - usage.prompt_tokens)
        elif usage.output_tokens is not None:
            output_tokens = usage.output_tokens + (usage.thinking_tokens or 0)
        else:
            return None
        return self.of_tokens(usage.prompt_tokens, output_tokens)

    def of_tokens(self, input_tokens: int, output_tokens: int) -> float:
        return (input_tokens * self.input + output_tokens * self.output) / 1_000_000

    @property
    def highest(self) -> float:
        """The dearest answer that a model can give."""
        return self.of_tokens(MAX_INPUT_TOKENS, MAX_OUTPUT_TOKENS)


_GOOGLE = "ai.google.dev/gemini-api/docs/pricing"
_PRICES: Mapping[str, tuple[Price, ...]] = {
    "gemini-4-argon": (
        Price(2.0, 10.0, source="github.com/BerriAI/litellm/discussions/46238"),
        Price(4.0, 20.0, date(2026, 12, 1), "github.com/BerriAI/litellm/discussions/46238"),
    ),
    "gemini-4-hydrogen": (Price(1.5, 7.5, source="github.com/BerriAI/litellm/discussions/51436"),),
    "gemini-3.8-flash": (
        Price(0.75, 3.75, source="blog.google, Introducing Gemini 3.8 Flash"),
        Price(1.5, 7.5, date(2027, 1, 1), "blog.google, Introducing Gemini 3.8 Flash"),
    ),
    "gemini-3.5-flash-lite": (Price(0.3, 2.5, source=f"{_GOOGLE}#gemini-3.5-flash-lite"),),
}


def price_of(model: str, today: date) -> Price | None:
    """Of the model that serves the name; None if no source says it."""
    canonical = TABLE.resolve(model).canonical
    return max(
        (price for price in _PRICES.get(canonical, ()) if price.since <= today), key=lambda one: one.since, default=None
    )


def priced() -> list[str]:
    return sorted(_PRICES)
