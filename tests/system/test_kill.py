"""One of three deployed instances dies, or stands still for a while: the others go on, and no limit is passed."""

from __future__ import annotations

import asyncio
import logging
import signal
import time
from collections.abc import Sequence
from functools import partial

import pytest

from shared.ledger.state import State
from tests.support.fleet import MODELS, Fleet, Quota, fleet, frozen
from tests.support.invariants import check_slots, worst_window
from tests.support.load import NOT_ANSWERED, Load, closed_loop, first_span_s
from tests.support.processes import START_S
from tests.support.recorded import mean_open, recorded
from tests.support.recording_gemini import Recorded
from tests.support.whole_path import eventually

log = logging.getLogger(__name__)

C = 15
LATENCY_S = 0.5
FULL = 0.85 * C
"""So many requests are open at Gemini on average when all slots are in use: a slot is empty for a moment after each."""
CALLERS = 30
LEASE_S, REQUEST_TIMEOUT_S = 2.0, 4.0
BACK_S = LEASE_S + REQUEST_TIMEOUT_S
"""No later than this after its death a dead instance's slots serve others."""
MARGIN_S = 3.0
MEASURE_S = 2.0
SHORT = {"LEDGER_LEASE_SECONDS": str(LEASE_S), "REQUEST_TIMEOUT_SECONDS": str(REQUEST_TIMEOUT_S)}


async def look_on(site: Fleet, seconds: float) -> list[State]:
    """The ledger as it was found, again and again for so long."""
    found, end_s = [], time.monotonic() + seconds
    while time.monotonic() < end_s:
        found.append(await site.ledger())
        await asyncio.sleep(0.25)
    return found


def all_in_use(exchanges: Sequence[Recorded], from_s: float, until_s: float) -> bool:
    return mean_open(exchanges, from_s, until_s) >= FULL


async def full_use_s(site: Fleet, since_s: float, within_s: float, found: list[State]) -> float | None:
    """When the first MEASURE_S began in which all slots were in use; None if none began in time. `found` gets the ledger's states
    meanwhile."""
    while time.monotonic() < since_s + within_s + MEASURE_S:
        found += await look_on(site, 0.25)
        in_use = partial(all_in_use, await recorded(site))
        full_s = first_span_s(in_use, since_s, time.monotonic(), MEASURE_S)
        if full_s is not None:
            return full_s
    return None


def check_others(load: Load, died: int) -> None:
    """Those whose instance lived were all answered, and nobody with somebody else's answer."""
    assert [one.told for one in load.sent if one.server != died and not one.answered] == []
    assert all(one.own for one in load.sent if one.answered)


async def test_the_slots_of_a_killed_instance_come_back(firestore_host: str) -> None:
    """C binds and the rate does not: 16 s."""
    quota = Quota(requests=100_000, tokens=100_000_000, concurrency=C, window_s=12)
    async with (
        fleet(
            firestore_host,
            quota,
            latency_ms=round(LATENCY_S * 1000),
            env=SHORT,
            gemini_module="tests.support.recording_gemini",
        ) as site,
        closed_loop(site.urls, callers=CALLERS, models=MODELS) as load,
    ):
        states: list[State] = []
        await eventually(lambda: any(one.answered for one in load.sent), START_S)
        assert await full_use_s(site, time.monotonic(), START_S, states) is not None, "slots lay idle before any fault"
        killed_s = time.monotonic()
        site.instances[0].signal_group(signal.SIGKILL)
        # A request takes a moment to be answered: no slot is back before that.
        back_s = await full_use_s(site, killed_s + 1, BACK_S + MARGIN_S, states)
        load.stop()
        exchanges, seen = await recorded(site), await site.seen()
    without = mean_open(exchanges, killed_s + 1, killed_s + REQUEST_TIMEOUT_S)
    assert back_s is not None, "slots lay idle after their instance had died"
    back = back_s - killed_s
    log.info("%.1f open without it; back %.1f s after", without, back)
    assert {one.status for one in load.sent if one.server == 0} == {200, NOT_ANSWERED}
    check_others(load, died=0)
    assert seen.refused == {}
    assert seen.most_at_once <= C
    for state in states:
        check_slots(state, C)
    # Its requests may be open at Gemini until they have timed out there: so long nobody may have its slots.
    assert without < FULL
    assert REQUEST_TIMEOUT_S - 1 < back <= BACK_S + MARGIN_S


async def prove_stillness_harmless(host: str, quota: Quota, latency_ms: int, still_s: Sequence[float]) -> None:
    """An instance stands still for each of these times in turn; nothing more than allowed is sent when it goes on."""
    async with (
        fleet(host, quota, latency_ms=latency_ms, env=SHORT) as site,
        closed_loop(site.urls, callers=CALLERS, models=MODELS[:1]) as load,
    ):
        states: list[State] = []
        await eventually(lambda: any(one.answered for one in load.sent), START_S)
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
