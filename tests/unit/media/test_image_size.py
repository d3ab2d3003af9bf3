"""The size in pixels, as Pillow writes images; and never an error, whatever the bytes are."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from shared.media.image_size import image_size

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


def written(kind: str, width: int, height: int, **options: object) -> bytes:
    file = io.BytesIO()
    Image.effect_noise((width, height), 50).convert("RGB").save(file, kind, **options)
    return file.getvalue()


@pytest.mark.parametrize(("kind", "options"), FORMS, ids=lambda value: str(value)[:30])
@pytest.mark.parametrize("size", [(1, 1), (300, 7), (16, 1025)])
def test_it_is_read_from_the_first_bytes(kind: str, options: dict[str, object], size: tuple[int, int]) -> None:
    assert image_size(written(kind, *size, **options)) == size


@pytest.mark.parametrize(("kind", "options"), FORMS, ids=lambda value: str(value)[:30])
def test_of_an_image_that_is_cut_it_is_right_or_unknown(kind: str, options: dict[str, object]) -> None:
    data = written(kind, 300, 7, **options)
    for length in range(min(len(data), 6000)):
        assert image_size(data[:length]) in (None, (300, 7))


@given(
    st.binary(max_size=60), st.sampled_from([b"", b"\xff\xd8\xff", b"RIFF0000WEBP", b"GIF89a", b"\x89PNG\r\n\x1a\n"])
)
def test_any_bytes_are_answered(data: bytes, begin: bytes) -> None:
    size = image_size(begin + data)
    assert size is None or min(size) >= 0


def test_what_is_no_image_has_no_size() -> None:
    assert image_size(b"<svg width='5' height='5'/>" + bytes(50)) is None
