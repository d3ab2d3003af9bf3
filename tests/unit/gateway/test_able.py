"""Which accounts can answer a request, by their kind."""

from __future__ import annotations

from typing import Any

import pytest

from shared.accounts.account import Account, Kind
from shared.errors import BadRequest
from shared.gateway.able import able, embedding, served_model
from shared.gemini.models import resolve
from shared.ledger.limits import UNLIMITED
from shared.secret import Secret

MODEL, IMAGE_MODEL = "gemini-3.8-flash", "gemini-3-pro-image"
HI: dict[str, Any] = {"contents": [{"parts": [{"text": "Hi"}]}]}
WITH_TOOLS = {**HI, "tools": [{"functionDeclarations": [{"name": "f"}]}]}
STAND_IN = "gemini-enterprise"


def account(kind: Kind) -> Account:
    return Account(kind, kind, Secret("x"), 1, UNLIMITED, kind=kind)


KEY, VERTEX, ENTERPRISE, SESSION = map(account, ("api_key", "vertex", "enterprise", "enterprise_session"))


@pytest.mark.parametrize(
    ("model", "message", "left"),
    [
        (MODEL, HI, [KEY, VERTEX, ENTERPRISE, SESSION]),
        (MODEL, WITH_TOOLS, [KEY, VERTEX]),
        (IMAGE_MODEL, HI, [KEY, VERTEX, SESSION]),
        (STAND_IN, HI, [ENTERPRISE, SESSION]),
    ],
)
def test_accounts_that_cannot_answer_are_left_out(model: str, message: dict[str, Any], left: list[Account]) -> None:
    assert able([KEY, VERTEX, ENTERPRISE, SESSION], model, message) == left


def test_without_an_assistant_nothing_is_looked_at() -> None:
    candidates = [KEY, VERTEX]
    assert able(candidates, IMAGE_MODEL, WITH_TOOLS) is candidates


def test_the_error_says_which_kind_lacks_what() -> None:
    with pytest.raises(BadRequest) as raised:
        able([ENTERPRISE, SESSION], IMAGE_MODEL, WITH_TOOLS)
    assert "kind enterprise has no image output" in raised.value.message
    assert "kind enterprise_session has no tools (functionDeclarations)" in raised.value.message


@pytest.mark.parametrize(
    ("accounts", "model"),
    [([KEY, SESSION], STAND_IN), ([ENTERPRISE], STAND_IN), ([KEY, VERTEX], MODEL), ([], MODEL)],
)
def test_a_stand_in_keeps_its_name_where_it_is_served(accounts: list[Account], model: str) -> None:
    assert served_model(resolve(STAND_IN), accounts) == model


def test_a_stand_in_is_not_sent_to_a_key() -> None:
    with pytest.raises(BadRequest, match="kind api_key has no assistant"):
        able([KEY], STAND_IN, HI)


def test_embeddings_need_an_api_key() -> None:
    assert embedding([VERTEX, KEY, ENTERPRISE]) == [KEY]
    assert embedding([]) == []
    with pytest.raises(BadRequest, match="its accounts are of the kind enterprise, vertex"):
        embedding([VERTEX, ENTERPRISE])
