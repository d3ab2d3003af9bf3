"""The ledger's document in the store: reading it, and a renew as a change of it.

Pure, except that `Liveness` is asked which processes have ended."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

from shared.accounts.account import Account
from shared.admission.config import ProcessConfig
from shared.ledger.merging import instance_of, merge, survivor_of
from shared.ledger.packing import pack, unpack
from shared.ledger.slots import free_what_is_over
from shared.ledger.state import COLLECTION, RenewRequest, RenewResult, State
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
            mine = instance_of(message.instance)
            others = {i: instance_of(i) for i in state.leases if instance_of(i) != mine}
            message = replace(message, gone=frozenset(i for i, owner in others.items() if self.liveness.gone(owner)))
        grant = renew_step(state, message, now_ms, grid)
        if not grant.fresh:
            return Change(grant)
        expires_ms = None
        if self.account.ephemeral:
            state.accepted = state.accepted or self.accepted
            expires_ms = state.now_ms + int(1000 * self.config.caller_key_kept_s(state.accepted))
        return Change(grant, {self.key: Put(pack(state), expires_ms)}, grant.instances)


@dataclass(frozen=True, slots=True)
class Merge:
    """The merge of two ledgers, of the same Google project, as one change of both documents. The result names the ledgers that
    the two were merged into before: both are "" if this commit merged them."""

    ledger: str
    other: str
    window_ms: int

    @property
    def keys(self) -> tuple[str, str]:
        survivor, closed = survivor_of(self.ledger, self.other)
        return COLLECTION + survivor, COLLECTION + closed

    def step(self, values: Mapping[str, bytes | None], now_ms: int) -> Change[tuple[str, str]]:
        kept, gone = (unpack(blob) if (blob := values[key]) else State(self.window_ms) for key in self.keys)
        if kept.moved or gone.moved:
            return Change((kept.moved, gone.moved))
        survivor, closed = survivor_of(self.ledger, self.other)
        kept.now_ms = max(kept.now_ms, now_ms)
        tombstone = merge(kept, gone, closed, survivor)
        first, second = self.keys
        return Change(("", ""), {first: Put(pack(kept)), second: Put(pack(tombstone))})
