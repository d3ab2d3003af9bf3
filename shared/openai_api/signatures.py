"""The thought signatures of tool calls, which OpenAI's clients do not return.

    find      the signatures of a conversation's calls: from their ids, from this process's memory, then from the store
    record    those of an answer: one commit, before the answer ends, since the CPU may stop after it

Decision: an entry in the store for each signed call, and the signature in the id as well. The store alone loses a conversation
that is older than SESSION_TTL_HOURS or that began while the store failed; the id alone loses it at every client that cuts ids.
Where neither has it, Gemini gets the placeholder that it documents. Alternative: one document for each conversation, which
OpenAI's API does not name.

An entry's key is a fingerprint of the caller and the call, so that another caller's call and an unknown one are the same.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from functools import partial
from typing import NamedTuple
from weakref import WeakKeyDictionary

from shared.generation import Caller
from shared.http.call import Call
from shared.openai_format.call_ids import key_of, signature_in
from shared.secret import Secret
from shared.stores.port import KEYS_PER_READ, Change, Put, Store, StoreError, read_all

log = logging.getLogger(__name__)

MAX_READ = 4 * KEYS_PER_READ
"""Maximum signatures of one request that are read, those of the newest calls."""
MAX_WRITTEN = 64
"""Maximum signatures of one answer that are written. An answer has one for each choice."""
MAX_SIGNATURE_CHARS = 128 * 1024
MAX_REMEMBERED_CHARS = 8 * 1024 * 1024
TIMEOUT_S = 2.0
"""Neither a request nor an answer waits longer for the store."""


async def find_signatures(call: Call, call_ids: Sequence[str]) -> dict[str, str]:
    """The thought signatures of the calls of a conversation, by call id, as far as they are known."""
    store = call.services.store
    return await _of(store).find(store, await call.work(partial(read_ids, call.caller, call_ids)))


async def record_signatures(call: Call, signatures: Mapping[str, str]) -> None:
    """Writes the thought signatures of an answer, by call id."""
    store = call.services.store
    await _of(store).record(store, call.caller, signatures, call.settings.session_ttl_hours * 3_600_000)


class IdsRead(NamedTuple):
    """What call ids say by themselves."""

    signatures: dict[str, str]
    """Call id -> its thought signature, for those that have it whole."""
    entries: dict[str, str]
    """Call id -> the key of its entry in the store, for the others that have one."""


def read_ids(caller: Caller, call_ids: Sequence[str]) -> IdsRead:
    """A large body may have ten thousands of ids, which take a third of a second."""
    signatures = {call_id: held for call_id in call_ids if (held := signature_in(call_id)) is not None}
    entries = {
        call_id: _entry(caller, key)
        for call_id in call_ids
        if call_id not in signatures and (key := key_of(call_id)) is not None
    }
    return IdsRead(signatures, entries)


class CallSignatures:
    """The signatures in a store; those that this process has seen lately are not read again."""

    def __init__(self) -> None:
        self._remembered: OrderedDict[str, str] = OrderedDict()
        self._remembered_chars = 0

    async def find(self, store: Store, ids: IdsRead) -> dict[str, str]:
        """The thought signatures of calls, by call id, as far as they are known."""
        known = {key: self._recall(key) for key in ids.entries.values()}
        unknown = [key for key, signature in known.items() if signature is None]
        known.update(await self._read(store, unknown[-MAX_READ:]))
        found = {call_id: signature for call_id, key in ids.entries.items() if (signature := known[key]) is not None}
        return {**ids.signatures, **found}

    async def record(self, store: Store, caller: Caller, signatures: Mapping[str, str], lifetime_ms: int) -> None:
        """A failure is logged: the answer itself is complete, and the ids may have the signatures."""
        entries = {
            _entry(caller, key): signature
            for call_id, signature in list(signatures.items())[:MAX_WRITTEN]
            if len(signature) <= MAX_SIGNATURE_CHARS and (key := key_of(call_id)) is not None
        }
        if not entries:
            return
        for key, signature in entries.items():
            self._remember(key, signature)

        def step(values: Mapping[str, bytes | None], now_ms: int) -> Change[None]:
            return Change(None, {key: Put(one.encode(), now_ms + lifetime_ms) for key, one in entries.items()})

        try:
            await store.transact(list(entries), step, timeout_s=TIMEOUT_S)
        except StoreError as error:
            log.warning("The thought signatures of an answer's calls were not written: %s", error.public_message)

    async def _read(self, store: Store, keys: Sequence[str]) -> dict[str, str]:
        try:
            read = await read_all(store, keys, TIMEOUT_S)
        except StoreError as error:
            log.warning("The thought signatures of calls cannot be read: %s", error.public_message)
            return {}
        found = {key: value.decode() for key, value in read.items() if value is not None}
        for key, signature in found.items():
            self._remember(key, signature)
        return found

    def _recall(self, key: str) -> str | None:
        signature = self._remembered.get(key)
        if signature is not None:
            self._remembered.move_to_end(key)
        return signature

    def _remember(self, key: str, signature: str) -> None:
        self._remembered_chars += len(signature) - len(self._remembered.pop(key, ""))
        self._remembered[key] = signature
        while self._remembered_chars > MAX_REMEMBERED_CHARS:
            self._remembered_chars -= len(self._remembered.popitem(last=False)[1])


_by_store: WeakKeyDictionary[Store, CallSignatures] = WeakKeyDictionary()


def _of(store: Store) -> CallSignatures:
    return _by_store.setdefault(store, CallSignatures())


def _entry(caller: Caller, key: str) -> str:
    named = Secret(f"{key} of {caller.id}")
    return f"bindings/{named.fingerprint('call')}"
