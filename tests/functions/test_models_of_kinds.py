"""A mixed pool, in which accounts of one kind lack a model: the first request for it is served by an account of another kind."""

from __future__ import annotations

from typing import Any

import pytest

from shared.accounts.account import Account
from shared.clock import elapsed_s
from shared.emulator import models
from shared.generation import Caller, Cost
from tests.support.enterprise_accounts import enterprise_account, session_account
from tests.support.service_accounts import vertex_account
from tests.support.whole_path import MODEL, SERVER_KEY, WAYS, WholePath, eventually, text_of, told, whole_path

NEW = "gemini-brand-new"
RESOLVE = models.resolve
MORE: dict[str, Any] = {
    "REQUEST_TIMEOUT_SECONDS": 50,
    "QUEUE_TIMEOUT_SECONDS": 50,
    "ALLOW_SESSION_ACCOUNTS": 1,
    "GEMINI_CONCURRENCY_LIMIT": 1,
}
others = pytest.mark.parametrize(
    "other", [pytest.param(made, id=made.kind) for made in (vertex_account(), enterprise_account(), session_account())]
)


def lacks(monkeypatch: pytest.MonkeyPatch, *versions: str) -> None:
    """The model is not in these versions of Google's API: `v1` is Vertex AI's, `v1beta` the Gemini API's."""

    def resolve(version: str, name: str, aliases: Any) -> Any:
        return None if version in versions and name == NEW else RESOLVE(version, name, aliases)

    monkeypatch.setattr(models, "resolve", resolve)


async def served_by_another(path: WholePath, lacking: Account, way: str = "chat") -> None:
    """`lacking` is asked first, since the other account's only slot is taken until then."""
    (other,) = [account for account in path.services.pool.server if account.ledger_id != lacking.ledger_id]
    held = await path.services.admission.acquire([other], MODEL, Cost(1, 1), elapsed_s() + 40, Caller("a", "admin"))
    async with path.asking("Hello", way=way, model=NEW) as asking:
        await eventually(lambda: path.services.gateway.missing.message(lacking.ledger_id, NEW) is not None, 30)
        assert not asking.done()
        await held.close()
        assert "Hello" in text_of(await asking)


@others
@pytest.mark.parametrize("way", WAYS)
async def test_an_account_that_lacks_the_model_costs_no_404(
    other: Account, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    lacks(monkeypatch, "v1")
    async with whole_path(others=[other], aliases={NEW: MODEL}, **MORE) as path:
        await served_by_another(path, other, way)
        assert path.sent_by_key[SERVER_KEY] == 1


async def test_a_key_that_lacks_the_model_costs_no_404(monkeypatch: pytest.MonkeyPatch) -> None:
    lacks(monkeypatch, "v1beta")
    async with whole_path(others=[vertex_account(concurrency=1)], aliases={NEW: MODEL}, **MORE) as path:
        await served_by_another(path, path.services.pool.server[0])
        assert path.sent_by_key[SERVER_KEY] == 1


@others
async def test_a_404_when_no_kind_has_the_model(other: Account) -> None:
    async with whole_path(others=[other], **MORE) as path:
        for _ in range(2):
            assert told(await path.ask(model=NEW)) == (404, "model_not_found")
        answered = path.gemini.stats()["answered"]
        assert sum(count for status, count in answered.items() if status in ("404", "400")) == 2, "each is asked once"
