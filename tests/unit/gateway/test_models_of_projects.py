"""A project that does not have a model leaves the request to the next one; the caller gets the 404 when none has the model."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest

from shared.accounts.account import Account, Kind
from shared.errors import DailyQuotaExhausted, ModelNotFound
from shared.gateway.address_circuit import ENOUGH
from shared.gateway.retry import MAX_TRIES
from shared.gemini.errors import Kind as Failure
from shared.gemini.errors import UpstreamFailure, Violation
from tests.support.gateways import Judge, Processes, accounts_of
from tests.support.virtual_time import run

NEW = "gemini-brand-new"
WORDS: dict[Kind, str] = {
    "api_key": f"models/{NEW} is not found for API version v1beta, or is not supported for generateContent.",
    "vertex": f"Publisher Model `projects/p/locations/global/publishers/google/models/{NEW}` was not found or your project "
    "does not have access to it.",
    "enterprise": f"Model id {NEW} is invalid.",
    "enterprise_session": f"Model id {NEW} is invalid.",
}


def process(
    accounts: list[Account],
    having: set[str],
    then: Callable[[Processes], Awaitable[None]],
    words: str = WORDS["api_key"],
) -> Processes:
    """One process; only the accounts in `having` have the model."""

    def judge(account: str, model: str) -> UpstreamFailure | None:
        return None if account in having else UpstreamFailure("not_found", words, status=404)

    return processes(accounts, judge, then)


def processes(accounts: list[Account], judge: Judge, then: Callable[[Processes], Awaitable[None]]) -> Processes:
    async def main() -> Processes:
        random.seed(15)
        found = Processes(accounts, judge)
        found.add()
        async with found.closing():
            await then(found)
        return found

    return run(main)


@pytest.mark.parametrize("kind", WORDS)
def test_the_next_account_serves_whatever_kind_lacks_the_model(kind: Kind) -> None:
    lacking, other = accounts_of(2)

    async def then(found: Processes) -> None:
        assert [await found.ask(0, NEW) for _ in range(6)] == ["key-1"] * 6

    found = process([replace(lacking, kind=kind), other], {"key-1"}, then, WORDS[kind])
    assert [one.account for one in found.sent].count("key-0") == 1, "its 404 is remembered"


@pytest.mark.parametrize("count", [1, 4, ENOUGH + MAX_TRIES])
def test_a_404_only_after_every_project_answered_it(count: int) -> None:
    async def then(found: Processes) -> None:
        for _ in range(2):
            with pytest.raises(ModelNotFound, match=f"no such model or method: models/{NEW} is not found"):
                await found.ask(0, NEW)

    found = process(accounts_of(count), set(), then)
    assert sorted(one.account for one in found.sent) == sorted(f"key-{n}" for n in range(count))


def test_the_only_project_that_has_the_model_is_found() -> None:
    async def then(found: Processes) -> None:
        assert await found.ask(0, NEW) == "key-5"

    process(accounts_of(6), {"key-5"}, then)


def test_accounts_of_a_project_that_answered_are_not_asked() -> None:
    accounts = [replace(account, ledger_id="one") for account in accounts_of(3)]

    async def then(found: Processes) -> None:
        with pytest.raises(ModelNotFound):
            await found.ask(0, NEW)

    assert len(process(accounts, set(), then).sent) == 1


def test_a_404_counts_for_all_keys_of_a_merged_project() -> None:
    """The process learned that the ledgers of the three accounts count one project."""

    async def then(found: Processes) -> None:
        found.gateways[0].admission.clients.learn({"project-1": "project-0", "project-2": "project-1"})
        with pytest.raises(ModelNotFound):
            await found.ask(0, NEW)

    assert len(process(accounts_of(3), set(), then).sent) == 1


def test_one_request_asks_a_bounded_number_of_projects() -> None:
    """A made-up id must not cost a request of each of hundreds of projects at once; the next request asks the others."""

    async def then(found: Processes) -> None:
        with pytest.raises(ModelNotFound):
            await found.ask(0, NEW)
        assert len(found.sent) == ENOUGH + MAX_TRIES
        assert await found.ask(0, NEW) == "key-19"

    process(accounts_of(20), {"key-19"}, then)


@pytest.mark.parametrize("kind", ["key_invalid", "account", "restricted"])
def test_an_account_that_is_out_does_not_hide_the_404(kind: Failure) -> None:
    """It answers neither the first request for the model nor the next one."""

    def judge(account: str, model: str) -> UpstreamFailure:
        if account == "key-0":
            return UpstreamFailure("not_found", WORDS["api_key"], status=404)
        return UpstreamFailure(kind, "API key not valid.", status=403)

    async def then(found: Processes) -> None:
        for _ in range(2):
            with pytest.raises(ModelNotFound):
                await found.ask(0, NEW)

    assert sorted(one.account for one in processes(accounts_of(2), judge, then).sent) == ["key-0", "key-1"]


def test_a_spent_day_is_not_a_404() -> None:
    """The account's project may have the model."""

    def judge(account: str, model: str) -> UpstreamFailure:
        if account == "key-0":
            return UpstreamFailure("not_found", WORDS["api_key"], status=404)
        return UpstreamFailure("quota", "spent", status=429, violations=(Violation("requests", "day", 10),))

    async def then(found: Processes) -> None:
        for _ in range(2):
            with pytest.raises(DailyQuotaExhausted):
                await found.ask(0, NEW)

    processes(accounts_of(2), judge, then)


def test_a_404_about_something_else_is_the_callers() -> None:
    async def then(found: Processes) -> None:
        with pytest.raises(ModelNotFound, match="Requested entity was not found"):
            await found.ask(0, NEW)
        await asyncio.sleep(1.0)

    found = process(accounts_of(3), set(), then, "Requested entity was not found.")
    assert len(found.sent) == 1
