"""Resumable uploads over a store and an object store in memory: announced, sent past the gateway, completed once."""

from __future__ import annotations

import time
from typing import Any

import pytest

from shared.errors import BadRequest, LedgerUnavailable, NotFound, QueueFull, UnsupportedMediaType
from shared.files.files import Files
from shared.files.record import StoredFile
from shared.files.resumable import OPEN_S, ResumableUploads, Upload
from shared.media.port import Write
from shared.stores.memory import MemoryStore
from tests.support.fake_objects import FakeObjects

DAY_S = 86_400


@pytest.fixture
def objects() -> FakeObjects:
    return FakeObjects()


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def files(store: MemoryStore, objects: FakeObjects) -> Files:
    return Files(store, objects)  # type: ignore[arg-type]


@pytest.fixture
def uploads(files: Files) -> ResumableUploads:
    return ResumableUploads(files)


async def announced(uploads: ResumableUploads, size_bytes: int = 3) -> Upload:
    upload, _ = await uploads.announce(
        "anna", session="s", filename="a.txt", content_type="text/plain", size_bytes=size_bytes, ttl_s=30 * DAY_S
    )
    return upload


async def send(uploads: ResumableUploads, upload: Upload, data: bytes = b"abc") -> None:
    async def receive(write: Write) -> None:
        await write(data)

    await uploads.receive(upload, receive)


async def completed(uploads: ResumableUploads, upload: Upload) -> Upload:
    async with uploads.arrived(upload) as file:
        return await uploads.completed(upload, file, "session:s", "text/plain")


async def assert_gone(uploads: ResumableUploads, upload: Upload, objects: FakeObjects) -> None:
    """Neither its bytes nor its entry is left."""
    assert objects.kept == {}
    with pytest.raises(NotFound):
        await uploads.find(upload.id, "anna")


async def described(files: Files, upload: Upload) -> StoredFile:
    return await files.describe("session:s", upload.id)


async def test_upload_becomes_a_file_of_the_same_id(uploads: ResumableUploads, files: Files) -> None:
    upload = await announced(uploads)
    await send(uploads, upload)
    with pytest.raises(NotFound):
        await described(files, upload)
    done = await completed(uploads, upload)
    file = await described(files, upload)
    assert await files.read(file) == b"abc"
    assert (file.id, file.filename, file.mime_type, file.size_bytes) == (upload.id, "a.txt", "text/plain", 3)
    assert file.expires_s - file.created_s == 30 * DAY_S
    assert (await uploads.find(upload.id, "anna")) == done
    await uploads.joined(done)
    assert (await uploads.find(upload.id, "anna")).joined


async def test_upload_url_is_of_the_storage(uploads: ResumableUploads, objects: FakeObjects) -> None:
    assert (await announced(uploads)).here
    objects.url = "https://bucket.example"
    upload, url = await uploads.announce(
        "anna", session="s", filename="a", content_type="", size_bytes=7, ttl_s=DAY_S, origin="https://app.example"
    )
    assert (upload.here, url) == (False, f"https://bucket.example/{upload.arrives_as}")
    assert objects.asked_urls[-1] == (upload.arrives_as, 7, OPEN_S, "https://app.example")


async def test_foreign_and_unknown_uploads_have_one_error(uploads: ResumableUploads) -> None:
    upload = await announced(uploads)
    errors = set()
    for owner, upload_id in (("ben", upload.id), ("anna", "file-" + "0" * 44), ("anna", "file-x"), ("anna", "../x")):
        with pytest.raises(NotFound) as caught:
            await uploads.find(upload_id, owner)
        errors.add(caught.value.message)
    assert len(errors) == 1
    assert await uploads.find(upload.id, None) == upload


async def test_nothing_that_arrives_later_changes_the_file(uploads: ResumableUploads, files: Files) -> None:
    """The upload URL may still be used; it writes another object."""
    upload = await announced(uploads)
    await send(uploads, upload)
    async with uploads.arrived(upload) as file:
        await send(uploads, upload, b"xyz")
        await uploads.completed(upload, file, "session:s", "text/plain")
    assert await files.read(await described(files, upload)) == b"abc"


async def test_missing_bytes_may_still_be_sent(uploads: ResumableUploads, files: Files) -> None:
    upload = await announced(uploads)
    with pytest.raises(BadRequest, match="Nothing has arrived"):
        await completed(uploads, upload)
    await send(uploads, upload)
    await completed(uploads, upload)
    assert await files.read(await described(files, upload)) == b"abc"


@pytest.mark.parametrize("data", [b"ab", b"abcd"])
async def test_another_size_than_announced_is_refused(
    uploads: ResumableUploads, objects: FakeObjects, data: bytes
) -> None:
    upload = await announced(uploads)
    await send(uploads, upload, data)
    with pytest.raises(BadRequest, match=f"{len(data)} bytes have arrived, and size_bytes said 3"):
        await completed(uploads, upload)
    await assert_gone(uploads, upload, objects)


async def test_refused_bytes_are_deleted_with_the_upload(uploads: ResumableUploads, objects: FakeObjects) -> None:
    upload = await announced(uploads)
    await send(uploads, upload)
    with pytest.raises(UnsupportedMediaType):
        async with uploads.arrived(upload):
            raise UnsupportedMediaType("planted")
    await assert_gone(uploads, upload, objects)


async def test_failed_completion_is_repeated(uploads: ResumableUploads, files: Files) -> None:
    """The bytes are renamed by then, and stay for the next request."""
    upload = await announced(uploads)
    await send(uploads, upload)
    with pytest.raises(QueueFull):
        async with uploads.arrived(upload):
            raise QueueFull("planted")
    await completed(uploads, upload)
    assert await files.read(await described(files, upload)) == b"abc"


async def test_entry_and_note_are_one_commit(
    uploads: ResumableUploads, store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So a repeated request finds a file that is listed as completed, never one without the other."""
    upload = await announced(uploads)
    await send(uploads, upload)
    commits: list[list[str]] = []
    transact = store.transact

    async def counted(keys: Any, step: Any, **rest: Any) -> Any:
        commits.append(sorted(key.partition("/")[0] for key in keys))
        return await transact(keys, step, **rest)

    monkeypatch.setattr(store, "transact", counted)
    await completed(uploads, upload)
    assert commits == [["files", "resumable_uploads"]]


async def test_abandoned_upload_expires_within_a_day(store: MemoryStore, objects: FakeObjects, files: Files) -> None:
    """Its entry by itself, and its bytes by the sweep of a later upload."""
    yesterday = ResumableUploads(files, now_s=lambda: time.time() - OPEN_S - 60)
    upload = await announced(yesterday)
    await send(yesterday, upload)
    with pytest.raises(NotFound):
        await yesterday.find(upload.id, "anna")
    await files.put("ben", b"x", filename="b", purpose="p", mime_type="text/plain", ttl_s=DAY_S)
    assert objects.deleted == [upload.arrives_as]


async def test_unreachable_store_is_an_error_of_the_ledger(uploads: ResumableUploads, store: MemoryStore) -> None:
    upload = await announced(uploads)
    await store.aclose()
    for call in (announced(uploads), uploads.find(upload.id, "anna"), uploads.joined(upload)):
        with pytest.raises(LedgerUnavailable):
            await call
