"""How many inputs of embeddings the accounts of a caller can take."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from shared.accounts.account import Account
from shared.errors import CostExceedsLimit
from shared.gateway.embedding import UNLIMITED_INPUTS, UNLIMITED_TOKENS, Capacity, capacity_of
from shared.gemini.models import TABLE, embedding_ids
from shared.generation import Caller
from shared.ledger.limits import Limits
from shared.openai_api.embeddings import check_count
from shared.secret import Secret

MODEL = "gemini-embedding-2"


def capacity(*limits: Limits, model: str = MODEL, ledgers: str = "pqr", merged: str = "") -> Capacity:
    """`merged`: the ledgers that were merged into `p`."""

    def ledger_of(account: Account) -> str:
        return "p" if account.ledger_id in merged else account.ledger_id

    accounts = [Account(f"a{at}", ledgers[at], Secret("k"), 5, one) for at, one in enumerate(limits)]
    gateway: Any = SimpleNamespace(
        pool=SimpleNamespace(candidates=lambda caller: accounts),
        admission=SimpleNamespace(clients=SimpleNamespace(ledger_of=ledger_of)),
        table=TABLE,
    )
    return capacity_of(gateway, Caller("c", "admin"), model)


def test_projects_add_up_and_a_batch_goes_to_one_of_them() -> None:
    assert capacity(Limits(300, 1_000), Limits(50, 9_000)) == Capacity(350, "minute", 300, 9_000)


@pytest.mark.parametrize(("ledgers", "merged"), [("pp", ""), ("pq", "q")])
def test_two_keys_of_one_project_count_once(ledgers: str, merged: str) -> None:
    assert capacity(Limits(300), Limits(300), ledgers=ledgers, merged=merged).total == 300


def test_one_unlimited_project_takes_any_list() -> None:
    assert capacity(Limits(300), Limits()) == Capacity(None, "minute", UNLIMITED_INPUTS, UNLIMITED_TOKENS)


def test_a_day_that_is_shorter_than_a_minute_counts() -> None:
    assert capacity(Limits(300, requests_per_day=25))[:2] == (25, "day")


def test_a_model_that_is_not_known_gets_no_batches() -> None:
    assert capacity(Limits(300), model="text-embedding-9").inputs == 1


def test_a_list_above_the_total_is_refused_with_what_to_send() -> None:
    check_count(MODEL, 300, Capacity(300, "minute", 300, 1))
    with pytest.raises(CostExceedsLimit, match="Send lists of at most 300 entries") as refused:
        check_count(MODEL, 301, Capacity(300, "minute", 300, 1))
    assert refused.value.details == {"field": "input", "model": MODEL}


def test_embedding_models_are_those_that_answer_with_vectors() -> None:
    assert embedding_ids() == ["gemini-embedding-2", "gemini-embedding-001"]
