"""What stored batches promise (shared/batch/stored.py), on every store."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from shared.batch.record import LEASE_MS, BatchRecord
from shared.batch.stored import LeaseLost, StoredBatches, key_of
from shared.errors import BatchBusy, BatchDiffers, NotFound
from shared.media.port import FILES
from shared.media.url import open_objects
from shared.stores.port import Change, Put, Store
from tests.contract.conftest import Backing

NOW_MS = 1_796_000_000_000


def batches_on(store: Store, folder: Path) -> StoredBatches:
    objects = open_objects(f"file://{folder}", FILES)
    return StoredBatches(store, lambda: objects)


@pytest.fixture
def batches(store: Store, tmp_path: Path) -> StoredBatches:
    return batches_on(store, tmp_path)


async def made(batches: StoredBatches, digest: str = "d", total: int = 3) -> BatchRecord:
    return await batches.create("anna", "b", b"items", digest, total, {"model": "m"}, NOW_MS)


async def expire_lease(batches: StoredBatches) -> None:
    """As time does."""
    key = key_of("anna", "b")
    await batches.store.transact([key], lambda values, now_ms: expired(key, values[key]))


def expired(key: str, value: bytes | None) -> Change[None]:
    assert value is not None
    record = BatchRecord.unpack(value)
    return Change(None, {key: Put(record.released().pack(), record.expires_ms)})


async def test_a_batch_is_made_once(batches: StoredBatches) -> None:
    first = await made(batches)
    assert await made(batches) == first
    assert await batches.items(first) == b"items"
    held = await batches.take("anna", "b")
    with pytest.raises(BatchDiffers):
        await made(batches, "another")
    await batches.release("anna", "b", held)
    assert (await made(batches, "another")).digest == "another"


async def test_a_batch_with_results_is_not_replaced(batches: StoredBatches) -> None:
    await made(batches)
    held = await batches.take("anna", "b")
    held = await batches.add("anna", "b", held, b"one\n", [0], 0)
    await batches.release("anna", "b", held)
    with pytest.raises(BatchDiffers):
        await made(batches, "another")


async def test_results_are_read_in_their_order(batches: StoredBatches) -> None:
    await made(batches)
    held = await batches.take("anna", "b")
    held = await batches.add("anna", "b", held, b"two\n", [2], 1)
    held = await batches.add("anna", "b", held, b"zero\none\n", [0, 1], 0)
    record, now_ms = await batches.describe("anna", "b")
    assert (record.state(now_ms), record.done_count, record.failed) == ("done", 3, 1)
    assert [await batches.segment(record, number) for number in range(2)] == [b"two\n", b"zero\none\n"]
    assert (await batches.take("anna", "b")).epoch == record.epoch


async def test_only_one_carries_a_batch_on(backing: Backing, tmp_path: Path) -> None:
    both = [batches_on(backing.client(), tmp_path) for _ in range(2)]
    await made(both[0])
    taken = await asyncio.gather(*(one.take("anna", "b") for one in both * 3), return_exceptions=True)
    held = [one for one in taken if isinstance(one, BatchRecord)]
    assert len(held) == 1 and sum(isinstance(one, BatchBusy) for one in taken) == 5
    await both[0].release("anna", "b", held[0])
    assert (await both[1].take("anna", "b")).epoch == 2


async def test_a_frozen_carrier_adds_nothing(batches: StoredBatches) -> None:
    await made(batches)
    frozen = await batches.take("anna", "b")
    await expire_lease(batches)
    held = await batches.take("anna", "b")
    held = await batches.add("anna", "b", held, b"new\n", [0], 0)
    with pytest.raises(LeaseLost):
        await batches.add("anna", "b", frozen, b"old\n", [0], 0)
    with pytest.raises(LeaseLost):
        await batches.renew("anna", "b", frozen)
    await batches.release("anna", "b", frozen)
    record, now_ms = await batches.describe("anna", "b")
    assert (record.state(now_ms), await batches.segment(record, 0)) == ("running", b"new\n")


async def test_a_segment_is_added_once(batches: StoredBatches) -> None:
    """Its carrier did not get the answer, and adds it again."""
    await made(batches)
    held = await batches.take("anna", "b")
    first = await batches.add("anna", "b", held, b"one\n", [0], 1)
    assert await batches.add("anna", "b", held, b"one\n", [0], 1) == first
    assert (first.done_count, first.failed) == (1, 1)


async def test_a_lease_is_renewed_by_results(batches: StoredBatches) -> None:
    await made(batches)
    held = await batches.take("anna", "b")
    added = await batches.add("anna", "b", held, b"one\n", [0], 0)
    assert 0 <= added.lease_until_ms - held.lease_until_ms < LEASE_MS


@pytest.mark.parametrize(("owner", "batch_id"), [("anna", "c"), ("berta", "b")])
async def test_other_owners_batch_is_not_found(batches: StoredBatches, owner: str, batch_id: str) -> None:
    await made(batches)
    for reading in (batches.describe(owner, batch_id), batches.take(owner, batch_id)):
        with pytest.raises(NotFound):
            await reading
