"""One of three deployed instances dies, or stands still for a while: the others go on, and no limit is passed."""

from __future__ import annotations

import asyncio
import logging
import signal
import time
from collections.abc import Callable, Sequence

import pytest

from shared.ledger.state import State
from tests.support.fleet import MODELS, Fleet, Quota, fleet, frozen
from tests.support.invariants import check_slots, worst_window
from tests.support.load import NOT_ANSWERED, Load, closed_loop, per_s, reaches

log = logging.getLogger(__name__)

C = 15
LATENCY_S = 0.5
FULL_PER_S = 0.85 * C / LATENCY_S
CALLERS = 30
LEASE_S, REQUEST_TIMEOUT_S = 2.0, 4.0
BACK_S = LEASE_S + REQUEST_TIMEOUT_S
"""No later than this after its death a dead instance's slots serve others."""
MARGIN_S = 3.0
MEASURE_S = 2.0
SHORT = {"LEDGER_LEASE_SECONDS": str(LEASE_S), "REQUEST_TIMEOUT_SECONDS": str(REQUEST_TIMEOUT_S)}


async def look_on(site: Fleet, seconds: float, until: Callable[[], bool] = lambda: False) -> list[State]:
    """The ledger as it was found, again and again for so long, or until something is true."""
    found, end_s = [], time.monotonic() + seconds
    while time.monotonic() < end_s and not until():
        found.append(await site.ledger())
        await asyncio.sleep(0.25)
    return found


def check_others(load: Load, died: int) -> None:
    """Those whose instance lived were all answered, and nobody with somebody else's answer."""
    assert [one.told for one in load.sent if one.server != died and not one.answered] == []
    assert all(one.own for one in load.sent if one.answered)


async def test_the_slots_of_a_killed_instance_come_back(firestore_host: str) -> None:
    """C binds and the rate does not: 16 s."""
    quota = Quota(requests=100_000, tokens=100_000_000, concurrency=C, window_s=12)
    async with (
        fleet(firestore_host, quota, latency_ms=round(LATENCY_S * 1000), env=SHORT) as site,
        closed_loop(site.urls, callers=CALLERS, models=MODELS) as load,
    ):
        await asyncio.sleep(2 * MEASURE_S)
        killed_s = time.monotonic()
        site.instances[0].signal_group(signal.SIGKILL)

        def back_s() -> float | None:
            # A request takes a moment to be answered: nothing is back before that.
            return reaches([one.end_s for one in load.sent if one.answered], FULL_PER_S, killed_s + 1, MEASURE_S)

        states = await look_on(site, BACK_S + MARGIN_S + MEASURE_S, lambda: back_s() is not None)
        load.stop()
        before = per_s(load.sent, killed_s - MEASURE_S, killed_s)
        without = per_s(load.sent, killed_s + 1, killed_s + REQUEST_TIMEOUT_S)
        seen, back = await site.seen(), (back_s() or 0) - killed_s
    log.info("%.1f/s before, %.1f/s without it; back %.1f s after", before, without, back)
    assert {one.status for one in load.sent if one.server == 0} == {200, NOT_ANSWERED}
    check_others(load, died=0)
    assert seen.refused == {}
    assert seen.most_at_once <= C
    for state in states:
        check_slots(state, C)
    assert before >= FULL_PER_S
    # Its requests may be open at Gemini until they have timed out there: so long nobody may have its slots.
    assert without < FULL_PER_S
    assert REQUEST_TIMEOUT_S - 1 < back <= BACK_S + MARGIN_S


async def prove_stillness_harmless(host: str, quota: Quota, latency_ms: int, still_s: Sequence[float]) -> None:
    """An instance stands still for each of these times in turn; nothing more than allowed is sent when it goes on."""
    async with (
        fleet(host, quota, latency_ms=latency_ms, env=SHORT) as site,
        closed_loop(site.urls, callers=CALLERS, models=MODELS[:1]) as load,
    ):
        states: list[State] = []
        for seconds in still_s:
            await asyncio.sleep(MEASURE_S)
            async with frozen(site.instances[0]):
                states += await look_on(site, seconds)
            went_on_s = time.monotonic()
        states += await look_on(site, MEASURE_S)
        load.stop()
        seen = await site.seen()
    check_others(load, died=0)
    assert any(one.answered and one.start_s > went_on_s for one in load.sent if one.server == 0), "it never came back"
    assert seen.refused == {}
    assert seen.most_at_once <= C
    for arrivals_s in seen.arrivals_s.values():
        assert worst_window(arrivals_s, quota.window_s) <= quota.requests
    for state in states:
        check_slots(state, C)


async def test_frozen_instance_takes_no_reassigned_slot(firestore_host: str) -> None:
    """C binds and the rate does not; it stands still until the others have its slots: 15 s."""
    quota = Quota(requests=100_000, tokens=100_000_000, concurrency=C, window_s=12)
    await prove_stillness_harmless(firestore_host, quota, 500, [BACK_S + 1])


@pytest.mark.heavy
async def test_frozen_instance_spends_no_reassigned_permit(firestore_host: str) -> None:
    """The rate binds and C does not; it stands still for longer than its permits last, then until the ledger has
    forgotten them and others have theirs: 25 s."""
    quota = Quota(requests=240, concurrency=C, window_s=12)
    await prove_stillness_harmless(firestore_host, quota, 300, [1.0, 1.25 * quota.window_s])
