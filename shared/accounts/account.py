"""One account, a value: a credential, the Google project whose limits it shares, and those limits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from shared.ledger.limits import Limits
from shared.secret import Secret

OWN_LEDGER = "u-"
COOLDOWN_LEDGER = "cool-"
"""The ledger of an account's cooldown is this and the account's id."""

Kind = Literal["api_key", "vertex", "enterprise", "enterprise_session"]
"""How an account is authenticated, and which service serves it. Thought signatures, files and quotas belong to one service."""


@dataclass(frozen=True, slots=True)
class Account:
    """`id` is not secret. Accounts with the same `ledger_id` share one Google project's limits."""

    id: str
    ledger_id: str
    credential: Secret
    """An API key; for the other kinds a JSON object with the secrets of the kind."""
    concurrency: int
    limits: Limits
    model_limits: Mapping[str, Limits] = field(default_factory=dict)
    caller_key: bool = False
    """Sent by a caller, who has to fix what is wrong with it."""
    kind: Kind = "api_key"
    place: Mapping[str, str] = field(default_factory=dict)
    """What else addresses it and is no secret: for `vertex` its project and location, for `enterprise` the engine too."""

    limits_version: int = 0
    """The version of the stored configuration that `concurrency` and the limits are from; 0 if they are the environment's."""

    @property
    def ephemeral(self) -> bool:
        """Whether its ledger expires when it is not used. False for a caller's key that is also a key of the server."""
        return self.caller_key and self.ledger_id.startswith(OWN_LEDGER)

    def limits_for(self, model: str) -> Limits:
        return self.model_limits.get(model, self.limits)
