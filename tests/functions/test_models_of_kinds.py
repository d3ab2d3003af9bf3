"""A mixed pool, in which accounts of one kind lack a model: the first request for it is served by an account of another kind."""

from __future__ import annotations

from typing import Any

import pytest

from shared.accounts.account import Account
from shared.emulator import models
from tests.support.enterprise_accounts import enterprise_account, session_account
from tests.support.service_accounts import vertex_account
from tests.support.whole_path import MODEL, SERVER_KEY, WAYS, eventually, text_of, told, whole_path

NEW = "gemini-brand-new"
RESOLVE = models.resolve
MORE: dict[str, Any] = {
    "REQUEST_TIMEOUT_SECONDS": 50,
    "QUEUE_TIMEOUT_SECONDS": 50,
    "ALLOW_SESSION_ACCOUNTS": 1,
    "GEMINI_CONCURRENCY_LIMIT": 1,
}
KEY_ID = "gemini-api-key-1"
others = pytest.mark.parametrize(
    "other", [pytest.param(made, id=made.kind) for made in (vertex_account(), enterprise_account(), session_account())]
)


def lacks(monkeypatch: pytest.MonkeyPatch, *versions: str) -> None:
    """The model is not in these versions of Google's API: `v1` is Vertex AI's, `v1beta` the Gemini API's."""

    def resolve(version: str, name: str, aliases: Any) -> Any:
        return None if version in versions and name == NEW else RESOLVE(version, name, aliases)

    monkeypatch.setattr(models, "resolve", resolve)


@others
@pytest.mark.parametrize("way", WAYS)
async def test_an_account_that_lacks_the_model_costs_no_404(
    other: Account, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    lacks(monkeypatch, "v1")
    async with whole_path(others=[other], aliases={NEW: MODEL}, **MORE) as path:
        # The key's only slot is taken, so the other account is asked first.
        async with path.asking("[[latency:600]]", key=SERVER_KEY):
            await eventually(lambda: path.open_upstream == 1)
            assert "Hello" in text_of(await path.ask(way=way, model=NEW))
        assert path.services.gateway.missing.message(other.ledger_id, NEW), "it was asked"
        assert path.sent_by_key[SERVER_KEY] == 2


async def test_a_key_that_lacks_the_model_costs_no_404(monkeypatch: pytest.MonkeyPatch) -> None:
    lacks(monkeypatch, "v1beta")
    async with whole_path(others=[vertex_account()], aliases={NEW: MODEL}, **MORE) as path:
        for _ in range(3):
            assert "Hello" in text_of(await path.ask(model=NEW))
        assert path.services.gateway.missing.message("server", NEW), "it was asked"
        assert path.sent_by_key[SERVER_KEY] == 1


@others
async def test_a_404_when_no_kind_has_the_model(other: Account) -> None:
    async with whole_path(others=[other], **MORE) as path:
        for _ in range(2):
            assert told(await path.ask(model=NEW)) == (404, "model_not_found")
        answered = path.gemini.stats()["answered"]
        assert sum(count for status, count in answered.items() if status in ("404", "400")) == 2, "each is asked once"
