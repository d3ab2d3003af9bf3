"""Three deployed instances under more load than there is: exactly what the limits allow goes to Gemini, and nearly all of it."""

from __future__ import annotations

import asyncio
import logging

import pytest

from shared.ledger.state import State
from tests.support.fleet import MODELS, Fleet, Quota, fleet
from tests.support.invariants import worst_window
from tests.support.load import Load, closed_loop
from tests.support.processes import START_S
from tests.support.whole_path import eventually

log = logging.getLogger(__name__)

CALLERS = 64
MIN_USE = 0.93
"""Of what can be used while the shape of Gemini's window is unknown: the limit x `Grid.best_use()`. Alone on its machine it
is 1.00, and 0.98 beside programs that take all the CPU they get."""


def period_s(quota: Quota) -> float:
    """After so long the same request fits again: what is sent at the limit repeats with this period."""
    return quota.window_s / quota.grid.best_use()


async def saturate(site: Fleet, quota: Quota, periods: int) -> Load:
    """One period to warm up, then `periods` to be measured."""
    async with closed_loop(site.urls, callers=CALLERS, models=MODELS) as load:
        # Not before each model was answered once: the time that is measured begins with its first request.
        await eventually(lambda: {one.model for one in load.sent} == set(MODELS), within_s=START_S)
        await asyncio.sleep((1 + periods) * period_s(quota) + 1)
    return load


async def check_exactness(site: Fleet, quota: Quota, load: Load, periods: int) -> None:
    seen = await site.seen()
    assert seen.refused == {}, "Gemini refused what the ledger allowed"
    assert seen.most_at_once <= quota.concurrency
    for model in MODELS:
        arrivals_s = seen.arrivals_s[model]
        assert worst_window(arrivals_s, quota.window_s) <= quota.requests
        since_s = arrivals_s[0] + period_s(quota)
        until_s = since_s + periods * period_s(quota)
        assert until_s <= load.stopped_s, "nobody asked any more in the last of the time"
        used = sum(1 for at_s in arrivals_s if since_s <= at_s < until_s) / (periods * quota.requests)
        log.info("%s: %.4f of what can be used", model, used)
        assert used >= MIN_USE, model


def check_answers(load: Load) -> None:
    assert {one.told for one in load.sent} == {""}
    assert all(one.own for one in load.sent), "a caller got an answer to somebody else's prompt"
    assert {one.caller for one in load.sent} == set(range(CALLERS)), "some caller was never served"


def check_nothing_is_held(state: State, load: Load) -> None:
    for lease in state.leases.values():
        assert (lease.slots, lease.cap, lease.want_slots) == (0, 0, 0)
        assert not any(share.bookings for share in lease.shares.values())
    for model in MODELS:
        counted = sum(state.sections[model].days.values())
        sent = sum(1 for one in load.sent if one.model == model)
        # A request at midnight Pacific time counts in both days.
        assert counted == sent or len(state.sections[model].days) > 1


async def prove_exactness(firestore_host: str, quota: Quota, periods: int, latency_ms: int) -> None:
    async with fleet(firestore_host, quota, latency_ms=latency_ms) as site:
        load = await saturate(site, quota, periods)
        check_answers(load)
        await check_exactness(site, quota, load, periods)
        state, _ = await site.at_rest()
        check_nothing_is_held(state, load)


async def test_the_limits_of_two_models_are_used_and_never_passed(firestore_host: str) -> None:
    """600 requests a minute for each of two models, with a minute of 10 s: 41 s."""
    quota = Quota(requests=100, concurrency=15, window_s=10)
    await prove_exactness(firestore_host, quota, periods=2, latency_ms=300)


@pytest.mark.heavy
async def test_a_real_minute_is_used_and_never_passed(firestore_host: str) -> None:
    """300 requests a minute for each of two models, over a minute of 60 s: 4 min."""
    quota = Quota(requests=300, concurrency=15, window_s=60)
    await prove_exactness(firestore_host, quota, periods=3, latency_ms=500)
