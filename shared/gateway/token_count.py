"""A large request reserves Gemini's own token count instead of the estimate."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from shared.clock import elapsed_s
from shared.gateway.retry import MIN_EXCHANGE_S
from shared.gemini.counting import count_input_tokens, worth_counting

if TYPE_CHECKING:
    from shared.gateway.attempts import Attempts


async def count(attempts: Attempts) -> None:
    """Sets the request's cost, if it is large enough. Time spent counting is not queue time."""
    gateway, generation = attempts.gateway, attempts.generation
    if generation.verb != "generateContent":
        return  # countTokens reads the contents of a conversation.
    limits = {account.limits_for(attempts.model).input_tokens for account in attempts.usable}
    if not worth_counting(attempts.cost.input_tokens, limits) or "model" in generation.body:
        return
    if gateway.address.is_open:
        return
    left_s = max(MIN_EXCHANGE_S, (generation.deadline_s - elapsed_s()) / 2)
    account = random.choice(attempts.usable)
    with attempts.waiting():
        connected = await gateway.admission.connect(account, left_s)
    if not connected:
        return
    try:
        exchange = attempts.exchange_on(account, "generateContent", left_s)
        tokens = await count_input_tokens(gateway.upstreams[account.kind], exchange)
    finally:
        gateway.admission.disconnect(account)
    if tokens is not None:
        attempts.cost = attempts.cost._replace(input_tokens=tokens)
