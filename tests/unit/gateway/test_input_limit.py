"""How long a request may be whose length the gateway chooses, like a session's history."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from shared.accounts.account import Account
from shared.gateway.gateway import Gateway
from shared.gemini.models import TABLE, max_input_tokens
from shared.generation import Caller
from shared.ledger.limits import Limits
from shared.secret import Secret

MODEL, OPEN = "gemini-3.8-flash", "gemma-4-31b-it"


def limit(*limits: Limits, model: str = MODEL) -> int:
    accounts = [Account(f"a{at}", f"p{at}", Secret("k"), 5, one) for at, one in enumerate(limits)]
    gateway: Any = SimpleNamespace(pool=SimpleNamespace(candidates=lambda caller: accounts), table=TABLE)
    return Gateway.input_limit(gateway, Caller("c", "admin"), model)


def test_half_a_minute_or_what_the_model_takes() -> None:
    assert limit(Limits(5, 25_000)) == 12_500
    assert limit(Limits(5, 50_000_000)) == limit(Limits()) == max_input_tokens(MODEL)


def test_the_account_with_the_most_room_counts() -> None:
    assert limit(Limits(5, 25_000), Limits(300, 1_000_000)) == 500_000


@pytest.mark.parametrize("name", ["gemini-9-unknown", f"models/{MODEL}"])
def test_an_unknown_model_is_like_geminis_others(name: str) -> None:
    assert limit(Limits(), model=name) == max_input_tokens(MODEL)


def test_an_open_model_takes_less() -> None:
    assert limit(Limits(), model=OPEN) < limit(Limits())
