"""Stored batches: a record in the store, the items and the results as objects of the bucket."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from shared.batch.record import TTL_MS, BatchRecord
from shared.errors import BatchBusy, BatchDiffers, GatewayError, LedgerUnavailable, NotFound
from shared.media.port import Objects
from shared.media.uninterrupted import uninterrupted
from shared.secret import Secret
from shared.stores.port import Change, Put, Store, StoreError, transact_repeated

ATTRIBUTES = {"Content-Type": "application/octet-stream"}
RETRY_AFTER_S = 5.0
BUSY = "Another request carries this batch on. Read its response, or retry after the time in Retry-After."


class LeaseLost(Exception):
    """Another request carries the batch on: this one may store nothing more."""


@dataclass(frozen=True, slots=True)
class StoredBatches:
    """Every method raises LedgerUnavailable and StorageUnavailable."""

    store: Store
    objects: Callable[[], Objects]
    """Opens the bucket at its first use. Raises StorageUnavailable."""

    async def create(
        self, owner: str, batch_id: str, body: bytes, digest: str, total: int, options: Mapping[str, Any], now_ms: int
    ) -> BatchRecord:
        """The batch of this body; the one that is there if it was made before. Raises BatchDiffers if that has another body, and
        has results or is running."""
        key = key_of(owner, batch_id)
        known = await self._read(key)
        made = BatchRecord(secrets.token_hex(16), digest, total, now_ms, now_ms + TTL_MS, dict(options), len(body))
        if known is None or _is_replaceable(known, made, now_ms):
            # The items first: a record without them would be a batch that cannot be carried on.
            await uninterrupted(self.objects().put(made.items_object(), body, ATTRIBUTES))

            def put(found: BatchRecord | None, now: int) -> BatchRecord:
                return made if found is None or _is_replaceable(found, made, now) else found

            known = await self._change(key, put)
        if known.digest != digest:
            raise BatchDiffers(
                f"{batch_id} is a batch with other items; choose another batch_id, or send the same items."
            )
        return known

    async def describe(self, owner: str, batch_id: str) -> tuple[BatchRecord, int]:
        """The batch, and the store's time. Raises NotFound."""
        try:
            reading = await self.store.read(key_of(owner, batch_id))
        except StoreError:
            raise _unavailable() from None
        if reading.value is None:
            raise _not_found()
        return BatchRecord.unpack(reading.value), int(reading.sample.server_ms)

    async def take(self, owner: str, batch_id: str) -> BatchRecord:
        """The batch with a lease for one request. Raises NotFound, BatchBusy."""

        def take(found: BatchRecord | None, now_ms: int) -> BatchRecord:
            if found is None:
                raise _not_found()
            if found.state(now_ms) == "running":
                left_s = (found.lease_until_ms - now_ms) / 1000
                raise BatchBusy(BUSY, retry_after_s=min(left_s, RETRY_AFTER_S))
            return found if found.state(now_ms) == "done" else found.taken(now_ms)

        return await self._change(key_of(owner, batch_id), take)

    async def add(
        self, owner: str, batch_id: str, held: BatchRecord, data: bytes, indexes: Sequence[int], failed: int
    ) -> BatchRecord:
        """Stores a segment of results. Raises LeaseLost."""
        name = held.segment_object(len(held.segments))
        await uninterrupted(self.objects().put(name, data, ATTRIBUTES))

        def add(found: BatchRecord | None, now_ms: int) -> BatchRecord:
            current = _current(found, held)
            if len(current.segments) > len(held.segments):
                return current  # This segment was added, and the answer was lost.
            return current.with_segment(indexes, failed, now_ms)

        return await self._change(key_of(owner, batch_id), add)

    async def renew(self, owner: str, batch_id: str, held: BatchRecord) -> BatchRecord:
        """Raises LeaseLost."""
        return await self._change(key_of(owner, batch_id), lambda found, now_ms: _current(found, held).renewed(now_ms))

    async def release(self, owner: str, batch_id: str, held: BatchRecord) -> None:
        def release(found: BatchRecord | None, now_ms: int) -> BatchRecord:
            return _current(found, held).released()

        try:
            await self._change(key_of(owner, batch_id), release)
        except LeaseLost:
            return

    async def items(self, record: BatchRecord) -> bytes:
        """The body that made the batch. Raises NotFound."""
        return (await self.objects().get(record.items_object())).data

    async def segment(self, record: BatchRecord, number: int) -> bytes:
        """The results of a segment, a line each. Raises NotFound."""
        return (await self.objects().get(record.segment_object(number))).data

    async def _read(self, key: str) -> BatchRecord | None:
        try:
            value = (await self.store.read(key)).value
        except StoreError:
            raise _unavailable() from None
        return None if value is None else BatchRecord.unpack(value)

    async def _change(self, key: str, to: Callable[[BatchRecord | None, int], BatchRecord]) -> BatchRecord:
        def step(values: Mapping[str, bytes | None], now_ms: int) -> Change[BatchRecord | Exception]:
            value = values[key]
            found = None if value is None else BatchRecord.unpack(value)
            try:
                changed = to(found, now_ms)
            except (GatewayError, LeaseLost) as error:
                return Change(error)
            if changed == found:
                return Change(changed)
            return Change(changed, {key: Put(changed.pack(), changed.expires_ms)})

        try:
            result = (await transact_repeated(self.store, [key], step, tries=3)).result
        except StoreError:
            raise _unavailable() from None
        if isinstance(result, Exception):
            raise result
        return result


def key_of(owner: str, batch_id: str) -> str:
    """The key in the store: it names neither the owner nor the batch."""
    return f"batches/{Secret(f'{owner} {batch_id}').fingerprint('batch')}"


def _is_replaceable(found: BatchRecord, made: BatchRecord, now_ms: int) -> bool:
    """Whether a batch with another body or model has brought nothing, for example because its model does not exist."""
    differs = (found.digest, found.options) != (made.digest, made.options)
    return differs and not found.done_count and found.state(now_ms) == "open"


def _current(found: BatchRecord | None, held: BatchRecord) -> BatchRecord:
    if found is None or found.epoch != held.epoch or found.base != held.base:
        raise LeaseLost
    return found


def _not_found() -> NotFound:
    return NotFound("This key has no such batch; it may have expired.")


def _unavailable() -> LedgerUnavailable:
    return LedgerUnavailable(
        "The record of the batch cannot be read or written. Its stored results are kept; retry later.",
        retry_after_s=RETRY_AFTER_S,
    )
