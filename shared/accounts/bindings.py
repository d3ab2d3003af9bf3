"""Which Google project a stored thing belongs to, and which caller owns it: files, caches, batches, interactions.

Decision: one entry per thing, written once when the thing is made and expiring with it; its id is a fingerprint of the name,
because a name is enough to use the thing. Alternatives: the owner in the thing's display name costs a request to Google for each
use; one document per caller is rewritten at every upload, and grows.

A process remembers an entry only for its owner: everybody else asks the store each time, so that another caller's thing and an
unknown one take the same time.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import orjson

from shared.clock import elapsed_s
from shared.errors import LedgerUnavailable
from shared.secret import Secret
from shared.stores.port import Change, Put, Store, StoreError, read_all, transact_repeated

MAX_REMEMBERED = 10_000
REMEMBERED_S = 300.0


class Binding(NamedTuple):
    """`project` is the ledger id of the account that made the thing, which keys of one project and backend share. `account_id`
    leads to the project when its ledger id has changed since then, as after a merge."""

    owner: str
    project: str
    account_id: str = ""


class Bindings:
    """Bound to one event loop."""

    def __init__(self, store: Store, *, elapsed: Callable[[], float] = elapsed_s) -> None:
        self._store, self._elapsed = store, elapsed
        self._remembered: OrderedDict[str, tuple[float, Binding]] = OrderedDict()

    async def bind(self, name: str, owner: str, project: str, expires_at_ms: int, *, account_id: str = "") -> bool:
        """Records a thing that was just made: `name` as Google gave it (`files/x`), `owner` the caller's id, `expires_at_ms` when
        Google deletes it. False if the name is bound to another owner or project, which stays. Raises LedgerUnavailable."""
        key, binding = _key(name), Binding(owner, project, account_id)
        put = Put(orjson.dumps(list(binding)), expires_at_ms)

        def step(values: Mapping[str, bytes | None], now_ms: int) -> Change[bool]:
            value = values[key]
            return Change(True, {key: put}) if value is None or _read(value)[:2] == binding[:2] else Change(False)

        try:
            return (await transact_repeated(self._store, [key], step)).result
        except StoreError:
            raise _unavailable() from None

    async def find(self, names: Sequence[str], caller: str, *, timeout_s: float = 5.0) -> dict[str, Binding | None]:
        """The binding of each name; None for one that is unknown or expired. `caller` is the id of who asks. Raises
        LedgerUnavailable."""
        known = {name: self._recall(name, caller) for name in names}
        asked = [name for name, binding in known.items() if binding is None]
        try:
            known.update(await self._load(asked, timeout_s))
        except StoreError:
            raise _unavailable() from None
        for name in asked:
            binding = known[name]
            if binding is not None and binding.owner == caller:
                self._remember(name, binding)
        return known

    async def release(self, name: str) -> None:
        """Forgets a thing that was deleted. Raises LedgerUnavailable."""
        key = _key(name)
        self._remembered.pop(key, None)
        try:
            await self._store.transact([key], lambda values, now_ms: Change(None, {key: None}))
        except StoreError:
            raise _unavailable() from None

    async def _load(self, names: Sequence[str], timeout_s: float) -> dict[str, Binding | None]:
        keys = {name: _key(name) for name in names}
        values = await read_all(self._store, list(keys.values()), timeout_s)
        return {name: None if (value := values[key]) is None else _read(value) for name, key in keys.items()}

    def _recall(self, name: str, caller: str) -> Binding | None:
        entry = self._remembered.get(_key(name)) if self._remembered else None
        if entry is None or entry[1].owner != caller or entry[0] <= self._elapsed():
            return None
        return entry[1]

    def _remember(self, name: str, binding: Binding) -> None:
        key = _key(name)
        self._remembered[key] = (self._elapsed() + REMEMBERED_S, binding)
        self._remembered.move_to_end(key)
        if len(self._remembered) > MAX_REMEMBERED:
            self._remembered.popitem(last=False)


def _key(name: str) -> str:
    return f"bindings/{Secret(name).fingerprint('thing')}"


def _read(value: bytes) -> Binding:
    owner, project, account_id = orjson.loads(value)
    return Binding(owner, project, account_id)


def _unavailable() -> LedgerUnavailable:
    return LedgerUnavailable(
        "The owners of stored files cannot be read, so the request was not sent. Retry later.", retry_after_s=5
    )
