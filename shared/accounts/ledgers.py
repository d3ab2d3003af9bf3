"""Reads the ledgers of projects for the states of their accounts."""

from __future__ import annotations

from shared.ledger.packing import UnreadableState, unpack
from shared.ledger.state import COLLECTION, State
from shared.stores.port import Store, StoreUnavailable


class Ledgers:
    """Ledgers by id, each read once; one that was merged is read where its requests are counted now."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._known: dict[str, State | None] = {}
        self.now_ms = 0
        """The store's time at the latest read."""

    async def read(self, ledger_id: str) -> State | None:
        """None if nothing was dispatched yet. Raises StoreError."""
        if ledger_id not in self._known:
            reading = await self._store.read(COLLECTION + ledger_id)
            self.now_ms = max(self.now_ms, int(reading.sample.server_ms))
            try:
                state = None if reading.value is None else unpack(reading.value)
            except UnreadableState as error:
                raise StoreUnavailable(f"The ledger {ledger_id} cannot be read: {error}.") from None
            self._known[ledger_id] = await self.read(state.moved) if state is not None and state.moved else state
        return self._known[ledger_id]
