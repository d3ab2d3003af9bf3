"""One account: a credential, the Google project whose limits it shares, and what those limits are. A value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from shared.ledger.limits import Limits
from shared.secret import Secret

OWN_LEDGER = "u-"


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
    """Brought by a caller: its faults are the caller's to mend."""

    @property
    def passing(self) -> bool:
        """Whether its ledger is forgotten after a while. A caller's key may be one of the server's: then it is not."""
        return self.own_key and self.ledger_id.startswith(OWN_LEDGER)

    def limits_for(self, model: str) -> Limits:
        return self.model_limits.get(model, self.limits)
