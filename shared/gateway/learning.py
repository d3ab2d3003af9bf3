"""What a failed exchange teaches: the ledger, the pool, the circuit of the address, and what is known about models."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from shared.admission.permit import Permit
from shared.gateway.failures import refusal_of
from shared.gemini import models
from shared.gemini.errors import UpstreamFailure
from shared.generation import UNKNOWN_USAGE

if TYPE_CHECKING:
    from shared.gateway.attempts import Attempts


def learn(attempts: Attempts, failure: UpstreamFailure, permit: Permit) -> None:
    """Reports what a failure means for the account to the ledger or to the pool."""
    attempts.attempt.failure = failure.kind
    attempts.over = not failure.severed
    if failure.status == 200 and attempts.attempt.usage is None:
        attempts.attempt.usage = UNKNOWN_USAGE  # An answer arrived and is billed, but its counts were lost.
    now_ms = attempts.gateway.admission.clock.latest_ms()
    exhaustion = attempts.gateway.admission.process_config.exhaustion
    refusal = refusal_of(failure, attempts.model, permit.dispatched_ms, now_ms, attempts.window_s(), exhaustion)
    if failure.kind == "quota":
        attempts.gateway.address.answered(attempts.timeline.dispatched_s)
    if refusal is not None and refusal.pressure:
        permit.accepted()
        attempts.gateway.address.rejected(permit.account, partial(permit.refuse, refusal))
    elif refusal is not None:
        permit.accepted()
        named = [models.model_id(violation.model) for violation in failure.violations if violation.model]
        permit.refuse(refusal, named[0] if named else None)
    elif failure.status not in (None, 429):
        permit.answered()
    if failure.kind == "not_found" and models.says_missing(failure.message):
        attempts.gateway.missing.add(permit.account.ledger_id, attempts.model, failure.message)
        permit.not_found()
    pool = attempts.gateway.pool
    if failure.remedy == "account_out":
        pool.disable(permit.account, failure.kind, failure.message)
    elif failure.remedy == "account_paused":
        pool.pause(permit.account, failure.kind, failure.message)
    if failure.consumer is not None:
        pool.learn_consumer(permit.account, failure.consumer)
