"""Several processes whose accounts lose a model, or their key, while requests are served. On a virtual clock."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from datetime import datetime
from zoneinfo import ZoneInfo

import pytest

from shared.clock import elapsed_s
from shared.errors import DailyQuotaExhausted
from shared.gemini.errors import Kind, UpstreamFailure, Violation
from tests.support.gateways import Judge, Processes, accounts_of
from tests.support.virtual_time import START_S, run

FLASH, ARGON = "gemini-3.8-flash", "gemini-4-argon"
PACIFIC = ZoneInfo("America/Los_Angeles")


def processes(
    accounts: int, judge: Judge, then: Callable[[Processes], Awaitable[None]], at: str = "2026-11-30 12:00"
) -> Processes:
    """Three processes; `then` begins at the Pacific time `at`."""
    wall_s = datetime.fromisoformat(at).replace(tzinfo=PACIFIC).timestamp() - START_S

    async def main() -> Processes:
        random.seed(10)
        found = Processes(accounts_of(accounts), judge)
        for _ in range(3):
            found.add()
        async with found.closing():
            await then(found)
        return found

    return run(main, wall_s)


async def busy(found: Processes, for_s: float, *models: str) -> None:
    """Callers that always have a request under way, four for each process and model. Every request is answered."""

    async def caller(process: int, model: str) -> None:
        while True:
            await found.ask(process, model)

    tasks = [asyncio.create_task(caller(n % 3, model)) for n in range(12) for model in models]
    await asyncio.sleep(for_s)
    for task in tasks:
        task.cancel()
    done = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(isinstance(one, asyncio.CancelledError) for one in done), done


@pytest.mark.parametrize(
    ("at", "hours"),
    [("2026-11-30 12:00", 12), ("2026-03-08 01:30", 21.5), ("2026-03-08 12:00", 12), ("2026-11-01 00:30", 24.5)],
)
def test_a_spent_day_stops_one_model_of_one_account(at: str, hours: float) -> None:
    """Whatever delay Google names, until the next Pacific midnight; days of 23 and of 25 hours included."""
    ends_s: list[float] = []

    def judge(account: str, model: str) -> UpstreamFailure | None:
        if (account, model) == ("key-0", FLASH) and elapsed_s() < ends_s[0]:
            daily = Violation("requests", "day", 1_000)
            return UpstreamFailure("quota", "spent", status=429, retry_delay_s=14.0, violations=(daily,))
        return None

    async def then(found: Processes) -> None:
        ends_s.append(elapsed_s() + hours * 3600)
        await busy(found, 30.0, FLASH, ARGON)
        circuit = (await found.ledgers())["project-0"].sections[FLASH].circuit
        assert circuit.kind == "day"
        assert circuit.open_until_ms / 1000 == pytest.approx(found.wall_s(ends_s[0]), abs=0.01)
        await asyncio.sleep(ends_s[0] - elapsed_s() - 5.0)
        assert {await found.ask(n, FLASH) for n in range(3)} == {"key-1"}
        await asyncio.sleep(6.0)
        await busy(found, 5.0, FLASH)

    found = processes(2, judge, then, at)
    rejected = [one for one in found.sent if one.rejected]
    first_s = rejected[0].at_s
    # Each process had a few requests under way; then its next call to the ledger tells it, or its own rejection.
    for process in range(3):
        assert len([one for one in rejected if one.process == process]) <= 4
    assert max(one.at_s for one in rejected) - first_s <= 0.5
    later = [one for one in found.sent if first_s + 1.0 < one.at_s < first_s + 28.0]
    assert {(one.account, one.model) for one in later} == {("key-0", ARGON), ("key-1", ARGON), ("key-1", FLASH)}
    assert any((one.account, one.model) == ("key-0", FLASH) for one in found.sent if one.at_s > ends_s[0])


def test_without_another_account_the_end_is_the_retry_after() -> None:
    def judge(account: str, model: str) -> UpstreamFailure | None:
        violations = (Violation("requests", "day", 1_000),)
        failure = UpstreamFailure("quota", "spent", status=429, retry_delay_s=14.0, violations=violations)
        return failure if model == FLASH else None

    async def then(found: Processes) -> None:
        for process in (0, 0, 1, 2):
            with pytest.raises(DailyQuotaExhausted) as caught:
                await found.ask(process, FLASH)
            assert caught.value.retry_after_s == pytest.approx(12 * 3600, abs=3)
            assert await found.ask(process, ARGON) == "key-0"

    found = processes(1, judge, then)
    assert len([one for one in found.sent if one.rejected]) == 1, "the other processes read the ledger first"


@pytest.mark.parametrize(("kind", "status"), [("key_invalid", 400), ("permission", 401), ("account", 403)])
def test_an_account_refused_under_load_loses_no_request(kind: Kind, status: int) -> None:
    def judge(account: str, model: str) -> UpstreamFailure | None:
        refused = account == "key-1" and elapsed_s() >= START_S + 10.0
        return UpstreamFailure(kind, "API key not valid.", status=status) if refused else None

    async def then(found: Processes) -> None:
        await busy(found, 30.0, FLASH)

    found = processes(3, judge, then)
    assert any(one.rejected for one in found.sent), "the account was in use"
    served = [one for one in found.sent if not one.rejected and one.at_s > START_S + 10.5]
    assert {one.account for one in served} == {"key-0", "key-2"}
