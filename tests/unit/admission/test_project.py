"""One project's client: how often it decides about the ledger, and in which order a request tries several projects."""

from __future__ import annotations

import asyncio

from shared.accounts.account import Account
from shared.admission.project import ProjectClient
from shared.ledger.limits import Limits
from shared.secret import Secret
from shared.stores.memory import MemoryStore, Shelf
from tests.unit.admission.test_admission import account, admission, take


def counted_decisions(project: ProjectClient) -> list[None]:
    """One entry for each decision from now on, which is made as usual."""
    decisions: list[None] = []
    decide = project._decide

    def counted() -> None:
        decisions.append(None)
        decide()

    project._decide = counted  # type: ignore[method-assign]
    return decisions


async def test_changes_of_one_turn_are_decided_on_once() -> None:
    """However many requests begin or end in one turn of the event loop, the project decides once, at the turn's end."""
    gate = admission(MemoryStore(Shelf()))
    permit = await take(gate)
    project = permit._project
    await asyncio.sleep(0)
    decisions = counted_decisions(project)
    for _ in range(3):
        project.poke()
    assert not decisions
    await asyncio.sleep(0)
    assert len(decisions) == 1
    project.poke()
    await asyncio.sleep(0)
    assert len(decisions) == 2
    await permit.close()
    await gate.aclose()


async def test_a_closed_project_decides_nothing() -> None:
    """A change right before the shutdown causes no call to the ledger after it."""
    gate = admission(MemoryStore(Shelf()))
    permit = await take(gate)
    project = permit._project
    await permit.close()
    await asyncio.sleep(0)
    decisions = counted_decisions(project)
    project.poke()
    await gate.aclose()
    await asyncio.sleep(0)
    assert not decisions


async def test_instances_try_projects_in_different_orders() -> None:
    """Each instance has an order of its own, which does not depend on the order of the accounts."""
    accounts = [account(f"p{number}") for number in range(6)]
    clients = admission(MemoryStore(Shelf())).clients

    def order(instance: str, candidates: list[Account]) -> list[str]:
        return [project.account.ledger_id for project in clients.ranked(candidates, instance)]

    orders = {tuple(order(f"instance-{number}", accounts)) for number in range(8)}
    assert len(orders) > 1
    assert all(sorted(one) == sorted(account.ledger_id for account in accounts) for one in orders)
    assert order("instance-0", accounts) == order("instance-0", accounts[::-1])
    assert order("instance-0", accounts[:1]) == ["p0"]


async def test_accounts_of_one_project_are_ranked_once() -> None:
    clients = admission(MemoryStore(Shelf())).clients
    accounts = [Account(f"a{number}", "p", Secret(f"k{number}"), 4, Limits()) for number in range(3)]
    assert [project.account.ledger_id for project in clients.ranked(accounts, "instance")] == ["p"]
