"""Objects that are written in pieces, renamed, or uploaded at the store itself: the same promises in every place."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
from pathlib import Path

import aiohttp
import pytest

from shared.errors import NotFound, StorageUnavailable
from shared.media.names import new_name
from shared.media.port import FILES, PART_BYTES, Objects
from shared.media.url import open_objects
from tests.support.object_stores import ObjectStore

ATTRIBUTES = {"Content-Type": "application/octet-stream"}
LATE_MS = 4_000_000_000_000
NAME, OTHER = new_name(LATE_MS, "a" * 32, ""), new_name(LATE_MS, "b" * 32, "")


@pytest.fixture
def objects(place: ObjectStore) -> Objects:
    return open_objects(place.url, FILES)


def pieces_of(data: bytes) -> list[bytes]:
    return [data[at : at + 65_536] for at in range(0, len(data), 65_536)]


@pytest.mark.parametrize("size_bytes", [1, 65_537, PART_BYTES, 2 * PART_BYTES + 1])
async def test_pieces_become_one_object(objects: Objects, size_bytes: int) -> None:
    data = random.Random(size_bytes).randbytes(size_bytes)
    async with objects.writing(NAME, ATTRIBUTES) as write:
        for piece in pieces_of(data):
            await write(piece)
            assert await objects.names(None, 10) == []
    found = await objects.get(NAME)
    assert (found.data == data, found.size_bytes) == (True, size_bytes)
    assert found.attributes["Content-Type"] == ATTRIBUTES["Content-Type"]
    assert await objects.names(None, 10) == [NAME]


@pytest.mark.parametrize("size_bytes", [1000, 2 * PART_BYTES + 1])
async def test_failed_writing_leaves_no_object(objects: Objects, place: ObjectStore, size_bytes: int) -> None:
    """A caller that leaves cancels its request in the middle of the block."""
    for error in (ValueError(), asyncio.CancelledError()):
        with contextlib.suppress(ValueError, asyncio.CancelledError):
            async with objects.writing(NAME, ATTRIBUTES) as write:
                for piece in pieces_of(bytes(size_bytes)):
                    await write(piece)
                raise error
    assert await objects.names(None, 10) == []
    with pytest.raises(NotFound):
        await objects.head(NAME)
    if place.folder is not None:
        await nothing_in(place.folder / FILES)


async def nothing_in(folder: Path) -> None:
    """A thread of obstore's removes what is left."""
    async with asyncio.timeout(60):
        while os.listdir(folder):  # noqa: ASYNC110, PTH208 - nothing tells when the thread has ended
            await asyncio.sleep(0.01)


async def test_storage_that_fails_within_an_object_is_an_error(objects: Objects, place: ObjectStore) -> None:
    if place.proxy is None:
        pytest.skip("a folder has no connection")
    with pytest.raises(StorageUnavailable):
        async with objects.writing(NAME, ATTRIBUTES) as write:
            await write(b"x" * 1000)
            place.proxy.down = True
    place.proxy.down = False
    assert await objects.names(None, 10) == []


async def test_renamed_object_has_one_name(objects: Objects) -> None:
    await objects.put(NAME, b"abc", ATTRIBUTES)
    await objects.put(OTHER, b"overwritten", ATTRIBUTES)
    await objects.rename(NAME, OTHER)
    found = await objects.get(OTHER)
    assert (found.data, found.attributes["Content-Type"]) == (b"abc", ATTRIBUTES["Content-Type"])
    assert await objects.names(None, 10) == [OTHER]
    with pytest.raises(NotFound):
        await objects.rename(NAME, OTHER)
    assert (await objects.get(OTHER)).data == b"abc"


async def test_object_is_uploaded_at_the_store_itself(objects: Objects, place: ObjectStore) -> None:
    """With a URL that needs no credential; a folder has none."""
    url = await objects.upload_url(NAME, 3, 600, "https://app.example")
    if place.kind == "file":
        assert url is None
        return
    assert url is not None
    async with aiohttp.ClientSession() as session, session.put(url, data=b"abc") as answer:
        assert answer.status == 200, await answer.text()
    assert (await objects.get(NAME)).data == b"abc"


async def test_session_takes_an_object_in_parts(objects: Objects, place: ObjectStore) -> None:
    """As clients resume an upload: Content-Range of Google's resumable uploads."""
    if place.kind != "gs":
        pytest.skip("a session of Google's")
    url = await objects.upload_url(NAME, 262_144 + 3, 600, "")
    assert url is not None
    async with aiohttp.ClientSession() as session:
        first = {"Content-Range": "bytes 0-262143/262147"}
        async with session.put(url, data=bytes(262_144), headers=first, allow_redirects=False) as answer:
            assert answer.status == 308, await answer.text()
        assert await objects.names(None, 10) == []
        last = {"Content-Range": "bytes 262144-262146/262147"}
        async with session.put(url, data=b"abc", headers=last) as answer:
            assert answer.status == 200, await answer.text()
    assert (await objects.get(NAME, (262_143, 262_147))).data == b"\0abc"


async def test_upload_url_of_a_storage_that_fails(objects: Objects, place: ObjectStore) -> None:
    if place.kind != "gs":
        pytest.skip("a session is opened at Google's; a signed URL is made here")
    assert place.proxy is not None
    place.proxy.down = True
    with pytest.raises(StorageUnavailable, match="cannot be reached"):
        await objects.upload_url(NAME, 3, 600, "")
    place.proxy.down = False
    elsewhere = open_objects(place.url.replace("images-of-the-tests", "no-such-bucket"), FILES)
    with pytest.raises(StorageUnavailable, match=r"status 404|does not exist"):
        await elsewhere.upload_url(NAME, 3, 600, "")
