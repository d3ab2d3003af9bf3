"""What a waiting request is refused with while Gemini refuses all of its kind, on every instance. In virtual time."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest

from shared.accounts.account import Account
from shared.admission.permit import Permit
from shared.clock import elapsed_s
from shared.errors import CallerNoQuota, CostExceedsLimit, DailyQuotaExhausted, GatewayError, NoQuota, QueueTimeout
from shared.generation import Caller, Cost
from shared.ledger.circuit import first_pause_ms
from shared.ledger.grid import pacific_day
from shared.ledger.limits import Limits
from shared.ledger.state import UNPROVEN, Kind, QuotaSignal
from shared.secret import Secret
from tests.support.instances import LEDGER, Site, account
from tests.support.virtual_time import run

WORDS = "You exceeded your current quota, please check your plan and billing details."
TEN = account(5, requests=10)
OTHER = Account("q", "q", Secret("other"), 5, Limits(requests=10))
OWN = Account(LEDGER, LEDGER, Secret("k"), 5, Limits(requests=10), caller_key=True)


def story(then: Callable[[Site], Awaitable[Any]], instances: int = 2) -> Any:
    async def main() -> Any:
        random.seed(7)
        site = Site(TEN)
        for _ in range(instances):
            site.add()
        found = await then(site)
        for gate in site.gates:
            await gate.aclose()
        return found

    return run(main)


async def lease(
    site: Site, instance: int, *accounts: Account, patience_s: float = 2.0, cost: Cost = Cost(1, 50), model: str = "m"
) -> Permit:
    return await site.gates[instance].acquire(
        accounts or (TEN,), model, cost, elapsed_s() + patience_s, Caller(f"caller {instance}", "admin")
    )


async def refuse(site: Site, kind: Kind, instance: int = 0, by: Account = TEN, model: str = "m", **fields: Any) -> None:
    """One request of `instance` is refused; it is not sent again."""
    taken = await lease(site, instance, by, model=model)
    taken.check()
    now_ms = site.gates[instance].clock.latest_ms()
    given = {
        "until_ms": int(now_ms + first_pause_ms(kind, 60_000)),
        "guessed": kind != "day",
        "message": WORDS,
        **fields,
    }
    taken.refuse(QuotaSignal(model, sent_ms=int(taken.dispatched_ms), kind=kind, **given))
    await taken.close()


async def refusal(site: Site, instance: int, *accounts: Account, **more: Any) -> GatewayError:
    with pytest.raises(GatewayError) as refused:
        await lease(site, instance, *accounts, **more)
    return refused.value


@pytest.mark.parametrize("instance", [0, 1])
@pytest.mark.parametrize(("by", "error"), [(TEN, NoQuota), (OWN, CallerNoQuota)], ids=["server", "own key"])
def test_no_quota_is_rejected_at_once_in_googles_words(instance: int, by: Account, error: type[GatewayError]) -> None:
    async def then(site: Site) -> tuple[GatewayError, float]:
        await refuse(site, "zero", by=by)
        await asyncio.sleep(60)
        began_s = elapsed_s()
        return await refusal(site, instance, by, patience_s=30.0), elapsed_s() - began_s

    refused, waited_s = story(then)
    assert type(refused) is error
    assert (refused.status, refused.code) == (429 if by is OWN else 503, "no_quota")
    assert WORDS in refused.message
    assert "midnight" not in refused.message
    assert refused.retry_after_s == pytest.approx(14 * 60, abs=2)
    assert refused.headers == {"x-should-retry": "false"}
    assert waited_s < 1


def test_no_quota_is_asked_about_again_by_one_request() -> None:
    async def then(site: Site) -> float | None:
        await refuse(site, "zero")
        error = await refusal(site, 1)
        await asyncio.sleep((error.retry_after_s or 0) + 0.5)
        probe = await lease(site, 1)
        probe.check()
        held = await refusal(site, 0, patience_s=1.0)
        assert (type(held), WORDS in held.message) == (NoQuota, True)
        probe.answered()
        await probe.close(50)
        again = await lease(site, 0)
        await again.close()
        return error.retry_after_s

    assert story(then) <= 15 * 60


def test_a_stop_for_spend_stops_every_model_on_every_instance() -> None:
    async def then(site: Site) -> list[GatewayError]:
        await refuse(site, "spend", model="m")
        return [await refusal(site, instance, model="n", patience_s=5.0) for instance in (0, 1)]

    for error in story(then):
        assert (type(error), WORDS in error.message, error.headers) == (NoQuota, True, {})
        assert error.retry_after_s == pytest.approx(60, abs=2)


def test_a_stop_for_spend_that_ends_in_time_is_waited_for() -> None:
    async def then(site: Site) -> float:
        now_ms = site.gates[0].clock
        taken = await lease(site, 0)
        taken.check()
        taken.refuse(QuotaSignal("m", int(now_ms.latest_ms() + 5_000), kind="spend", message=WORDS))
        await taken.close()
        began_s = elapsed_s()
        probe = await lease(site, 1, patience_s=20.0, model="n")
        await probe.close()
        return elapsed_s() - began_s

    assert 4 <= story(then) <= 7


def test_spent_day_is_rejected_until_midnight() -> None:
    async def then(site: Site) -> tuple[GatewayError, float]:
        probe = await lease(site, 0)
        await probe.close()
        end_ms = pacific_day(site.gates[0].clock.latest_ms()).end_ms
        await refuse(site, "day", until_ms=end_ms)
        error = await refusal(site, 1)
        return error, (end_ms - site.gates[1].clock.latest_ms()) / 1000

    error, left_s = story(then)
    assert (type(error), error.headers) == (DailyQuotaExhausted, {"x-should-retry": "false"})
    assert error.retry_after_s == pytest.approx(left_s, abs=2)
    assert WORDS in error.message
    assert "resets at midnight Pacific" in error.message


@pytest.mark.parametrize("instance", [0, 1])
def test_rejection_explains_a_minutes_quota(instance: int) -> None:
    async def then(site: Site) -> GatewayError:
        await refuse(site, "rate")
        return await refusal(site, instance)

    error = story(then)
    assert type(error) is QueueTimeout
    assert WORDS in error.message
    assert error.retry_after_s == pytest.approx(60, abs=2)


def test_new_stop_rejects_waiting_requests_at_once() -> None:
    async def then(site: Site) -> float:
        full = account(1)
        taken = await lease(site, 0, full)
        waiting = asyncio.create_task(refusal(site, 0, full, patience_s=60.0))
        await asyncio.sleep(1)
        taken.check()
        now_ms = site.gates[0].clock.latest_ms()
        taken.refuse(QuotaSignal("m", int(now_ms + 900_000), kind="zero", message=WORDS, guessed=True))
        await taken.close()
        began_s = elapsed_s()
        assert type(await waiting) is NoQuota
        return elapsed_s() - began_s

    assert story(then) <= 2


def test_another_project_serves_while_one_has_no_quota() -> None:
    async def then(site: Site) -> str:
        await refuse(site, "zero")
        served = await lease(site, 0, TEN, OTHER)
        await served.close()
        return served.account.id

    assert story(then) == "q"


def test_rejection_names_the_stop_that_ends_first() -> None:
    async def then(site: Site) -> GatewayError:
        await refuse(site, "zero")
        await refuse(site, "spend", by=OTHER, message="Spend.")
        return await refusal(site, 0, TEN, OTHER, patience_s=10.0)

    error = story(then)
    assert "Spend." in error.message
    assert error.retry_after_s == pytest.approx(60, abs=3)


class TestALimitBelowTheConfiguredOne:
    TOKENS = account(5, input_tokens=10_000)

    async def learn(self, site: Site) -> None:
        fields = {
            "until_ms": int(site.gates[0].clock.latest_ms() + 1),
            "guessed": False,
            "learned": Limits(input_tokens=500),
        }
        await refuse(site, "rate", by=self.TOKENS, **fields)
        await asyncio.sleep(1)
        probe = await lease(site, 0, self.TOKENS)
        probe.check()
        probe.answered()
        await probe.close(50)

    @pytest.mark.parametrize("instance", [0, 1])
    def test_a_request_larger_than_it_is_not_the_callers_mistake(self, instance: int) -> None:
        async def then(site: Site) -> GatewayError:
            await (await lease(site, 0, self.TOKENS)).close()
            await self.learn(site)
            return await refusal(site, instance, self.TOKENS, cost=Cost(1, 800))

        error = story(then)
        assert (type(error), WORDS in error.message) == (NoQuota, True)
        assert error.retry_after_s == pytest.approx(600, abs=5)

    def test_such_a_request_is_sent_when_the_limit_is_tested(self) -> None:
        async def then(site: Site) -> None:
            await (await lease(site, 0, self.TOKENS)).close()
            await self.learn(site)
            error = await refusal(site, 1, self.TOKENS, cost=Cost(1, 800))
            await asyncio.sleep(error.retry_after_s or 0)
            await (await lease(site, 1, self.TOKENS, cost=Cost(1, 800))).close()

        story(then)

    def test_a_request_larger_than_the_configured_limit_still_is(self) -> None:
        async def then(site: Site) -> GatewayError:
            await (await lease(site, 0, self.TOKENS)).close()
            await self.learn(site)
            return await refusal(site, 1, self.TOKENS, cost=Cost(1, 10_001))

        assert type(story(then)) is CostExceedsLimit

    def test_timeout_has_googles_sentence(self) -> None:
        async def then(site: Site) -> GatewayError:
            await (await lease(site, 0, self.TOKENS)).close()
            await self.learn(site)
            taken = await lease(site, 0, self.TOKENS, cost=Cost(1, 300))
            taken.check()
            await taken.close(300)
            return await refusal(site, 1, self.TOKENS, cost=Cost(1, 300))

        error = story(then)
        assert type(error) is QueueTimeout
        assert "less for m than is configured" in error.message
        assert WORDS in error.message


def test_a_spent_day_outlasts_a_stop_for_spend() -> None:
    async def then(site: Site) -> GatewayError:
        daily = account(5, requests_per_day=1)
        await refuse(site, "spend", by=daily)
        return await refusal(site, 0, daily)

    error = story(then)
    assert type(error) is DailyQuotaExhausted
    assert error.retry_after_s is not None
    assert error.retry_after_s > 60


@pytest.mark.parametrize(("kind", "proven"), [("zero", True), ("rate", True), ("spend", False)])
def test_a_stop_for_spend_proves_no_unknown_model(kind: Kind, proven: bool) -> None:
    """Gemini may look at the project's money before it looks for the model."""

    async def then(site: Site) -> str:
        for gate in site.gates:
            gate.process_config = replace(gate.process_config, known=frozenset())
        await refuse(site, kind)
        (agent,) = site.gates[0].projects.values()
        return agent.names.section("m")

    assert (story(then) != UNPROVEN) is proven
