"""In which seeds Gemini refuses more than usual for a while, and how. Drawn separately from the rest of a seed's scenario."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from shared.accounts.account import Account
from shared.ledger.limits import Limits
from shared.ledger.state import Kind
from tests.simulation.history import Spell

SHARE = 0.25
"""Share of the seeds that are not calm."""


def spells_of(
    seed: int, busy_s: float, models: Sequence[str], accounts: Sequence[Account], began_ms: float
) -> tuple[Spell, ...]:
    random = Random(f"spells {seed}")
    if random.random() >= SHARE:
        return ()
    kind: Kind = random.choice(["zero", "lower", "spend"])
    project, model = random.choice(accounts).ledger_id, "" if kind == "spend" else random.choice(models)
    limits = Limits(requests=random.choice([1, 2, 4]), input_tokens=random.choice([None, 50, 200]))
    from_s = random.uniform(0.1, 0.5) * busy_s
    until_s = from_s + random.uniform(1.0, 0.5 * busy_s)
    from_ms, until_ms = began_ms + 1000 * from_s, began_ms + 1000 * until_s
    return (Spell(kind, project, model, from_ms, until_ms, limits, random.choice([None, 0.5, 5.0])),)
