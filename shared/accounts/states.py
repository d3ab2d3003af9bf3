"""The state of an account for each model: a view of its project's ledger and of why a person or Gemini took it out. Pure.

             a dispatch, with KEY_COOLDOWN_SECONDS
          +-------------------------------------------> COOLDOWN
          | <------------------------------------------    its time is over
          |
          |  a quota per minute is rejected
    AVAILABLE ----------------------------------------> TEMPORARILY_EXHAUSTED
          | <------------------------------------------    its time is over, or a probe is answered
          |                                                |  MAX_EXHAUSTED_RETRIES rejections in a row
          |  the day is spent; no quota; spend limit       v
          +-------------------------------------------> FULLY_EXHAUSTED
            <------------------------------------------    midnight Pacific time, a probe is answered, or after rejections in a
                                                           row FULLY_EXHAUSTED_WAIT_SECONDS are over

    any of them --- Gemini rejects the credential ----> FAILED_INIT --- a person repairs it ---> whatever else applies
    any of them --- a person disables the account ----> DISABLED    --- a person enables it ---> whatever else applies

Nothing of this is stored as a state. The ledger has the circuits and counts (`ledger/circuit.py`), so all processes see the same
after one write. A rejection without a quota changes no state. If several states apply, the first one of `TABLE` is the account's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

from shared.ledger.circuit import full_until_ms, is_full
from shared.ledger.grid import Grid, pacific_day
from shared.ledger.limits import UNLIMITED, Limits, minimum
from shared.ledger.state import AS_USUAL, UNPROVEN, Circuit, Exhaustion, ModelState, State
from shared.ledger.throttling import effective_limits

Name = Literal["AVAILABLE", "COOLDOWN", "TEMPORARILY_EXHAUSTED", "FULLY_EXHAUSTED", "FAILED_INIT", "DISABLED"]
ANY_MODEL = "*"
"""Stands for each model that the ledger has no section for."""


class AccountState(NamedTuple):
    """`why` is for an operator: our words, or Google's."""

    name: Name
    since_ms: int | None = None
    """None: unknown."""
    until_ms: int | None = None
    """When the state ends by itself, or a probe may end it; in the past: the next request is the probe. None: a person has to
    act, or the end is unknown."""
    why: str = ""


AVAILABLE = AccountState("AVAILABLE")


class Out(NamedTuple):
    """Why Gemini serves nothing for the account: the kind of the failure, and Google's message."""

    kind: str
    message: str = ""
    since_ms: int | None = None
    until_ms: int | None = None
    """None: until a person acts."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What the state of one account follows from."""

    now_ms: int
    ledger: State | None = None
    """The ledger of its project; None if nothing was dispatched yet."""
    limits: Callable[[str], Limits] = lambda model: UNLIMITED
    """The configured limits of a model."""
    exhaustion: Exhaustion = AS_USUAL
    enabled: bool = True
    out: Out | None = None
    cooldown: State | None = None
    """The ledger of the account's own cooldown; None where KEY_COOLDOWN_SECONDS is 0, or nothing was dispatched yet."""
    cooldown_ms: int = 0

    def section(self, model: str) -> ModelState | None:
        return None if self.ledger is None else self.ledger.sections.get(model)

    @property
    def grid(self) -> Grid:
        return Grid.of(60.0 if self.ledger is None else self.ledger.window_ms / 1000)


def states(facts: Facts) -> dict[str, AccountState]:
    """By model, for each that the ledger knows, and for ANY_MODEL."""
    models = [] if facts.ledger is None else [model for model in facts.ledger.sections if model != UNPROVEN]
    return {model: state_of(facts, model) for model in (*sorted(models), ANY_MODEL)}


def state_of(facts: Facts, model: str) -> AccountState:
    """The first state of TABLE that applies."""
    return next((state for row in TABLE if (state := row(facts, model)) is not None), AVAILABLE)


# -- the rows of the table -----------------------------------------------------------------------------------------------


def _disabled(facts: Facts, model: str) -> AccountState | None:
    return None if facts.enabled else AccountState("DISABLED", why="The operator disabled this account.")


def _failed(facts: Facts, model: str) -> AccountState | None:
    out = facts.out
    if out is None or (out.until_ms is not None and out.until_ms <= facts.now_ms):
        return None
    return AccountState(
        "FAILED_INIT", out.since_ms, out.until_ms, f"{out.kind}: {out.message}" if out.message else out.kind
    )


def _stopped_project(facts: Facts, model: str) -> AccountState | None:
    """The spend limit stops all models of the project until a probe is answered."""
    return None if facts.ledger is None else _until_answered(facts.ledger.spend)


def _no_quota(facts: Facts, model: str) -> AccountState | None:
    section = facts.section(model)
    return _until_answered(section.circuit) if section is not None and section.circuit.kind == "zero" else None


def _until_answered(circuit: Circuit) -> AccountState | None:
    if not circuit.open_until_ms:
        return None
    return AccountState("FULLY_EXHAUSTED", circuit.since_ms or None, circuit.open_until_ms, circuit.message)


def _spent_day(facts: Facts, model: str) -> AccountState | None:
    """Gemini rejected the day's quota, or the ledger counted as many requests as the day allows."""
    section = facts.section(model)
    if section is None or facts.ledger is None:
        return None
    circuit = section.circuit
    if circuit.kind == "day" and facts.now_ms < circuit.open_until_ms:
        return AccountState("FULLY_EXHAUSTED", circuit.since_ms or None, circuit.open_until_ms, circuit.message)
    day = pacific_day(facts.now_ms)
    limit = minimum([facts.limits(model), effective_limits(facts.ledger, section, model)]).requests_per_day
    used = section.days.get(day.ordinal, 0)
    if limit is None or used < limit:
        return None
    return AccountState("FULLY_EXHAUSTED", None, day.end_ms, f"{used} of {limit} requests of this day are used.")


def _rejected_in_a_row(facts: Facts, model: str) -> AccountState | None:
    circuit = _rate_circuit(facts, model)
    if circuit is None or not is_full(circuit, facts.exhaustion):
        return None
    until_ms = full_until_ms(circuit, facts.grid, facts.exhaustion)
    if facts.now_ms >= max(until_ms, circuit.open_until_ms):
        return None
    why = f"{circuit.rejections} requests in a row were rejected. {circuit.message}".rstrip()
    return AccountState("FULLY_EXHAUSTED", circuit.since_ms or None, until_ms, why)


def _rejected(facts: Facts, model: str) -> AccountState | None:
    circuit = _rate_circuit(facts, model)
    if circuit is None or facts.now_ms >= circuit.open_until_ms:
        return None
    return AccountState("TEMPORARILY_EXHAUSTED", circuit.since_ms or None, circuit.open_until_ms, circuit.message)


def _rate_circuit(facts: Facts, model: str) -> Circuit | None:
    section = facts.section(model)
    if section is None or not section.circuit.open_until_ms or section.circuit.kind != "rate":
        return None
    return section.circuit


def _cooling(facts: Facts, model: str) -> AccountState | None:
    """The slot of the account's cooldown is taken: by a dispatch whose end is known, or by an instance that goes on using it."""
    ledger = facts.cooldown
    held = (
        [lease for lease in ledger.leases.values() if lease.slots and lease.reuse_ms > facts.now_ms] if ledger else []
    )
    if not held:
        return None
    ends_ms = [end_ms for lease in held for end_ms in lease.ends_ms]
    until_ms = max(ends_ms) if ends_ms else None
    if until_ms is not None and until_ms <= facts.now_ms:
        return None
    since_ms = None if until_ms is None or not facts.cooldown_ms else until_ms - facts.cooldown_ms
    return AccountState("COOLDOWN", since_ms, until_ms, "It rests after a request (KEY_COOLDOWN_SECONDS).")


TABLE: tuple[Callable[[Facts, str], AccountState | None], ...] = (
    _disabled,
    _failed,
    _stopped_project,
    _no_quota,
    _spent_day,
    _rejected_in_a_row,
    _rejected,
    _cooling,
)
"""In order of precedence: each row tells whether its state applies."""
