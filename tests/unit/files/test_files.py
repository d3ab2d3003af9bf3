"""Stored files over a store and an object store in memory: whole or absent, per owner, and gone after their time."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from shared.errors import BadRequest, LedgerUnavailable, NotFound, StorageUnavailable
from shared.files import files as files_module
from shared.files.files import MAX_SWEPT, SWEEP_EVERY_S, Files
from shared.files.record import StoredFile, new_id
from shared.media.port import Write, unavailable
from shared.stores.memory import MemoryStore
from shared.stores.port import CommitUnknown, StoreUnavailable
from tests.support.fake_objects import FakeObjects

HOUR_S = 3_600


class Clocks:
    """The wall clock and the clock of elapsed time, both moved by the test."""

    now_s = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clocks(monkeypatch: pytest.MonkeyPatch) -> Clocks:
    made = Clocks()
    monkeypatch.setattr(files_module, "elapsed_s", made)
    return made


@pytest.fixture
def objects() -> FakeObjects:
    return FakeObjects()


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def files(store: MemoryStore, objects: FakeObjects, clocks: Clocks) -> Files:
    return Files(store, objects, now_s=clocks)  # type: ignore[arg-type]


async def put(files: Files, owner: str = "admin", purpose: str = "user_data", ttl_s: int = 30 * 86_400) -> StoredFile:
    return await files.put(owner, b"abc", filename="a.txt", purpose=purpose, mime_type="text/plain", ttl_s=ttl_s)


async def listed(files: Files, owner: str = "admin", **rest: Any) -> tuple[list[str], bool]:
    given = {"after": None, "limit": 100, "newest_first": True, "purpose": None, **rest}
    page = await files.page(owner, **given)
    return [file.id for file in page.files], page.has_more


async def test_stored_file_is_described_and_read(files: Files) -> None:
    stored = await put(files)
    assert await files.describe("admin", stored.id) == stored
    assert (await files.read(stored), await files.read(stored, (1, 2))) == (b"abc", b"b")
    assert stored[2:] == ("a.txt", "user_data", "text/plain", 3, 1_800_000_000, 1_802_592_000)


async def test_file_of_another_owner_is_unknown(files: Files) -> None:
    """The same error, after as many look-ups, as an id that was never given out."""
    stored, never = await put(files, "key:a"), new_id(1.0, "0" * 32)
    errors = []
    for call in (files.describe, files.delete):
        for file_id in (stored.id, never, "file-x", "../" + stored.id):
            with pytest.raises(NotFound) as caught:
                await call("key:b", file_id)
            errors.append(caught.value.message)
    assert len(set(errors)) == 1
    assert await listed(files, "key:b") == ([], False)
    assert await files.read(stored) == b"abc"


async def test_deleted_file_is_gone_with_its_bytes(files: Files, objects: FakeObjects) -> None:
    stored = await put(files)
    await files.delete("admin", stored.id)
    assert (objects.kept, await listed(files)) == ({}, ([], False))
    with pytest.raises(NotFound):
        await files.delete("admin", stored.id)


async def test_deletion_is_completed_where_the_bytes_are_gone(files: Files, objects: FakeObjects) -> None:
    stored = await put(files)
    objects.kept.clear()
    with pytest.raises(NotFound, match="No file has this id"):
        await files.read(stored)
    await files.delete("admin", stored.id)
    assert await listed(files) == ([], False)


async def test_pages_have_every_file_once(files: Files, clocks: Clocks) -> None:
    made = []
    for number in range(7):
        clocks.now_s += 1
        made.append((await put(files, purpose="vision" if number % 2 else "batch")).id)
    assert await listed(files) == (made[::-1], False)
    assert await listed(files, newest_first=False) == (made, False)
    assert await listed(files, limit=3) == (made[:3:-1], True)
    assert await listed(files, limit=3, after=made[4]) == (made[3:0:-1], True)
    assert await listed(files, limit=3, after=made[1]) == (made[:1], False)
    assert await listed(files, newest_first=False, limit=2, after=made[4]) == (made[5:], False)
    assert await listed(files, purpose="vision", limit=2) == ([made[5], made[3]], True)
    assert await listed(files, purpose="vision", limit=2, after=made[3]) == ([made[1]], False)


async def test_page_goes_on_after_a_deleted_file(files: Files, clocks: Clocks) -> None:
    first = await put(files)
    clocks.now_s += 1
    second = await put(files)
    await files.delete("admin", second.id)
    assert await listed(files, after=second.id) == ([first.id], False)


async def test_bytes_are_stored_before_the_entry(files: Files, objects: FakeObjects) -> None:
    objects.hold = asyncio.Event()
    task = asyncio.create_task(put(files))
    await objects.began.wait()
    assert await listed(files) == ([], False)
    objects.hold.set()
    stored = await task
    assert await listed(files) == ([stored.id], False)


async def test_caller_gone_while_storing_leaves_nothing(files: Files, objects: FakeObjects) -> None:
    objects.hold = asyncio.Event()
    task = asyncio.create_task(put(files))
    await objects.began.wait()
    task.cancel()
    objects.hold.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (objects.kept, await listed(files)) == ({}, ([], False))


async def test_commit_of_a_gone_caller_is_waited_for(
    files: Files, store: MemoryStore, objects: FakeObjects, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A store may apply a commit after its call was cancelled: the entry would be listed, without its bytes."""
    begun, applied, transact = asyncio.Event(), asyncio.Event(), store.transact
    commits: list[asyncio.Task[Any]] = []

    async def late(keys: Any, step: Any, **rest: Any) -> Any:
        await applied.wait()
        return await transact(keys, step, **rest)

    async def begin(keys: Any, step: Any, **rest: Any) -> Any:
        if commits:
            return await transact(keys, step, **rest)
        commits.append(asyncio.create_task(late(keys, step, **rest)))
        begun.set()
        return await asyncio.shield(commits[0])

    monkeypatch.setattr(store, "transact", begin)
    task = asyncio.create_task(put(files))
    await begun.wait()
    task.cancel()
    for _ in range(10):
        await asyncio.sleep(0)
    applied.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    await commits[0]
    assert (objects.kept, await listed(files)) == ({}, ([], False))


class TestReceiving:
    """A file whose bytes arrive in pieces."""

    async def test_file_is_listed_at_the_end_of_its_block(self, files: Files, objects: FakeObjects) -> None:
        async def receive(write: Write) -> None:
            for piece in (b"ab", b"c"):
                await write(piece)

        async with files.receiving(receive, HOUR_S) as file:
            assert (await file.read(), await file.read((1, 2)), await listed(files)) == (b"abc", b"b", ([], False))
            stored = await file.list_as("admin", filename="a", purpose="p", mime_type="text/plain", size_bytes=3)
        assert await files.describe("admin", stored.id) == stored
        assert (await files.read(stored), stored.expires_s) == (b"abc", stored.created_s + HOUR_S)

    @pytest.mark.parametrize("error", [BadRequest("planted"), asyncio.CancelledError()])
    async def test_failed_block_leaves_nothing(self, files: Files, objects: FakeObjects, error: BaseException) -> None:
        """While the bytes arrive, before the entry, or after it."""

        async def receive(write: Write) -> None:
            await write(b"abc")
            if point == 0:
                raise error

        for point in range(3):
            with pytest.raises(type(error)):
                async with files.receiving(receive, HOUR_S) as file:
                    if point == 2:
                        await file.list_as("admin", filename="a", purpose="p", mime_type="b", size_bytes=3)
                    raise error
            assert (objects.kept, await listed(files)) == ({}, ([], False))


async def test_failed_storage_leaves_no_entry(files: Files, objects: FakeObjects) -> None:
    objects.fails = unavailable("planted")
    with pytest.raises(StorageUnavailable):
        await put(files)
    assert (await listed(files), objects.deleted) == (([], False), [])


async def test_store_that_fails_leaves_no_bytes(
    files: Files, store: MemoryStore, objects: FakeObjects, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The entry is removed first, since it may have been written."""
    tries = []

    async def transact(keys: Any, step: Any, **rest: Any) -> Any:
        tries.append(step(dict.fromkeys(keys), 0).writes)
        if len(tries) == 1:
            raise StoreUnavailable("planted")

    monkeypatch.setattr(store, "transact", transact)
    with pytest.raises(LedgerUnavailable):
        await put(files)
    assert [list(writes.values()) == [None] for writes in tries] == [False, True]
    assert objects.kept == {}


async def test_bytes_stay_where_the_entry_may_be_written(
    files: Files, store: MemoryStore, objects: FakeObjects, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An entry without bytes would be listed and could not be read."""

    async def transact(*_: Any, **__: Any) -> Any:
        raise StoreUnavailable("planted")

    monkeypatch.setattr(store, "transact", transact)
    with pytest.raises(LedgerUnavailable):
        await put(files)
    assert len(objects.kept) == 1


async def test_commit_with_unknown_outcome_is_repeated(
    files: Files, store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    transact, unknown = store.transact, [CommitUnknown("planted")]

    async def flaky(*given: Any, **rest: Any) -> Any:
        result = await transact(*given, **rest)
        if unknown:
            raise unknown.pop()
        return result

    monkeypatch.setattr(store, "transact", flaky)
    stored = await put(files)
    assert await listed(files) == ([stored.id], False)


async def test_unreachable_store_is_an_error_of_the_ledger(files: Files, store: MemoryStore) -> None:
    stored = await put(files)
    await store.aclose()
    for call in (files.describe("admin", stored.id), listed(files)):
        with pytest.raises(LedgerUnavailable):
            await call


async def test_expired_bytes_are_deleted_by_a_later_upload(files: Files, objects: FakeObjects, clocks: Clocks) -> None:
    """Also those of an upload whose process was killed before it wrote the entry."""
    short, long = await put(files, ttl_s=HOUR_S), await put(files, ttl_s=2 * HOUR_S)
    clocks.now_s += HOUR_S - 1
    await put(files)
    assert short.object_name in objects.kept
    clocks.now_s += SWEEP_EVERY_S
    await put(files)
    assert objects.deleted == [short.object_name]
    assert long.object_name in objects.kept


async def test_sweep_is_bounded_and_goes_on(files: Files, objects: FakeObjects, clocks: Clocks) -> None:
    for _ in range(MAX_SWEPT + 1):
        await put(files, ttl_s=HOUR_S)
    clocks.now_s += SWEEP_EVERY_S + 1
    await put(files)
    assert len(objects.deleted) == MAX_SWEPT
    await put(files)
    assert len(objects.deleted) == MAX_SWEPT + 1


async def test_failed_sweep_does_not_fail_the_upload(
    files: Files, objects: FakeObjects, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    async def sweep(expired_after: str) -> bool:
        calls.append(expired_after)
        raise unavailable("planted")

    monkeypatch.setattr(objects, "sweep", sweep)
    first = await put(files)
    assert await listed(files) == ([first.id], False)
    await put(files)
    assert len(calls) == 2
