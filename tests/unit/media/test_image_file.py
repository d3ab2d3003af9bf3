"""What a file is by its bytes: type and size, whole or cut; whatever the bytes are, and at a bounded cost."""

from __future__ import annotations

import time
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.media.formats.heif import MAX_EXTENTS
from shared.media.image_file import UNKNOWN, ImageFile, identify
from tests.support.image_samples import SAMPLES, SIZE, box, heif, item_locations, png_chunk, sequence, written

MAX_BYTES = 7 * 2**20
CUTS = 200
TRAILERS = {
    "zeros": bytes(1_000),
    "text": b"and some more text that somebody appended",
    "noise": Random(1).randbytes(5_000),
    "another image": written("JPEG"),
    "a box that is cut": b"\0\1\0\0sefd" + bytes(10),
    "one byte": b"\0",
}


@pytest.mark.parametrize("name", SAMPLES)
def test_whole_file_has_its_type_and_size(name: str) -> None:
    mime_type, data = SAMPLES[name]
    size = (640, 480) if name in ("PNG, large", "JPEG, progressive") else SIZE
    assert identify(data) == ImageFile(mime_type, *size, whole=True)


@pytest.mark.parametrize("name", SAMPLES)
def test_cut_file_is_never_whole(name: str) -> None:
    """At 200 random places, and at each of the last 40, its type stays and its size is right or unknown."""
    mime_type, data = SAMPLES[name]
    chance = Random(name)
    places = {chance.randrange(1, len(data)) for _ in range(CUTS)} | {len(data) - back for back in range(1, 41)}
    whole = identify(data)
    for place in places:
        found = identify(data[:place])
        assert not found.whole, f"cut at {place} of {len(data)}"
        assert found.width in (None, whole.width)
        # Where a JPEG tells its number of lines after the scan, the frame has 0.
        assert found.height in (None, 0, whole.height)
        assert place < 40 or found.mime_type == mime_type


@pytest.mark.parametrize("trailer", TRAILERS)
@pytest.mark.parametrize("name", SAMPLES)
def test_bytes_after_a_whole_file_do_not_matter(name: str, trailer: str) -> None:
    _, data = SAMPLES[name]
    assert identify(data + TRAILERS[trailer]) == identify(data)


@pytest.mark.parametrize("name", ["PNG", "PNG, large", "APNG"])
def test_damaged_png_is_not_whole(name: str) -> None:
    """Every byte of a PNG is under a checksum, or is the checksum, a length or the signature."""
    _, data = SAMPLES[name]
    chance = Random(name)
    for _ in range(CUTS):
        at = chance.randrange(len(data))
        changed = bytearray(data)
        changed[at] ^= 1 << chance.randrange(8)
        assert not identify(bytes(changed)).whole, at


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "AVIF"])
@pytest.mark.parametrize("size", [(1, 1), (16, 1025)])
def test_small_and_narrow_images_are_whole(kind: str, size: tuple[int, int]) -> None:
    found = identify(written(kind, size, lossless=True))
    assert (found.width, found.height, found.whole) == (*size, True)


@pytest.mark.parametrize(
    ("data", "mime_type"),
    [
        (b"<!DOCTYPE html><html><body>502 Bad Gateway</body></html>", "text/html"),
        (b"\xef\xbb\xbf\n <html lang=en>", "text/html"),
        (b'{"error": {"code": 403}}', "application/json"),
        (b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", "application/xml"),
        (b"<?xml version='1.0'?><svg/>", "image/svg+xml"),
        (b"\xef\xbb\xbf  <!-- drawn --><svg>", "image/svg+xml"),
        (b"Not found", "text/plain"),
        ("é".encode() * 600, "text/plain"),
        (b"%PDF-1.7", "application/pdf"),
        (b"II*\0" + bytes(50), "image/tiff"),
        (b"\x7fELF", UNKNOWN),
        (b"\xff\xfe\xfd", UNKNOWN),
        (b"", UNKNOWN),
        (box(b"ftyp", b"isom" + bytes(4)) + box(b"mdat", bytes(50)), UNKNOWN),
    ],
)
def test_what_is_not_an_image_is_named_and_not_whole(data: bytes, mime_type: str) -> None:
    assert identify(data) == ImageFile(mime_type, None, None, whole=False)


class TestPng:
    HEAD = b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", bytes.fromhex("0000000100000001 0802000000"))

    def test_without_pixels_is_not_whole(self) -> None:
        assert not identify(self.HEAD + png_chunk(b"IEND", b"")).whole
        assert identify(self.HEAD + png_chunk(b"IDAT", b"x") + png_chunk(b"IEND", b"")).whole

    def test_length_behind_the_end_of_the_file_is_not_whole(self) -> None:
        assert not identify(self.HEAD + b"\xff\xff\xff\xffIDAT" + bytes(100)).whole


class TestJpeg:
    def test_without_a_scan_is_not_whole(self) -> None:
        data = written("JPEG")
        assert not identify(data[: data.index(b"\xff\xda")] + b"\xff\xd9").whole

    def test_end_within_a_thumbnail_is_not_the_end(self) -> None:
        _, data = SAMPLES["JPEG, thumbnail"]
        first_end = data.index(b"\xff\xd9") + 2
        assert first_end < len(data) - 100
        assert not identify(data[:first_end]).whole


class TestHeif:
    def test_size_is_that_of_the_largest_item(self) -> None:
        found = identify(heif(b"heic", (512, 512), (4032, 3024), (240, 320)))
        assert (found.width, found.height) == (4032, 3024)

    def test_type_is_what_the_compatible_brands_say(self) -> None:
        assert identify(heif(b"mif1", (5, 5), compatible=b"mif1heic")).mime_type == "image/heic"

    def test_sequence_is_whole_with_its_frames(self) -> None:
        data = sequence()
        assert identify(data).whole
        assert not any(identify(data[:place]).whole for place in range(len(data)))

    def test_without_locations_is_not_whole(self) -> None:
        data = heif(b"heic", SIZE)
        assert not identify(data.replace(b"iloc", b"free")).whole

    @pytest.mark.parametrize(
        "extents",
        [[], [(0, 0, 0)], [(1, 0, 1)], [(0, 2**31, 1)], [(0, 0, 10)] * (MAX_EXTENTS + 1)],
        ids=["no items", "no bytes", "no idat", "behind the end", "too many"],
    )
    def test_items_that_are_not_there_are_not_whole(self, extents: list[tuple[int, int, int]]) -> None:
        meta = box(b"meta", bytes(4) + item_locations(1, extents))
        assert not identify(box(b"ftyp", b"heic" + bytes(4)) + meta + box(b"mdat", bytes(50))).whole


BEGINNINGS = [data[:length] for _, data in SAMPLES.values() for length in (12, 40, 200)]


@given(st.sampled_from([b"", b"\xff\xd8\xff", b"<svg ", *BEGINNINGS]), st.binary(max_size=120))
def test_any_bytes_have_an_answer(begin: bytes, data: bytes) -> None:
    found = identify(begin + data)
    assert found.mime_type
    assert (found.width is None) == (found.height is None)


@given(st.sampled_from(sorted(SAMPLES)), st.randoms(use_true_random=False))
def test_any_damaged_file_has_an_answer(name: str, chance: Random) -> None:
    data = bytearray(SAMPLES[name][1])
    for _ in range(chance.randint(1, 20)):
        data[chance.randrange(len(data))] = chance.choice([0, 1, 0x7F, 0xFF, chance.randrange(256)])
    assert identify(bytes(data)).mime_type


@pytest.mark.parametrize(
    "data",
    [
        b"\xff\xd8\xff" + b"\xff" * MAX_BYTES,
        b"\xff\xd8\xff\x01" + b"\xff\x01" * (MAX_BYTES // 2),
        written("JPEG")[:-2] + b"\xff\x00" * (MAX_BYTES // 2),
        written("JPEG")[:-2] + b"\xff\xff" * (MAX_BYTES // 2),
        b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", bytes(13)) + png_chunk(b"tEXt", b"") * (MAX_BYTES // 12),
        b"GIF89a" + bytes(7) + b"\x21\xfe" + b"\1\1" * (MAX_BYTES // 2),
        b"RIFF\0\0\x6f\0WEBPVP8X\x0a\0\0\0" + bytes(10) + b"ICCP\0\0\0\0" * (MAX_BYTES // 8),
        box(b"ftyp", b"heic" + bytes(4)) + box(b"free", b"") * (MAX_BYTES // 8),
        box(b"ftyp", b"heic" + bytes(4))
        + box(b"meta", bytes(4) + box(b"iprp", box(b"ipco", box(b"ispe", b"") * 500_000))),
        box(b"ftyp", b"heic" + bytes(4)) + box(b"meta", bytes(4) + item_locations(2, [(0, 0, 1)] * 400_000)),
        b"<" * MAX_BYTES,
        b"BM" + b"\1" * MAX_BYTES,
    ],
    ids=[
        "filled",
        "markers",
        "stuffed",
        "fill",
        "chunks",
        "blocks",
        "riff",
        "boxes",
        "items",
        "extents",
        "text",
        "bmp",
    ],
)
def test_file_made_to_cost_time_costs_little(data: bytes) -> None:
    began_s = time.process_time()
    identify(data)
    assert time.process_time() - began_s < 2.0
