"""Asking Gemini how large a large request is, before it waits for a permit: an estimate that is safe is twice too high."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable

from shared.gemini.client import Exchange, GeminiClient
from shared.gemini.errors import UpstreamFailure
from shared.secret import Secret

log = logging.getLogger(__name__)

LEAST_TOKENS = 8_192
"""Whatever the limit: a smaller request is never worth another round trip."""
LEAST_SHARE = 0.1
"""Of a minute's tokens. Simulated (requests of 6-12 s, estimates twice too high, 20 callers): estimates of 10 % of the limit
leave 17 % of it unused, of 30 % 40 %, of 50 % half; counted ones 0, 9 and 0 %. With 3 callers and estimates of 5 %, a count
gains nothing."""
TIMEOUT_S = 5.0


def worth_counting(estimate: int, limits: Iterable[int | None]) -> bool:
    """`limits`: input tokens per minute that may be asked for it; None is unlimited."""
    smallest = min((limit for limit in limits if limit is not None), default=None)
    return smallest is not None and estimate >= max(LEAST_TOKENS, LEAST_SHARE * smallest)


async def count_input_tokens(
    client: GeminiClient, api_key: Secret, model: str, body: bytes, timeout_s: float
) -> int | None:
    """What countTokens says of a generateContent `body` without `model`; None when it says nothing in time. It counts in no
    limit of generateContent's (ai.google.dev/api/tokens)."""
    # In this form it counts the system instruction and the tools as well. Joined as bytes, since the body is large.
    request = b'{"generateContentRequest":{"model":"models/%s",%s}' % (model.encode(), body[1:])
    try:
        async with asyncio.timeout(min(timeout_s, TIMEOUT_S)):
            reply = await client.generate(Exchange(api_key, model, "countTokens", request, timeout_s))
    except (UpstreamFailure, TimeoutError) as failure:
        # Whatever it is, the request itself meets it too; until then the estimate is good enough.
        log.info("countTokens of %s failed (%s): the estimate holds", model, type(failure).__name__)
        return None
    counted = reply.get("totalTokens")
    # No request is empty, so a count of zero is not believed. Counts are int32.
    return counted if type(counted) is int and 0 < counted < 2**31 else None
