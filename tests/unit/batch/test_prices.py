"""Prices, and what an answer cost."""

from __future__ import annotations

from datetime import date

import pytest

from shared.batch.prices import price_of, priced
from shared.gemini.models import MODELS
from shared.generation import UNKNOWN_USAGE, Usage


def test_a_price_changes_at_its_date() -> None:
    before, after = price_of("gemini-4-argon", date(2026, 11, 30)), price_of("gemini-4-argon", date(2026, 12, 1))
    assert before is not None and after is not None
    assert (before[:2], after[:2]) == ((2.0, 10.0), (4.0, 20.0))


def test_a_model_is_priced_as_the_one_that_serves_it() -> None:
    assert price_of("gemini-2.0-flash-001", date(2026, 12, 1)) == price_of("gemini-3.5-flash-lite", date(2026, 12, 1))


def test_an_unknown_price_is_not_zero() -> None:
    assert price_of("gemini-99", date(2026, 12, 1)) is None


@pytest.mark.parametrize("model", priced())
def test_every_price_has_a_source(model: str) -> None:
    price = price_of(model, date(2030, 1, 1))
    assert price is not None and price.source and price.output > price.input > 0
    assert model in MODELS


@pytest.mark.parametrize(
    ("usage", "dollars"),
    [
        (Usage(1_000_000, 100_000, 100_000, 1_200_000), 0.3 + 0.5),
        (Usage(1_000_000, 100_000, 100_000, None), 0.3 + 0.5),
        (Usage(1_000_000, 100_000, None, None), 0.3 + 0.25),
        (Usage(1_000_000, None, None, None), None),
        (UNKNOWN_USAGE, None),
    ],
)
def test_thinking_is_output(usage: Usage, dollars: float | None) -> None:
    price = price_of("gemini-3.5-flash-lite", date(2026, 12, 1))
    assert price is not None and price.of(usage) == pytest.approx(dollars)
