"""What a failed exchange teaches the ledger and the pool, and the error that its caller gets."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from shared.accounts.account import Account
from shared.admission.permit import Permit
from shared.errors import GatewayError
from shared.gateway.failures import caller_error, refusal_of
from shared.gemini import models
from shared.gemini.errors import UpstreamFailure
from shared.generation import UNKNOWN_USAGE

if TYPE_CHECKING:
    from shared.gateway.attempts import Attempts


def learn(attempts: Attempts, failure: UpstreamFailure, permit: Permit) -> None:
    """Reports what a failure means for the account to the ledger or to the pool."""
    gateway, attempt = attempts.gateway, attempts.attempt
    attempt.failure = failure.kind
    attempts.over = not failure.severed
    if failure.status == 200 and attempt.usage is None:
        attempt.usage = UNKNOWN_USAGE  # An answer arrived and is billed, but its counts were lost.
    _learn_quota(attempts, failure, permit)
    if failure.lacks_model:
        project = gateway.admission.clients.ledger_of(permit.account)
        gateway.missing.add(project, attempts.model, failure.message)
        permit.not_found()
    if failure.remedy == "account_out":
        gateway.pool.disable(permit.account, failure.kind, failure.message, failure.status)
    elif failure.remedy == "account_paused":
        gateway.pool.pause(permit.account, failure.kind, failure.message)
    if failure.consumer is not None:
        gateway.merges.learn_consumer(permit.account, failure.consumer)


def _learn_quota(attempts: Attempts, failure: UpstreamFailure, permit: Permit) -> None:
    admission, address = attempts.gateway.admission, attempts.gateway.address
    refusal = refusal_of(
        failure,
        attempts.model,
        permit.dispatched_ms,
        admission.clock.latest_ms(),
        _window_s(attempts),
        admission.process_config.exhaustion,
    )
    if failure.kind == "quota":
        address.answered(attempts.timeline.dispatched_s)
    if refusal is not None and refusal.pressure:
        permit.accepted()
        address.rejected(permit.account, partial(permit.refuse, refusal))
    elif refusal is not None:
        permit.accepted()
        named = [models.model_id(violation.model) for violation in failure.violations if violation.model]
        permit.refuse(refusal, named[0] if named else None)
    elif failure.status not in (None, 429):
        permit.answered()


def error_of(attempts: Attempts, failure: UpstreamFailure, permit: Permit) -> GatewayError:
    """The error for the caller."""
    return caller_error(
        failure,
        attempts.model,
        permit.dispatched_ms,
        attempts.gateway.admission.clock.latest_ms(),
        _window_s(attempts),
        caller_key=permit.account.caller_key,
        key_retry_s=attempts.gateway.pool.server_retry_s(),
    )


def not_found(attempts: Attempts, failure: UpstreamFailure, account: Account) -> GatewayError:
    """The error for a request that was not sent, because Gemini answered lately that no project has the model."""
    return caller_error(failure, attempts.model, 0.0, 0.0, _window_s(attempts), caller_key=account.caller_key)


def _window_s(attempts: Attempts) -> float:
    return attempts.gateway.admission.process_config.grid.window_ms / 1000
