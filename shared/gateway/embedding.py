"""How many inputs of embeddings a caller's accounts can take, by the configured limits."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from shared.gateway.able import embedding
from shared.generation import Caller
from shared.ledger.limits import smaller

if TYPE_CHECKING:
    from shared.gateway.gateway import Gateway

UNLIMITED_INPUTS, UNLIMITED_TOKENS = 1 << 30, 1 << 40


class Capacity(NamedTuple):
    """`total`: inputs per `period` of all projects together, None if that is unlimited. Of one project: the `inputs` and
    `tokens` that one batch may have."""

    total: int | None
    period: str
    inputs: int
    tokens: int


def capacity_of(gateway: Gateway, caller: Caller, model: str) -> Capacity:
    """Raises BadRequest if no account of the caller can make embeddings. A model that the table does not list is not known to
    count its batches as Google's embedding models do, so that its inputs are sent one by one."""
    ledger_of = gateway.admission.clients.ledger_of
    projects = {ledger_of(account): account for account in embedding(gateway.pool.candidates(caller))}
    resolved = gateway.table.resolve(model)
    limits = [account.limits_for(resolved.canonical) for account in projects.values()]
    minutes = [one.requests for one in limits]
    days = [one.requests_per_day for one in limits]
    per_minute = None if None in minutes else sum(one for one in minutes if one is not None)
    per_day = None if None in days else sum(one for one in days if one is not None)
    total = smaller(per_minute, per_day)
    inputs = max((UNLIMITED_INPUTS if one is None else one for one in minutes), default=1) if resolved.known else 1
    tokens = max((UNLIMITED_TOKENS if one.input_tokens is None else one.input_tokens for one in limits), default=1)
    return Capacity(total, "minute" if total == per_minute else "day", inputs, tokens)
