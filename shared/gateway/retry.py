"""The retry policy: what follows one failed exchange with Gemini. Pure.

    failure                                         other accounts        no other account
    ------------------------------------------------------------------------------------------
    the request's own fault, or time is over        Raise                 Raise
    transient (no connection, server error)         SameAccount           SameAccount
    shared capacity is exhausted (`pressure`)       Others, after a wait  SameAccount
    no access token for the account (`token`)       Others                SameAccount
    rate quota, spend or zero quota                 Requeue               Requeue
    daily quota                                     Others                Raise
    the project does not have the model             Others                Raise
    key or project cannot serve                     Others                Raise

Every attempt is a new dispatch with its own permit. After the last attempt, and if the deadline leaves no time for another one,
the decision is Raise.
"""

from __future__ import annotations

from dataclasses import dataclass

from shared.gateway.failures import PRESSURE_DELAY_S, kind_of
from shared.gemini.errors import UpstreamFailure

MAX_TRIES = 4
"""Maximum dispatches of one request, over all accounts."""
BACKOFF_S = 0.25
MIN_EXCHANGE_S = 0.05
"""Minimum timeout of an exchange."""
MIN_AFTER_DEADLINE_S = 1.5
"""Minimum time left for a retry after Gemini's own deadline error: Gemini takes deadlines in whole seconds, so the deadline
that Gemini reported is the request's own, rounded."""


@dataclass(frozen=True, slots=True)
class Raise:
    """No retry: the caller gets the error."""


@dataclass(frozen=True, slots=True)
class SameAccount:
    """Retry on the account that failed, after `wait_s`."""

    wait_s: float


@dataclass(frozen=True, slots=True)
class Others:
    """Retry on the other accounts, after `wait_s`. `excludes`: the failed account does not serve this request any more."""

    wait_s: float
    excludes: bool


@dataclass(frozen=True, slots=True)
class Requeue:
    """Retry on any account: the queue waits for the quota's end, and another project may serve the request before that."""


Decision = Raise | SameAccount | Others | Requeue


def decide(
    failure: UpstreamFailure, tries: int, others: bool, left_s: float, *, min_s: float, jitter: float
) -> Decision:
    """`tries` counts the exchanges so far, with the failed one. `others`: the request has an account besides the failed
    one. `left_s` is the time until the deadline, `min_s` the time that a retry needs. `jitter` is random, from 0 to 1."""
    remedy = failure.remedy
    if tries >= MAX_TRIES or remedy in ("caller", "none"):
        return Raise()
    if left_s < (MIN_AFTER_DEADLINE_S if failure.kind == "deadline" else min_s):
        return Raise()
    decision = _remedy(failure, tries, others, jitter)
    if isinstance(decision, SameAccount | Others) and decision.wait_s and decision.wait_s + min_s >= left_s:
        return Raise()
    return decision


def _remedy(failure: UpstreamFailure, tries: int, others: bool, jitter: float) -> Decision:
    if failure.kind == "pressure":
        wait_s = pause_s(failure, tries, elsewhere=others, jitter=jitter)
        return Others(wait_s, excludes=False) if others else SameAccount(wait_s)
    if failure.kind == "token" and others:
        return Others(0.0, excludes=False)
    if failure.remedy == "same_account":
        return SameAccount(pause_s(failure, tries, elsewhere=False, jitter=jitter))
    if failure.kind == "quota" and kind_of(failure) != "day":
        return Requeue()
    return Others(0.0, excludes=True) if others else Raise()


def pause_s(failure: UpstreamFailure, tries: int, *, elsewhere: bool, jitter: float) -> float:
    """Seconds between a failure and the next try: at least the delay that Google asked for, which applies to the project
    that failed only. The jitter keeps callers that failed together from retrying together."""
    if failure.retry_delay_s is not None and not elsewhere:
        return failure.retry_delay_s + jitter * BACKOFF_S
    if failure.kind == "pressure":
        return min(failure.retry_delay_s or PRESSURE_DELAY_S, PRESSURE_DELAY_S) * (1 + jitter) / 2
    return jitter * BACKOFF_S * 2.0**tries
