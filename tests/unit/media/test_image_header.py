"""What an image is, and how large it says it is, by its first bytes; and which ones may be sent to Gemini."""

from __future__ import annotations

import io
import struct
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from shared.errors import BadRequest
from shared.media.image_header import read_header
from shared.media.input_image import MAX_BYTES, checked


def written(kind: str, size: tuple[int, int] = (300, 7), **options: object) -> bytes:
    file = io.BytesIO()
    Image.effect_noise(size, 50).convert("RGB").save(file, kind, **options)
    return file.getvalue()


def box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", 8 + len(content)) + kind + content


def heif(brand: bytes, *sizes: tuple[int, int], compatible: bytes = b"mif1") -> bytes:
    """The boxes that lead to the sizes of the items, as ISO 23008-12 orders them."""
    items = b"".join(box(b"ispe", bytes(4) + struct.pack(">II", *size)) for size in sizes)
    properties = box(b"iprp", box(b"ipco", box(b"hvcC", bytes(20)) + items))
    meta = box(b"meta", bytes(4) + box(b"hdlr", bytes(24)) + properties)
    return box(b"ftyp", brand + bytes(4) + compatible) + meta + box(b"mdat", bytes(100))


FILES = {
    "image/png": written("PNG"),
    "image/jpeg": written("JPEG", progressive=True, exif=b"Exif\0\0" + bytes(5000), comment=b"\xff\xc0 in a comment"),
    "image/webp": written("WEBP", lossless=True),
    "image/gif": written("GIF"),
    "image/avif": heif(b"avif", (300, 7)),
    "image/heic": heif(b"heic", (300, 7)),
    "image/heif": heif(b"mif1", (300, 7)),
}


FORMS: list[tuple[str, dict[str, object]]] = [
    ("PNG", {}),
    ("GIF", {}),
    ("JPEG", {}),
    ("JPEG", {"progressive": True}),
    ("JPEG", {"exif": b"Exif\0\0" + bytes(5000), "comment": b"\xff\xc0 in a comment"}),
    ("WEBP", {}),
    ("WEBP", {"lossless": True}),
    ("WEBP", {"exif": b"Exif\0\0" + bytes(50)}),
]
"""Ways in which Pillow writes images."""


@pytest.mark.parametrize(("kind", "options"), FORMS, ids=lambda value: str(value)[:30])
@pytest.mark.parametrize("size", [(1, 1), (300, 7), (16, 1025)])
def test_the_size_is_read_however_a_file_is_written(
    kind: str, options: dict[str, object], size: tuple[int, int]
) -> None:
    header = read_header(written(kind, size, **options))
    assert header is not None
    assert header.size == size


@pytest.mark.parametrize(
    "data",
    [*FILES.values(), *(written(kind, **options) for kind, options in FORMS)],
    ids=[*FILES, *map(str, range(len(FORMS)))],
)
def test_of_a_file_that_is_cut_the_size_is_right_or_unknown(data: bytes) -> None:
    for length in range(min(len(data), 6000)):
        header = read_header(data[:length])
        assert header is None or header.size in (None, (300, 7))


@pytest.mark.parametrize("mime_type", FILES)
def test_type_and_size_are_read_from_the_first_bytes(mime_type: str) -> None:
    assert read_header(FILES[mime_type]) == (mime_type, (300, 7))


def test_an_avif_of_pillow_s_is_one() -> None:
    assert read_header(written("AVIF", (320, 200))) == ("image/avif", (320, 200))


def test_a_photo_of_tiles_with_a_thumbnail_has_the_size_of_the_whole() -> None:
    assert read_header(heif(b"heic", (512, 512), (4032, 3024), (240, 320))) == ("image/heic", (4032, 3024))


def test_a_heif_is_what_its_compatible_brands_say() -> None:
    assert read_header(heif(b"mif1", (5, 5), compatible=b"mif1heic")) == ("image/heic", (5, 5))


@given(
    st.binary(max_size=80), st.sampled_from([b"", *(data[:40] for data in FILES.values()), b"\xff\xd8\xff", b"<svg "])
)
def test_any_bytes_are_answered(data: bytes, begin: bytes) -> None:
    header = read_header(begin + data)
    assert header is None or header.size is None or min(header.size) >= 0


@pytest.mark.parametrize(
    "data",
    [
        b"\xff\xd8\xff" + b"\xff" * MAX_BYTES,
        b"\xff\xd8" + b"\xff\x01" * (MAX_BYTES // 2),
        box(b"ftyp", b"heic" + bytes(4)) + box(b"free", b"") * (MAX_BYTES // 8),
        box(b"ftyp", b"heic" + bytes(4))
        + box(b"meta", bytes(4) + box(b"iprp", box(b"ipco", box(b"ispe", b"") * 500_000))),
    ],
    ids=["filled", "markers", "boxes", "items"],
)
def test_a_file_of_nothing_but_headers_costs_next_to_nothing(data: bytes) -> None:
    began_s = time.process_time()
    header = read_header(data)
    assert header is not None
    assert header.size is None
    assert time.process_time() - began_s < 0.5


@pytest.mark.parametrize("mime_type", ["image/png", "image/jpeg", "image/webp", "image/heic", "image/heif"])
def test_what_gemini_takes_is_taken_by_its_content(mime_type: str) -> None:
    assert checked(FILES[mime_type], "x").mime_type == mime_type


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (FILES["image/gif"], "is a GIF, which Gemini does not take; PNG, JPEG"),
        (FILES["image/avif"], "is an AVIF"),
        (b"%PDF-1.7", "is a PDF and not an image"),
        (b"BM" + bytes(60), "is image/bmp"),
        (b"\xef\xbb\xbf  <!-- drawn --><svg>", "is an SVG"),
        (b"\x7fELF", "is not an image that is known here"),
        (FILES["image/png"][:22], "its header cannot be read"),
        (FILES["image/png"] + bytes(MAX_BYTES), "is larger than 7 MB"),
        (heif(b"heic", (20_001, 1)), "20000 to a side"),
        (heif(b"heic", (20_000, 5_001)), "at most 100 million"),
    ],
)
def test_what_it_does_not_take_is_told(data: bytes, words: str) -> None:
    with pytest.raises(BadRequest) as caught:
        checked(data, "input_images[3]")
    assert words in caught.value.message
    assert caught.value.details == {"field": "input_images[3]"}
