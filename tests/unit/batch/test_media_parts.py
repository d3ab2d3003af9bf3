"""The media of items as native parts."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections.abc import Callable
from typing import Any

import pytest

from shared.batch.item import Item, MediaKind, Medium, Origin
from shared.batch.media_parts import MAX_FETCHED_BYTES, Content, MediaParts
from shared.bounds.byte_room import ByteRoom
from shared.errors import BadRequest
from shared.generation import FileUri, JsonObject
from shared.media.inline import INLINE_BYTES
from tests.support.image_samples import written

MB = 1024 * 1024


def medium(
    source: str | bytes, kind: MediaKind = "audio", origin: Origin = "bytes", mime_type: str = "audio/mp3"
) -> Medium:
    return Medium(kind, origin, source, mime_type, f"{kind}_{origin}")


async def no_fetch(url: str, where: str, max_bytes: int) -> bytes:
    raise AssertionError(f"fetched {url}")


def of_size(size_bytes: int) -> Callable[[Medium], Any]:
    async def open_path(medium: Medium) -> Content:
        async def read(start: int, end: int) -> bytes:
            return b"x" * (end - start)

        async def digest() -> str:
            return f"digest of {medium.source!r}"

        return Content(size_bytes, read, digest)

    return open_path


async def parts_of(media: MediaParts, *given: Medium) -> list[JsonObject]:
    async with media.loading(Item(given)) as load:
        return [await load(one) for one in given]


async def test_small_files_are_sent_inside() -> None:
    parts = await parts_of(MediaParts(no_fetch), medium(b"sound"))
    assert parts == [{"inlineData": {"mimeType": "audio/mp3", "data": base64.b64encode(b"sound").decode()}}]


async def test_an_image_is_known_by_its_content() -> None:
    parts = await parts_of(MediaParts(no_fetch), medium(written("PNG"), "image", mime_type=""))
    assert parts[0]["inlineData"]["mimeType"] == "image/png"
    with pytest.raises(BadRequest, match="image_bytes is not an image"):
        await parts_of(MediaParts(no_fetch), medium(b"\0\1\2\3", "image", mime_type=""))


async def test_a_pdf_is_checked() -> None:
    with pytest.raises(BadRequest, match="pdf_bytes is not a PDF"):
        await parts_of(MediaParts(no_fetch), medium(b"plain text", "pdf", mime_type="application/pdf"))


async def test_large_files_are_uploaded_by_the_gateway() -> None:
    """The smallest ones that fit together are sent inside."""
    sizes = {"small": 1 * MB, "large": INLINE_BYTES, "larger": INLINE_BYTES + 1}

    async def open_path(one: Medium) -> Content:
        found: Content = await of_size(sizes[str(one.source)])(one)
        return found

    given = [medium(name, origin="path") for name in sizes]
    parts = await parts_of(MediaParts(no_fetch, open_path), *given)
    assert [next(iter(part)) for part in parts] == ["inlineData", "fileData", "fileData"]
    uri = parts[1]["fileData"]["fileUri"]
    assert isinstance(uri, FileUri)
    assert (uri.source.size_bytes, uri.source.mime_type) == (INLINE_BYTES, "audio/mp3")
    assert uri.source.key == "digest of 'large' audio/mp3"
    assert await uri.source.read(3, 6) == b"xxx"


async def test_video_metadata_is_beside_the_data() -> None:
    given = Medium("video", "bytes", b"v", "video/mp4", "video_bytes", {"fps": 2})
    parts = await parts_of(MediaParts(no_fetch), given)
    assert parts[0]["videoMetadata"] == {"fps": 2} and "inlineData" in parts[0]


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        ("https://www.youtube.com/watch?v=1", "video"),
        ("https://youtu.be/1", "video"),
        ("gs://bucket/a.mp3", "audio"),
        ("https://generativelanguage.googleapis.com/v1beta/files/abc", "audio"),
    ],
)
async def test_what_gemini_reads_itself_is_not_fetched(url: str, kind: MediaKind) -> None:
    parts = await parts_of(MediaParts(no_fetch), medium(url, kind, "url", "a/b"))
    assert parts == [{"fileData": {"mimeType": "a/b", "fileUri": url}}]


@pytest.mark.parametrize(
    "url", ["https://youtube.com.evil.example/x", "https://x.example/youtu.be/1", "https://youtu.be/1"]
)
async def test_other_urls_are_fetched(url: str) -> None:
    """Also a YouTube URL of an audio: Gemini takes those as videos only."""
    fetched: list[tuple[str, str, int]] = []

    async def fetch(url: str, where: str, max_bytes: int) -> bytes:
        fetched.append((url, where, max_bytes))
        return b"sound"

    parts = await parts_of(MediaParts(fetch), medium(url, "audio", "url"))
    assert fetched == [(url, "audio_url", MAX_FETCHED_BYTES)]
    assert base64.b64decode(parts[0]["inlineData"]["data"]) == b"sound"


async def test_bytes_have_a_digest_of_their_content() -> None:
    data = b"y" * (INLINE_BYTES + 1)
    parts = await parts_of(MediaParts(no_fetch), medium(data))
    assert parts[0]["fileData"]["fileUri"].source.key == f"{hashlib.sha256(data).hexdigest()} audio/mp3"


async def test_items_wait_for_room_in_memory() -> None:
    room = ByteRoom(40 * MB)
    media = MediaParts(no_fetch, of_size(10 * MB), room)
    first, second = medium("a", origin="path"), medium("b", origin="path")
    async with media.loading(Item((first,))):
        waiting = asyncio.create_task(parts_of(media, second))
        for _ in range(5):
            await asyncio.sleep(0)
        assert not waiting.done()
    assert (await asyncio.wait_for(waiting, 30))[0]["inlineData"]


async def test_a_failed_item_leaves_its_room() -> None:
    async def fetch(url: str, where: str, max_bytes: int) -> bytes:
        raise BadRequest("It cannot be fetched.")

    room = ByteRoom(MAX_FETCHED_BYTES)
    for _ in range(3):
        with pytest.raises(BadRequest):
            await parts_of(MediaParts(fetch, room=room), medium("https://x.example/a", "audio", "url"))
    async with room.hold(MAX_FETCHED_BYTES):
        pass
