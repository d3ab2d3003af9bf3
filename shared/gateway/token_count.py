"""What a request reserves. A large one reserves Gemini's own token count instead of the estimate."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from shared.clock import elapsed_s
from shared.gateway.recording import Waiting
from shared.gateway.retry import MIN_EXCHANGE_S
from shared.gemini.counting import count_input_tokens, worth_counting
from shared.gemini.models import ModelTable, makes_image
from shared.generation import Cost, EncodedBody, Generation

if TYPE_CHECKING:
    from shared.gateway.attempts import Attempts


def cost_of(generation: Generation, encoded: EncodedBody, model: str, table: ModelTable) -> Cost:
    """What one dispatch takes, by the estimate. Gemini counts each request of a batch, and the batch in a quota of its own."""
    if generation.verb == "batchEmbedContents":
        return Cost(max(1, len(generation.body["requests"])), encoded.input_tokens, batches=1)
    return Cost(1, encoded.input_tokens, int(makes_image(model, generation.body, table)))


async def count(attempts: Attempts) -> None:
    """Sets the request's cost, if it is large enough. Time spent counting is not queue time."""
    generation = attempts.generation
    if generation.verb != "generateContent":
        return  # countTokens reads the contents of a conversation.
    limits = (account.limits_for(attempts.model).input_tokens for account in attempts.usable)
    if not worth_counting(attempts.cost.input_tokens, limits) or "model" in generation.body:
        return
    tokens = await counted(attempts)
    if tokens is not None:
        attempts.cost = attempts.cost._replace(input_tokens=tokens)


async def counted(attempts: Attempts) -> int | None:
    """Gemini's count of the request's input tokens; None if it cannot be had now."""
    gateway = attempts.gateway
    if gateway.address.is_open:
        return None
    left_s = max(MIN_EXCHANGE_S, (attempts.generation.deadline_s - elapsed_s()) / 2)
    account = random.choice(attempts.usable)
    with Waiting(attempts.timeline):
        connected = await gateway.admission.connect(account, left_s)
    if not connected:
        return None
    try:
        exchange = attempts.exchange_on(account, "generateContent", left_s)
        return await count_input_tokens(gateway.upstreams[account.kind], exchange)
    finally:
        gateway.admission.disconnect(account)
