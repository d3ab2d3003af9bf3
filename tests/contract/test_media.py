"""What the storage of images promises (shared/media), proved alike on a folder, on fake-gcs-server and on moto's S3."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import io
import os
import random
import re
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import aiohttp
import pytest
from PIL import Image

from shared.errors import NotFound, StorageUnavailable
from shared.media import obstore_calls
from shared.media.media import MediaStore, StoredImage
from shared.media.url import open_media
from tests.support.object_stores import AWS, SIGNING, ObjectStore
from tests.support.processes import ROOT

PNG = "image/png"
NOW_S = 1_800_000_000.0
DAY_S = 86_400.0
MIB = 1024 * 1024


@pytest.fixture
def media(place: ObjectStore) -> MediaStore:
    return open_media(place.url)


class Clock:
    def __init__(self) -> None:
        self.now_s = NOW_S

    def __call__(self) -> float:
        return self.now_s


def picture(width: int = 7, height: int = 5) -> bytes:
    written = io.BytesIO()
    Image.new("RGB", (width, height), "red").save(written, "PNG")
    return written.getvalue()


def noise(size_bytes: int) -> bytes:
    return random.Random(size_bytes).randbytes(size_bytes)


async def put(media: MediaStore, data: bytes = b"an image", mime_type: str = PNG, **metadata: str) -> StoredImage:
    return await media.put_image(data, mime_type, metadata=metadata)


# -- writing and reading ----------------------------------------------------------------------------------------------


async def test_what_was_stored_is_read_by_any_instance(media: MediaStore, place: ObjectStore) -> None:
    data = picture(7, 5)
    stored = await put(media, data, model="gemini-3-pro-image")
    content = await open_media(place.url).read(stored.name)
    assert content.data == data
    assert content.image == stored
    assert (stored.mime_type, stored.size_bytes, stored.left_s) == (PNG, len(data), None)
    assert stored.sha256 == hashlib.sha256(data).hexdigest()
    assert stored.metadata == {"model": "gemini-3-pro-image", "width": "7", "height": "5"}
    assert await media.describe(stored.name) == stored


async def test_the_same_bytes_are_another_image_each_time(media: MediaStore) -> None:
    first, second = await put(media), await put(media)
    assert first.name != second.name
    await media.delete(first.name)
    assert (await media.read(second.name)).data == b"an image"


async def test_overwritten_image_is_never_a_mixture(media: MediaStore) -> None:
    """As an upload is that is repeated after a lost answer: a name is given to no second image."""
    old, new = noise(2 * MIB), noise(2 * MIB + 1)[1:]
    stored = await put(media, old)
    attributes = (await media._objects.head(stored.name)).attributes
    read = [media.read(stored.name) for _ in range(20)]
    _, *seen = await asyncio.gather(media._objects.put(stored.name, new, attributes), *read)
    assert {content.data for content in seen} <= {old, new}
    assert (await media.read(stored.name)).data == new
    assert [image.name for image in (await media.recent(10)).images] == [stored.name]


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("image/jpeg", "image/jpeg"),
        ("Image/WEBP; q=1", "image/webp"),
        ("image/x-new.kind+xml", "image/x-new.kind+xml"),
        ("no type", "application/octet-stream"),
        ("image/png\r\nx: y", "application/octet-stream"),
        ("", "application/octet-stream"),
    ],
)
async def test_no_image_is_lost_for_its_type(media: MediaStore, given: str, kept: str) -> None:
    stored = await put(media, b"x", given)
    assert (await media.read(stored.name)).image.mime_type == kept


async def test_an_image_of_20_mb_comes_back_as_it_was(media: MediaStore) -> None:
    data = noise(20 * MIB)
    stored = await put(media, data)
    assert (await media.read(stored.name)).data == data


async def test_50_images_at_once_are_50_images(media: MediaStore) -> None:
    images = [noise(10_000 + index) for index in range(50)]
    stored = await asyncio.gather(*(put(media, data) for data in images))
    read = await asyncio.gather(*(media.read(image.name) for image in stored))
    assert [content.data for content in read] == images
    assert len({image.name for image in stored}) == 50


@pytest.mark.parametrize("part", [(0, 1), (2, 5), (0, 10), (9, 10), (4, 10)])
async def test_a_part_is_read_alone(media: MediaStore, part: tuple[int, int]) -> None:
    stored = await put(media, b"0123456789")
    content = await media.read(stored.name, part)
    assert content.data == b"0123456789"[slice(*part)]
    assert content.image.size_bytes == 10


async def test_an_image_without_a_byte_is_a_mistake(media: MediaStore) -> None:
    with pytest.raises(ValueError, match="at least one byte"):
        await put(media, b"")


async def test_a_bucket_itself_knows_what_to_tell_browsers(media: MediaStore, place: ObjectStore) -> None:
    if place.proxy is None:
        pytest.skip("a folder is not asked by browsers")
    stored = await put(media, picture())
    address = f"{place.proxy.url}/{place.path}/images/{stored.name}"
    if place.kind == "s3":
        address = await media.signed_url(stored.name, 60)
    async with aiohttp.ClientSession() as session, session.get(address) as answer:
        assert await answer.read() == picture()
        headers = answer.headers
    assert headers["content-type"] == PNG
    assert headers["cache-control"] == "private, max-age=31536000, immutable"
    assert headers[f"x-{'goog' if place.kind == 'gs' else 'amz'}-meta-sha256"] == stored.sha256


# -- metadata ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "prompt", ["A café, 東京 at night 🌃", 'two\nlines\r\n\t"quoted" \\ 100%', "  spaces  around  ", "x"]
)
async def test_a_prompt_is_kept_as_it_was_where_prompts_are_kept(place: ObjectStore, prompt: str) -> None:
    stored = await put(open_media(place.url, keep_prompts=True), prompt=prompt)
    assert (await open_media(place.url).describe(stored.name)).metadata["prompt"] == prompt


@pytest.mark.parametrize("letter", ["a", "é", "🌃", '"'])
async def test_of_a_long_prompt_the_beginning_is_kept(place: ObjectStore, letter: str) -> None:
    media = open_media(place.url, keep_prompts=True)
    kept = (await media.describe((await put(media, prompt=letter * 100_000)).name)).metadata["prompt"]
    assert set(kept) == {letter}
    assert 100 <= len(kept) <= 1400


async def test_a_prompt_is_not_kept_otherwise(media: MediaStore) -> None:
    stored = await put(media, prompt="A secret plan")
    assert "prompt" not in (await media.describe(stored.name)).metadata


@pytest.mark.parametrize("key", ["Model", "sha 256", "", "a_b", "é", "x" * 41])
async def test_metadata_has_names_that_every_store_takes(media: MediaStore, key: str) -> None:
    with pytest.raises(ValueError, match="metadata"):
        await media.put_image(b"x", PNG, metadata={key: "1"})


async def test_what_identifies_an_image_is_not_taken_from_metadata(media: MediaStore) -> None:
    with pytest.raises(ValueError, match="metadata"):
        await put(media, sha256="0" * 64)


# -- missing ----------------------------------------------------------------------------------------------------------

_HEX = "fe00112233445566778899aabbccddeeff00112233ab"
WRONG_NAMES = [
    f"{_HEX}.png",
    f"{_HEX}.PNG",
    f"{_HEX.upper()}.png",
    f"{_HEX}.svg",
    f"{_HEX}",
    f"{_HEX}.png.json",
    f"../about/{_HEX}.png.json",
    f"../images/{_HEX}.png",
    "../../etc/passwd",
    "/etc/passwd",
    f"{_HEX}.png/",
    f"{_HEX}.png\0",
    f"{_HEX}.png\n",
    "",
    ".",
    "x" * 5000,
]


@pytest.mark.parametrize("name", WRONG_NAMES)
async def test_a_wrong_name_is_missing_like_one_that_never_was(media: MediaStore, name: str) -> None:
    said = set()
    for use in (media.read, media.describe, media.delete):
        with pytest.raises(NotFound) as caught:
            await use(name)
        said.add(caught.value.message)
    assert said == {"No image has this name; it may have been deleted or have expired."}


async def test_what_was_deleted_is_missing(media: MediaStore) -> None:
    stored, other = await put(media), await put(media)
    await media.delete(stored.name)
    for use in (media.read, media.describe, media.delete):
        with pytest.raises(NotFound):
            await use(stored.name)
    assert [image.name for image in (await media.recent(10)).images] == [other.name]


async def test_expired_image_is_missing(place: ObjectStore) -> None:
    """Whether or not it was deleted."""
    clock = Clock()
    media = open_media(place.url, ttl_days=2, now_s=clock)
    stored = await put(media)
    assert stored.left_s == 2 * DAY_S
    clock.now_s += 2 * DAY_S - 1
    assert (await media.describe(stored.name)).left_s == 1
    clock.now_s += 1
    for use in (media.read, media.describe, media.delete):
        with pytest.raises(NotFound):
            await use(stored.name)
    assert (await media.recent(10)).images == []
    assert (await open_media(place.url, now_s=clock).read(stored.name)).data == b"an image"


# -- listing ----------------------------------------------------------------------------------------------------------


async def pages(media: MediaStore, limit: int) -> list[list[str]]:
    result: list[list[str]] = []
    cursor = None
    while len(result) < 20:
        page = await media.recent(limit, cursor)
        result.append([image.name for image in page.images])
        cursor = page.cursor
        if cursor is None:
            return result
    raise AssertionError(f"the pages do not end: {result}")


async def test_the_newest_come_first_page_by_page(place: ObjectStore) -> None:
    clock = Clock()
    media = open_media(place.url, now_s=clock)
    assert await pages(media, 3) == [[]]
    names = []
    for _ in range(7):
        clock.now_s += 0.5
        names.insert(0, (await put(media)).name)
    assert await pages(media, 3) == [names[:3], names[3:6], names[6:]]
    assert await pages(media, 7) == [names]
    assert (await media.recent(1)).images[0].created_ms == round(clock.now_s * 1000)


async def test_images_of_one_moment_are_listed_once_each(place: ObjectStore) -> None:
    media = open_media(place.url, now_s=Clock())
    names = {image.name for image in await asyncio.gather(*(put(media) for _ in range(23)))}
    listed = [name for page in await pages(media, 5) for name in page]
    assert (len(listed), set(listed)) == (23, names)


async def test_pages_continue_while_images_change(place: ObjectStore) -> None:
    clock = Clock()
    media = open_media(place.url, now_s=clock)
    names = []
    for _ in range(4):
        clock.now_s += 1
        names.insert(0, (await put(media)).name)
    first = await media.recent(2)
    clock.now_s += 1
    await put(media)
    await media.delete(names[1])
    assert [image.name for image in (await media.recent(2, first.cursor)).images] == names[2:]


@pytest.mark.parametrize("cursor", ["", "x", "../..", f"{_HEX}.exe"])
async def test_a_cursor_is_one_that_was_given(media: MediaStore, cursor: str) -> None:
    with pytest.raises(ValueError, match="cursor"):
        await media.recent(10, cursor)


# -- a store that fails -----------------------------------------------------------------------------------------------


@contextlib.contextmanager
def broken(place: ObjectStore) -> object:
    if place.proxy is not None:
        place.proxy.down = True
        yield
        place.proxy.down = False
        return
    assert place.folder is not None
    moved = place.folder.with_name("moved")
    place.folder.rename(moved)
    place.folder.write_text("not a folder")
    yield
    place.folder.unlink()
    moved.rename(place.folder)


@pytest.mark.parametrize("use", ["put", "read", "describe", "recent", "delete"])
async def test_store_outage_error_names_no_details(media: MediaStore, place: ObjectStore, use: str) -> None:
    stored = await put(media)
    uses: dict[str, Callable[[], Awaitable[object]]] = {
        "put": lambda: put(media, b"another"),
        "read": lambda: media.read(stored.name),
        "describe": lambda: media.describe(stored.name),
        "recent": lambda: media.recent(10),
        "delete": lambda: media.delete(stored.name),
    }
    with broken(place), pytest.raises(StorageUnavailable) as caught:
        await uses[use]()
    error = caught.value
    assert (error.status, error.code, error.retry_after_s) == (503, "storage_unavailable", 5)
    assert not re.search(rf"{stored.name}|127\.0\.0\.1|/|{AWS['AWS_ACCESS_KEY_ID']}", error.message)
    assert error.__cause__ is None
    assert [image.name for image in (await media.recent(10)).images] == [stored.name]


async def test_silent_store_times_out(media: MediaStore, place: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
    if place.proxy is None:
        pytest.skip("a folder has no connection")
    stored = await put(media)
    monkeypatch.setattr(obstore_calls, "OPERATION_TIMEOUT_S", 0.2)
    place.proxy.silent = True
    for use in (media.read(stored.name), put(media), media.recent(1)):
        with pytest.raises(StorageUnavailable, match=r"did not answer within 0\.2 s"):
            await use


async def test_an_upload_that_is_cut_leaves_nothing(media: MediaStore, place: ObjectStore) -> None:
    if place.proxy is None:
        pytest.skip("a folder has no connection; a full disk has a test of its own")
    before = await put(media)
    place.proxy.cut_upload_after = 300_000
    with pytest.raises(StorageUnavailable):
        await put(media, noise(MIB))
    place.proxy.cut_upload_after = None
    assert [image.name for image in (await media.recent(10)).images] == [before.name]


async def test_a_download_that_is_cut_is_never_a_shorter_image(media: MediaStore, place: ObjectStore) -> None:
    if place.proxy is None:
        pytest.skip("a folder has no connection")
    stored = await put(media, noise(MIB))
    place.proxy.cut_download_after = 1000
    with pytest.raises(StorageUnavailable):
        await media.read(stored.name)
    place.proxy.cut_download_after = None
    assert (await media.read(stored.name)).data == noise(MIB)


async def test_missing_bucket_is_a_failure(place: ObjectStore) -> None:
    """It is not reported as a missing image."""
    if place.proxy is None:
        pytest.skip("a folder that is not there is made")
    elsewhere = open_media(place.url.replace("images-of-the-tests", "no-such-bucket"))
    with pytest.raises(StorageUnavailable, match="does not exist"):
        await put(elsewhere)


# -- signed addresses -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", SIGNING, indirect=True)
async def test_a_signed_address_gives_the_image_to_anybody(media: MediaStore) -> None:
    stored = await put(media, picture())
    address = await media.signed_url(stored.name, 60)
    async with aiohttp.ClientSession() as session, session.get(address) as answer:
        assert (answer.status, await answer.read()) == (200, picture())
    async with aiohttp.ClientSession() as session, session.get(address.partition("?")[0]) as answer:
        assert answer.status == 403
    assert "X-Amz-Expires=60" in address
    assert AWS["AWS_SECRET_ACCESS_KEY"] not in address


# -- a folder alone ---------------------------------------------------------------------------------------------------

_WRITER = """
import asyncio, os, resource, sys
from shared.errors import StorageUnavailable
from shared.media.url import open_media

async def main(url, limit):
    media = open_media(url)
    if limit:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    while True:
        try:
            await media.put_image(bytes(3_000_000), "image/png", metadata={})
            print("stored", flush=True)
        except StorageUnavailable as error:
            print(error.message, file=sys.stderr, flush=True)
            # Not sys.exit: a thread of obstore's that comes back to Python while it is taken down aborts the process.
            os._exit(1)

asyncio.run(main(sys.argv[1], int(sys.argv[2])))
"""


def writer(folder: Path, limit_bytes: int = 0) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", _WRITER, f"file://{folder}", str(limit_bytes)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


async def test_full_disk_leaves_no_partial_image(tmp_path: Path) -> None:
    process = writer(tmp_path, limit_bytes=1_000_000)
    _, said = await asyncio.to_thread(process.communicate, timeout=60)
    assert said.strip() == "The storage of images and files failed: file too large. Try again later."
    assert process.returncode == 1
    assert (await open_media(f"file://{tmp_path}").recent(10)).images == []


async def test_killed_writer_leaves_only_whole_images(tmp_path: Path) -> None:
    process = writer(tmp_path)
    assert process.stdout is not None
    for _ in range(5):
        assert await asyncio.to_thread(process.stdout.readline) == "stored\n"
    process.kill()
    process.communicate()
    whole = hashlib.sha256(bytes(3_000_000)).hexdigest()
    media = open_media(f"file://{tmp_path}")
    listed = (await media.recent(100)).images
    assert len(listed) >= 5
    for image in listed:
        content = await media.read(image.name)
        assert (len(content.data), content.image.sha256) == (3_000_000, whole)


async def test_files_of_others_are_not_images(tmp_path: Path) -> None:
    media = open_media(f"file://{tmp_path}")
    stored = await put(media)
    (tmp_path / "images" / "notes.txt").write_text("x")
    (tmp_path / "images" / f"{_HEX}.png").write_bytes(b"without its attributes")
    assert [image.name for image in (await media.recent(10)).images] == [stored.name]
    with pytest.raises(NotFound):
        await media.read(f"{_HEX}.png")
