"""One of three deployed instances dies, or stands still for a while: the others go on, and no limit is passed."""

from __future__ import annotations

import asyncio
import signal
import time

from shared.ledger.state import State
from tests.support.fleet import MODELS, Fleet, Quota, fleet, frozen
from tests.support.invariants import check_slots, worst_window
from tests.support.load import NOT_ANSWERED, Load, closed_loop, per_s, reaches

C = 15
LATENCY_MS = 500
LEASE_S, REQUEST_TIMEOUT_S = 2.0, 4.0
BACK_S = LEASE_S + REQUEST_TIMEOUT_S
"""No later than this after its death a dead instance's slots serve others."""
MARGIN_S = 3.0
SHORT = {"LEDGER_LEASE_SECONDS": str(LEASE_S), "REQUEST_TIMEOUT_SECONDS": str(REQUEST_TIMEOUT_S)}
SETTLED_S = 3.0
"""What is measured before anything happens, after so long again for the slots to be shared out."""


async def ledgers(site: Fleet, seconds: float) -> list[State]:
    """What the ledger was like, looked at again and again for so long."""
    found, end_s = [], time.monotonic() + seconds
    while time.monotonic() < end_s:
        found.append(await site.ledger())
        await asyncio.sleep(0.25)
    return found


def of(load: Load, servers: set[int]) -> list[str]:
    """What went wrong for the callers of these servers."""
    return [one.told for one in load.sent if one.server in servers and not one.answered]


async def test_the_slots_of_a_killed_instance_come_back(firestore_host: str) -> None:
    """C binds and the rate does not; 42 callers, of which 28 are left: 20 s."""
    quota = Quota(requests=100_000, tokens=100_000_000, concurrency=C, window_s=12)
    async with (
        fleet(firestore_host, quota, latency_ms=LATENCY_MS, env=SHORT) as site,
        closed_loop(site.urls, callers=42, models=MODELS) as load,
    ):
        await asyncio.sleep(2 * SETTLED_S)
        killed_s = time.monotonic()
        site.instances[0].signal_group(signal.SIGKILL)
        states = await ledgers(site, BACK_S + MARGIN_S + 2 * SETTLED_S)
        load.stop()
        before = per_s(load.sent, killed_s - SETTLED_S, killed_s)
        without = per_s(load.sent, killed_s + 1, killed_s + REQUEST_TIMEOUT_S)
        back_s = reaches(load.sent, 0.9 * before, killed_s + 1, SETTLED_S)
        print(f"{before:.1f}/s before, {without:.1f}/s without; back {(back_s or 0) - killed_s:.1f} s after the kill")
        seen = await site.seen()
    assert {one.status for one in load.sent if one.server == 0} == {200, NOT_ANSWERED}
    assert of(load, {1, 2}) == []
    assert all(one.own for one in load.sent if one.answered)
    assert seen.refused == {} and seen.most_at_once == C
    for state in states:
        check_slots(state, C)
    # Its requests may be open at Gemini until they have timed out there: so long nobody may have its slots.
    assert without < 0.85 * before
    assert back_s is not None and back_s <= killed_s + BACK_S + MARGIN_S


async def test_an_instance_that_stood_still_passes_no_limit_when_it_goes_on(firestore_host: str) -> None:
    """The rate and C bind. It stands still for longer than its lease and its permits last, twice: 25 s."""
    quota = Quota(requests=60, concurrency=C, window_s=6)
    async with (
        fleet(firestore_host, quota, latency_ms=LATENCY_MS, env=SHORT) as site,
        closed_loop(site.urls, callers=42, models=MODELS) as load,
    ):
        await asyncio.sleep(SETTLED_S)
        for still_s in (1.0, BACK_S + 1):
            async with frozen(site.instances[0]):
                states = await ledgers(site, still_s)
            went_on_s = time.monotonic()
            states += await ledgers(site, SETTLED_S)
        load.stop()
        seen = await site.seen()
    assert of(load, {1, 2}) == []
    assert all(one.own for one in load.sent if one.answered)
    assert any(one.answered and one.start_s > went_on_s for one in load.sent if one.server == 0), "it never came back"
    assert seen.refused == {} and seen.most_at_once <= C
    for arrivals_s in seen.arrivals_s.values():
        assert worst_window(arrivals_s, quota.window_s) <= quota.requests
    for state in states:
        check_slots(state, C)
