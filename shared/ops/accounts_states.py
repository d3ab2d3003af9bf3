"""The states of all accounts: what their records say, and what the ledgers of their projects say of each model."""

from __future__ import annotations

from collections.abc import Sequence

from shared.accounts.account import COOLDOWN_LEDGER
from shared.accounts.manage import readable
from shared.accounts.records import AccountRecord
from shared.accounts.sealing import DataKeys
from shared.accounts.states import ANY_MODEL, AccountState, Facts, Out, states
from shared.configuration.stored_accounts import ledger_id_of
from shared.ledger.packing import UnreadableState, unpack
from shared.ledger.state import COLLECTION, State
from shared.ops.accounts_table import StateRow
from shared.settings.keys import account_id
from shared.settings.settings import Settings
from shared.stores.port import Store, StoreUnavailable


async def state_rows(
    settings: Settings, records: Sequence[AccountRecord], keys: DataKeys, store: Store
) -> list[StateRow]:
    """The environment's accounts, then the stored ones; each for all models, and for those in another state. Raises
    StoreError."""
    ledgers = _Ledgers(store)
    rows: list[StateRow] = []
    for key in settings.server_keys:
        rows += await _rows(settings, ledgers, account_id(key.source), key.project)
    for record in records:
        out = None if record.out is None else Out(record.out.kind, record.out.message, record.out.since_ms)
        ledger_id = ledger_id_of(record, readable(keys, record))
        rows += await _rows(settings, ledgers, record.id, ledger_id, out=out, enabled=record.enabled)
    return rows


async def _rows(
    settings: Settings,
    ledgers: _Ledgers,
    name: str,
    ledger_id: str,
    *,
    out: Out | None = None,
    enabled: bool = True,
) -> list[StateRow]:
    cooldown_s = settings.accounts.key_cooldown_s
    facts = Facts(
        ledger=await ledgers.read(ledger_id),
        limits=settings.limits_of,
        exhaustion=settings.accounts.exhaustion,
        enabled=enabled,
        out=out,
        cooldown=await ledgers.read(COOLDOWN_LEDGER + name) if cooldown_s else None,
        cooldown_ms=int(1000 * cooldown_s),
        now_ms=ledgers.now_ms,
    )
    found = states(facts)
    general = found.pop(ANY_MODEL)
    return [
        _row(name, None, general),
        *(_row(name, model, state) for model, state in found.items() if state.name != general.name),
    ]


def _row(name: str, model: str | None, state: AccountState) -> StateRow:
    return StateRow(name, model, state.name, state.since_ms or 0, state.until_ms or 0, state.why)


class _Ledgers:
    """Ledgers by id, each read once; one that was merged is read where its requests are counted now."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._known: dict[str, State | None] = {}
        self.now_ms = 0
        """The store's time at the latest read."""

    async def read(self, ledger_id: str) -> State | None:
        if ledger_id not in self._known:
            reading = await self._store.read(COLLECTION + ledger_id)
            self.now_ms = max(self.now_ms, int(reading.sample.server_ms))
            try:
                state = None if reading.value is None else unpack(reading.value)
            except UnreadableState as error:
                raise StoreUnavailable(f"The ledger {ledger_id} cannot be read: {error}.") from None
            self._known[ledger_id] = await self.read(state.moved) if state is not None and state.moved else state
        return self._known[ledger_id]
