"""How much of the limits is used, over all the Google projects that serve a caller. Pure.

A limit is the sum of the projects' limits, as Gemini's rejections lowered them; null if one of them has none. What is used is the
sum of what the ledgers counted; null if one of them was not read. An instance reports its requests to the ledger every few
seconds, so the newest ones are missing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from shared.accounts.account import Account
from shared.generation import JsonObject
from shared.ledger.grid import pacific_day
from shared.ledger.inspection import limits_of, used_of
from shared.ledger.limits import Limits
from shared.ledger.state import BATCHES, UNPROVEN
from shared.ops.health import Project


class Used(NamedTuple):
    """Of one model, in the order of `Limits`: in the last minute, and the requests of this Pacific day. None: unknown."""

    requests: int | None = 0
    input_tokens: int | None = 0
    images: int | None = 0
    requests_per_day: int | None = 0


_UNKNOWN = Used(None, None, None, None)
_NAMES = ("rpm", "tpm", "ipm", "rpd")


class ModelUse(NamedTuple):
    limits: Limits
    used: Used

    def as_json(self) -> JsonObject:
        """Under the names of the environment variables. A limit that is null is unlimited; a use that is null is unknown."""
        return {
            "limits": dict(zip(_NAMES, self.limits[: len(_NAMES)], strict=True)),
            "used": dict(zip(_NAMES, self.used, strict=True)),
        }


def model_use(model: str, accounts: Iterable[Account], projects: Mapping[str, Project]) -> ModelUse:
    """`projects` are those that were read, by the id of their ledger."""
    found = [
        _of_project(model, account.limits_for, projects.get(account.ledger_id))
        for account in one_of_each(accounts, projects)
    ]
    if not found:
        return ModelUse(Limits(0, 0, 0, 0), Used())
    return ModelUse(
        Limits(*(_sum(of_one) for of_one in zip(*(one.limits for one in found), strict=True))),
        Used(*(_sum(of_one) for of_one in zip(*(one.used for one in found), strict=True))),
    )


def counted_models(projects: Mapping[str, Project]) -> list[str]:
    """The models that some ledger counts."""
    ledgers = [project.state for project in projects.values() if project.state is not None]
    return sorted({model for state in ledgers for model in state.sections} - {UNPROVEN, BATCHES})


def slots_held(accounts: Iterable[Account], projects: Mapping[str, Project]) -> int | None:
    """The concurrency slots that instances hold for their requests."""
    return _sum(_held(projects.get(account.ledger_id)) for account in one_of_each(accounts, projects))


def one_of_each(accounts: Iterable[Account], projects: Mapping[str, Project]) -> list[Account]:
    """One account of each project. Accounts whose ledgers were merged are of one, whatever they were configured with."""

    def counted_in(account: Account) -> str:
        project = projects.get(account.ledger_id)
        return (project.ledger_id if project is not None else "") or account.ledger_id

    return list({counted_in(account): account for account in accounts}.values())


def _held(project: Project | None) -> int | None:
    if project is None or project.reason is not None:
        return None
    leases = project.state.leases.values() if project.state is not None else ()
    return sum(lease.slots for lease in leases if lease.reuse_ms >= project.now_ms)


def _of_project(model: str, configured: Callable[[str], Limits], project: Project | None) -> ModelUse:
    if project is None or project.reason is not None:
        return ModelUse(configured(model), _UNKNOWN)
    state = project.state
    if state is None:
        return ModelUse(configured(model), Used())
    metered = state.names[model].model if model in state.names else model
    section = state.sections.get(metered)
    if section is None:
        return ModelUse(configured(metered), Used())
    now_ms = max(project.now_ms, state.now_ms)
    cost = used_of(state, section, now_ms)
    used = Used(cost.requests, cost.input_tokens, cost.images, section.days.get(pacific_day(now_ms).ordinal, 0))
    return ModelUse(limits_of(state, metered, configured(metered)), used)


def _sum(values: Iterable[int | None]) -> int | None:
    total = 0
    for value in values:
        if value is None:
            return None
        total += value
    return total
