"""One account: a credential, the Google project whose limits it shares, and what those limits are. A value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from shared.ledger.limits import Limits
from shared.secret import Secret


@dataclass(frozen=True, slots=True)
class Account:
    """`id` is safe to show. Accounts with the same `ledger_id` share one Google project's limits."""

    id: str
    ledger_id: str
    credential: Secret
    concurrency: int
    limits: Limits
    model_limits: Mapping[str, Limits] = field(default_factory=dict)
    own_key: bool = False
    """Brought by a caller: its ledger is forgotten after a while, and its faults are the caller's to mend."""

    def limits_for(self, model: str) -> Limits:
        return self.model_limits.get(model, self.limits)
