"""Asks Gemini for the token count of a large request, before the request waits for a permit. A safe estimate is twice too
high."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable

from shared.gemini.client import Exchange, GeminiClient
from shared.gemini.errors import UpstreamFailure
from shared.secret import Secret

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
    smallest = min((limit for limit in limits if limit is not None), default=None)
    return smallest is not None and estimate >= max(MIN_COUNTED_TOKENS, MIN_COUNTED_SHARE * smallest)


async def count_input_tokens(
    client: GeminiClient, api_key: Secret, model: str, body: bytes, timeout_s: float
) -> int | None:
    """The countTokens result for a generateContent `body` without `model`; None if there is none in time. It does not count
    in generateContent's limits (ai.google.dev/api/tokens)."""
    # In this form the system instruction and the tools are counted too. Joined as bytes, since the body is large.
    request = b'{"generateContentRequest":{"model":"models/%s",%s}' % (model.encode(), body[1:])
    try:
        async with asyncio.timeout(min(timeout_s, TIMEOUT_S)):
            reply = await client.generate(Exchange(api_key, model, "countTokens", request, timeout_s))
    except (UpstreamFailure, TimeoutError) as failure:
        # The request itself will report the failure; until then the estimate is good enough.
        log.info("countTokens of %s failed (%s); the estimate is used", model, type(failure).__name__)
        return None
    counted = reply.get("totalTokens")
    # A request is never empty, so a count of zero is ignored. Counts are int32.
    return counted if type(counted) is int and 0 < counted < 2**31 else None
