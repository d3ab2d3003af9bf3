"""Scenarios made from others: the same deployment and load, with one thing that is different."""

from __future__ import annotations

from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.simulation.scenario import Scenario


def with_leavers(scenario: Scenario) -> Scenario:
    """Gemini continues a request whose caller disconnected for as long as any other to that model. No process learns that another
    one ended: a local process would take its slots at once."""
    random = Random(f"leavers {scenario.seed}")
    service_s = {client.kind.model: random.uniform(0.1, 0.8) for client in scenario.clients}
    clients = [
        replace(
            client,
            kind=replace(
                client.kind, service_s=(service_s[client.kind.model],) * 2, hangs=0.0, slow_body=0.0,
                leaves=random.choice([0.2, 0.5, 0.8]),
            ),
        )
        for client in scenario.clients
    ]  # fmt: skip
    return replace(scenario, clients=tuple(clients), cancels=False, local=False)


def with_names(scenario: Scenario) -> Scenario:
    """Some of the callers ask for an alias, which the deployment may know as a model of its own, or for nothing that exists."""
    random = Random(f"names {scenario.seed}")
    models = sorted({client.kind.model for client in scenario.clients})
    aliases = {f"x{at}": random.choice(models) for at in range(random.choice([1, 2, 3]))}
    known = {*models, *(name for name in aliases if random.random() < 0.25)}
    if random.random() < 0.3:
        aliases["gone"] = ""
    clients = []
    for client in scenario.clients:
        model = random.choice([client.kind.model, *aliases]) if random.random() < 0.6 else client.kind.model
        clients.append(replace(client, kind=replace(client.kind, model=model)))
    return replace(scenario, clients=tuple(clients), aliases=tuple(sorted(aliases.items())), known=frozenset(known))


def with_contention(scenario: Scenario) -> Scenario:
    """Commits take 20 to 60 ms, as Firestore's do; in some deployments, and wherever the use of a limit is judged, as much less
    as the window is shorter than a minute."""
    random = Random(f"contention {scenario.seed}")
    scale = scenario.grid.window_ms / 60_000 if scenario.saturated is not None or random.random() < 0.3 else 1.0
    return replace(
        scenario, commit_s=(0.02 * scale, 0.06 * scale), max_waiting_commits=random.choice([2, 5, 10])
    )  # fmt: skip
