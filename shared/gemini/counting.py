"""What a request will cost: Gemini's own token count of a large request, before it waits for a permit, because a safe estimate
is twice too high; and whether it may be answered with an image."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from dataclasses import replace

from shared.gemini.errors import UpstreamFailure
from shared.gemini.upstream import Exchange, Upstream

log = logging.getLogger(__name__)

MIN_COUNTED_TOKENS = 8_192
"""A smaller request is never worth another round trip, whatever the limit is."""
MIN_COUNTED_SHARE = 0.1
"""Share of the tokens per minute from which a request is counted. Simulated (requests of 6-12 s, estimates twice too high, 20
callers): estimates of 10 % of the limit leave 17 % of it unused, estimates of 30 % leave 40 %, of 50 % half; with counts it is
0, 9 and 0 %. With 3 callers and estimates of 5 %, counting gains nothing."""
TIMEOUT_S = 5.0


def worth_counting(estimate: int, limits: Iterable[int | None]) -> bool:
    """`limits`: input tokens per minute of the accounts that may serve the request; None is unlimited."""
    if estimate < MIN_COUNTED_TOKENS:
        return False
    smallest = min((limit for limit in limits if limit is not None), default=None)
    return smallest is not None and estimate >= MIN_COUNTED_SHARE * smallest


async def count_input_tokens(upstream: Upstream, exchange: Exchange) -> int | None:
    """The countTokens result for a generateContent `exchange`, whose body has no `model`; None if there is none in time. It does
    not count in generateContent's limits (ai.google.dev/api/tokens)."""
    model = f"models/{exchange.model}"
    # In this form the system instruction and the tools are counted too. Joined as bytes, since the body is large.
    body = b'{"generateContentRequest":{"model":"%s",%s}' % (model.encode(), exchange.body[1:])
    message = None
    if exchange.message is not None:
        message = {"generateContentRequest": {"model": model, **exchange.message}}
    request = replace(exchange, verb="countTokens", body=body, message=message)
    try:
        async with asyncio.timeout(min(exchange.timeout_s, TIMEOUT_S)):
            reply = await upstream.generate(request)
    except (UpstreamFailure, TimeoutError) as failure:
        # The request itself will report the failure; until then the estimate is good enough.
        log.info("countTokens of %s failed (%s); the estimate is used", exchange.model, type(failure).__name__)
        return None
    counted = reply.get("totalTokens")
    # A request is never empty, so a count of zero is ignored. Counts are int32.
    return counted if type(counted) is int and 0 < counted < 2**31 else None
