"""The ledger's document in the store: reading it, and a renew as a change of it.

Pure, except that `Liveness` is asked which processes have ended."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

from shared.accounts.account import Account
from shared.admission.config import ProcessConfig
from shared.ledger.packing import pack, unpack
from shared.ledger.slots import free_what_is_over
from shared.ledger.state import RenewRequest, RenewResult, State
from shared.ledger.step import renew as renew_step
from shared.stores.port import Change, Liveness, Put, Reading


class Document(NamedTuple):
    """The document as it was read, without slots whose time is over. `state` is the reader's own copy."""

    value: bytes
    state: State
    now_ms: int
    """The store's time of the read."""


def document_of(reading: Reading) -> Document | None:
    """The document; None if there is none yet."""
    if reading.value is None:
        return None
    state, now_ms = unpack(reading.value), int(reading.sample.server_ms)
    state.now_ms = max(state.now_ms, now_ms)
    free_what_is_over(state, state.now_ms)
    return Document(reading.value, state, now_ms)


@dataclass(frozen=True, slots=True)
class Renewal:
    """One renew of the document at `key`. `accepted`: Gemini accepted the account's key."""

    key: str
    message: RenewRequest
    account: Account
    config: ProcessConfig
    accepted: bool
    liveness: Liveness | None

    def step(self, values: Mapping[str, bytes | None], now_ms: int) -> Change[RenewResult]:
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
            expires_ms = state.now_ms + int(1000 * self.config.caller_key_kept_s(state.accepted))
        return Change(grant, {self.key: Put(pack(state), expires_ms)}, grant.instances)
