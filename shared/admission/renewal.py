"""A renew as a change of the ledger's document. Pure, but for what the store knows of ended processes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from shared.accounts.account import Account
from shared.admission.config import AgentConfig
from shared.ledger.packing import pack, unpack
from shared.ledger.state import Grant, Renew, State
from shared.ledger.step import renew as renew_step
from shared.stores.port import Change, Liveness, Put


@dataclass(frozen=True, slots=True)
class Renewal:
    """One message to the document at `key`. `accepted`: Gemini took the account's key."""

    key: str
    message: Renew
    account: Account
    config: AgentConfig
    accepted: bool
    liveness: Liveness | None

    def step(self, values: Mapping[str, bytes | None], now_ms: int) -> Change[Grant]:
        blob, message, grid = values[self.key], self.message, self.config.grid
        state = unpack(blob) if blob else State(grid.window_ms)
        if self.liveness is not None:
            gone = frozenset(i for i in state.leases if i != message.instance and self.liveness.gone(i))
            message = replace(message, gone=gone)
        grant = renew_step(state, message, now_ms, grid)
        if not grant.fresh:
            return Change(grant)
        expires_ms = None
        if self.account.ephemeral:
            state.accepted = state.accepted or self.accepted
            expires_ms = state.now_ms + int(1000 * self.config.own_key_kept_s(state.accepted))
        return Change(grant, {self.key: Put(pack(state), expires_ms)})
