"""What stored files promise (shared/files), on every store, and in every place that keeps their bytes."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import aiohttp
import pytest

from shared.errors import NotFound
from shared.files import files as files_module
from shared.files.files import Files
from shared.files.record import StoredFile
from shared.files.resumable import ResumableUploads
from shared.media.port import FILES
from shared.media.url import open_media, open_objects
from shared.stores.memory import MemoryStore
from shared.stores.port import Store
from tests.support.object_stores import ObjectStore

DAY_S = 86_400


async def put(files: Files, data: bytes = b"abc", owner: str = "anna", ttl_s: int = DAY_S) -> StoredFile:
    return await files.put(owner, data, filename="ä.txt", purpose="batch", mime_type="text/plain", ttl_s=ttl_s)


async def ids(files: Files, owner: str = "anna", limit: int = 100, after: str | None = None) -> list[str]:
    page = await files.page(owner, after=after, limit=limit, newest_first=True, purpose=None)
    return [file.id for file in page.files]


# -- on every store ----------------------------------------------------------------------------------------------------


@pytest.fixture
def on_store(store: Store, tmp_path: Path) -> Files:
    return Files(store, open_objects(f"file://{tmp_path}", FILES))


async def test_entries_are_of_one_owner_and_paged(on_store: Files) -> None:
    made = sorted([(await put(on_store)).id for _ in range(5)])
    other = await put(on_store, owner="ben")
    assert await ids(on_store) == made
    assert await ids(on_store, limit=2, after=made[2]) == made[3:]
    assert await ids(on_store, "ben") == [other.id]
    assert await on_store.describe("ben", other.id) == other
    with pytest.raises(NotFound):
        await on_store.describe("anna", other.id)
    await on_store.delete("anna", made[0])
    assert await ids(on_store) == made[1:]


async def test_many_files_are_described_in_batches(on_store: Files) -> None:
    """Unknown ids, invalid ones and other owners' are left out."""
    made = {file.id: file for file in [await put(on_store) for _ in range(3)]}
    other = await put(on_store, owner="ben")
    unknown = [f"file-{n:044x}" for n in range(150)]
    assert await on_store.describe_all("anna", [*made, other.id, *unknown, "file-x", ""]) == made
    assert await on_store.describe_all("anna", []) == {}


async def test_uploads_at_once_are_all_listed(on_store: Files) -> None:
    """Each has an entry of its own: no upload waits for another one's commit."""
    made = await asyncio.gather(*(put(on_store) for _ in range(20)))
    assert await ids(on_store) == sorted(file.id for file in made)


async def test_expired_file_is_gone(on_store: Files) -> None:
    expired = await put(on_store, ttl_s=-1)
    assert await ids(on_store) == []
    with pytest.raises(NotFound):
        await on_store.describe("anna", expired.id)


# -- in every place ----------------------------------------------------------------------------------------------------


@pytest.fixture
def in_place(place: ObjectStore) -> Files:
    return Files(MemoryStore(), open_objects(place.url, FILES))


async def test_bytes_come_back_whole_and_in_part(in_place: Files) -> None:
    data = random.Random(1).randbytes(3_000_000)
    stored = await put(in_place, data)
    assert await in_place.read(stored) == data
    assert await in_place.read(stored, (10, 20)) == data[10:20]
    source = in_place.source("anna", stored, "text/plain")
    assert (source.size_bytes, await source.read(2_999_990, 3_000_000)) == (3_000_000, data[-10:])
    await in_place.delete("anna", stored.id)
    with pytest.raises(NotFound):
        await in_place.read(stored)


async def test_files_and_images_are_apart(in_place: Files, place: ObjectStore) -> None:
    """Neither lists the other's, and the images' clean-up leaves files."""
    media = open_media(place.url, ttl_days=1)
    stored = await put(in_place)
    image = await media.put_image(b"x", "image/png", metadata={})
    assert [one.name for one in (await media.recent(10)).images] == [image.name]
    with pytest.raises(NotFound):
        await media.read(stored.object_name)
    await media._objects.sweep("0")
    assert await in_place.read(stored) == b"abc"


async def test_expired_bytes_are_swept_in_every_place(
    in_place: Files, place: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the gateway itself: a lifecycle rule knows only the age of an object."""
    monkeypatch.setattr(files_module, "SWEEP_EVERY_S", 0.0)
    expired, kept = await put(in_place, ttl_s=-1), await put(in_place)
    objects = open_objects(place.url, FILES)
    assert await objects.names(None, 10) == [kept.object_name]
    with pytest.raises(NotFound):
        await objects.head(expired.object_name)


async def test_resumable_upload_in_every_place(place: ObjectStore) -> None:
    """The bytes go to the storage, or through the server where the storage is a folder."""
    store, objects = MemoryStore(), open_objects(place.url, FILES)
    files = Files(store, objects)
    uploads = ResumableUploads(files)
    data = random.Random(2).randbytes(1_000_000)
    upload, url = await uploads.announce(
        "anna", session="s", filename="a", content_type="", size_bytes=len(data), ttl_s=DAY_S
    )
    if url is None:
        await uploads.receive(upload, lambda write: write(data))
    else:
        async with aiohttp.ClientSession(raise_for_status=True) as session, session.put(url, data=data):
            pass
    async with uploads.arrived(upload) as file:
        await uploads.completed(upload, file, "session:s", "video/mp4")
    assert await files.read(await files.describe("session:s", upload.id)) == data
    assert await objects.names(None, 10) == [upload.becomes.object_name]
