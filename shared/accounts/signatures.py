"""Which backend made a thought signature. Only that backend validates it; the other one answers 400.

Decision: the signatures of one answer are written in one commit, and only where the server has accounts of both backends. The
entries expire with the conversation (SESSION_TTL_HOURS). A signature that is not known (older, or made elsewhere) is sent
unchanged. Alternatives: a mark in the signature itself would break a conversation that a client continues at Google; trying the
backends in turn spends a request.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Mapping, Sequence

from shared.accounts.account import Kind
from shared.secret import Secret
from shared.stores.port import KEYS_PER_READ, Change, Put, Store, StoreError, read_all

log = logging.getLogger(__name__)

LIFETIME_MS = 86_400_000
MAX_REMEMBERED = 20_000
MAX_WRITTEN = 64
"""Maximum signatures of one answer that are written. An answer has one or a few."""
MAX_READ = 4 * KEYS_PER_READ
"""Maximum signatures of one request that are looked up, the newest ones."""
WRITE_TIMEOUT_S = 2.0
"""An answer is not kept for longer because of its signatures."""
BACKENDS: frozenset[Kind] = frozenset({"api_key", "vertex"})
"""The kinds of account whose answers have signatures."""


class SignatureBackends:
    """Bound to one event loop."""

    def __init__(self, store: Store, lifetime_ms: int = LIFETIME_MS) -> None:
        self._store, self._lifetime_ms = store, lifetime_ms
        self._remembered: OrderedDict[str, Kind] = OrderedDict()

    async def record(self, signatures: Sequence[str], backend: Kind) -> None:
        """Writes which backend made an answer's signatures. A failure is logged: the answer itself is complete."""
        keys = list(dict.fromkeys(map(_key, signatures[:MAX_WRITTEN])))
        if not keys:
            return
        for key in keys:
            self._remember(key, backend)

        def step(values: Mapping[str, bytes | None], now_ms: int) -> Change[None]:
            return Change(None, dict.fromkeys(keys, Put(backend.encode(), now_ms + self._lifetime_ms)))

        try:
            await self._store.transact(keys, step, timeout_s=WRITE_TIMEOUT_S)
        except StoreError as error:
            log.warning("The backend of an answer's thought signatures was not written: %s", error.public_message)

    async def find(self, signatures: Sequence[str], *, timeout_s: float = 5.0) -> dict[str, Kind]:
        """The backend of each signature that is known. If the store cannot be reached, those that this process knows."""
        keys = {signature: _key(signature) for signature in signatures[-MAX_READ:]}
        asked = [key for key in keys.values() if key not in self._remembered]
        try:
            for key, value in (await read_all(self._store, asked, timeout_s)).items():
                backend = next((one for one in BACKENDS if value is not None and one.encode() == value), None)
                if backend is not None:
                    self._remember(key, backend)
        except StoreError as error:
            log.warning("The backends of thought signatures cannot be read: %s", error.public_message)
        return {signature: self._remembered[key] for signature, key in keys.items() if key in self._remembered}

    def _remember(self, key: str, backend: Kind) -> None:
        self._remembered[key] = backend
        self._remembered.move_to_end(key)
        if len(self._remembered) > MAX_REMEMBERED:
            self._remembered.popitem(last=False)


def _key(signature: str) -> str:
    return f"bindings/{Secret(signature).fingerprint('signature')}"
