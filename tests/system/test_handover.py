"""Concurrency slots follow demand from one deployed instance to another at once, and none lies idle meanwhile."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence

from tests.support.fleet import MODELS, Quota, fleet
from tests.support.load import Sent, closed_loop, per_s

log = logging.getLogger(__name__)

C = 15
LATENCY_S = 0.5
CALLERS = 14
"""At each of two instances: one alone needs nearly all slots, both need nearly twice as many as there are."""
NEARLY_ALL_PER_S = 0.75 * CALLERS / LATENCY_S
"""The callers' answers come in rounds of a little over 0.5 s: 2.5 s contain four of them (0.8), or five."""
MIN_SHARE = 0.35
HANDOVER_S, MEASURE_S = 1.5, 2.5


async def measured(*of: Sequence[Sent]) -> list[float]:
    """Answers per second of each, once the slots had time to change hands."""
    await asyncio.sleep(HANDOVER_S + MEASURE_S)
    now_s = time.monotonic()
    return [per_s(sent, now_s - MEASURE_S, now_s) for sent in of]


async def test_slots_follow_demand_between_instances(firestore_host: str) -> None:
    """C binds and the rate does not; leases are as long as the ledger makes them (10 s): 16 s."""
    quota = Quota(requests=100_000, tokens=100_000_000, concurrency=C, window_s=60)
    async with (
        fleet(firestore_host, quota, instances=2, latency_ms=round(LATENCY_S * 1000)) as site,
        closed_loop(site.urls[:1], callers=CALLERS, models=MODELS) as first,
    ):
        alone = await measured(first.sent)
        async with closed_loop(site.urls[1:], callers=CALLERS, models=MODELS) as second:
            both = await measured(first.sent, second.sent)
            first.stop()
            left = await measured(second.sent)
        seen = await site.seen()
    log.info("answers per second: one alone %s, both %s, the other alone %s", alone, both, left)
    assert {one.told for one in [*first.sent, *second.sent]} == {""}
    assert seen.refused == {}
    assert seen.most_at_once <= C
    assert alone[0] >= NEARLY_ALL_PER_S
    assert sum(both) >= NEARLY_ALL_PER_S, "slots lay idle while they changed hands"
    assert min(both) >= MIN_SHARE * sum(both), "one instance kept the other waiting"
    assert left[0] >= NEARLY_ALL_PER_S, "slots lay idle after their instance had no more use for them"
