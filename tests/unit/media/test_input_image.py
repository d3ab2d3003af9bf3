"""Which images are sent to Gemini."""

from __future__ import annotations

import base64

import pytest

from shared.errors import BadRequest
from shared.media.input_image import MAX_BYTES, checked, decoded, inline_part
from tests.support.image_samples import SAMPLES, heif, written

TAKEN = {"image/png", "image/jpeg", "image/webp", "image/heic", "image/heif"}


@pytest.mark.parametrize("name", [name for name, (kind, _) in SAMPLES.items() if kind in TAKEN])
def test_whole_image_of_a_supported_type_is_taken(name: str) -> None:
    mime_type, data = SAMPLES[name]
    image = checked(data, "x")
    assert (image.mime_type, image.data) == (mime_type, data)
    assert inline_part(image) == {"inlineData": {"mimeType": mime_type, "data": base64.b64encode(data).decode()}}


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (SAMPLES["GIF"][1], "is a GIF, which Gemini does not support; send PNG, JPEG"),
        (SAMPLES["AVIF"][1], "is an AVIF"),
        (SAMPLES["BMP"][1], "is image/bmp"),
        (b"%PDF-1.7", "is a PDF and not an image"),
        (b"<html><body>Sign in</body></html>", "is an HTML page and not an image"),
        (b'{"error": 1}', "is JSON and not an image"),
        (b"<?xml version='1.0'?><Error/>", "is XML and not an image"),
        (b"Not found", "is text and not an image"),
        (b"\xef\xbb\xbf  <!-- drawn --><svg>", "is an SVG"),
        (b"\x7fELF", "is not an image of a known format"),
        (SAMPLES["PNG"][1][:22], "starts like a PNG, but its header is unreadable"),
        (SAMPLES["PNG"][1][:-1], "is a PNG that is damaged or cut off; send the whole file"),
        (SAMPLES["JPEG"][1][:-2], "is a JPEG that is damaged or cut off"),
        (SAMPLES["WebP"][1][:-2], "is a WebP that is damaged or cut off"),
        (SAMPLES["HEIC"][1][:-2], "is a HEIC that is damaged or cut off"),
        (SAMPLES["PNG"][1] + bytes(MAX_BYTES), "is larger than 7 MB"),
        (heif(b"heic", (20_001, 1)), "20000 per side"),
        (heif(b"heic", (20_000, 5_001)), "the maximum is 100 million"),
        (b"", "is not an image"),
    ],
    ids=lambda value: value[-40:] if isinstance(value, str) else "",
)
def test_anything_else_is_rejected_and_named(data: bytes, words: str) -> None:
    with pytest.raises(BadRequest) as caught:
        checked(data, "input_images[3]")
    assert words in caught.value.message
    assert caught.value.details == {"field": "input_images[3]"}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("hello!", "x must be base64: '!' is not a base64 character; or a URL."),
        (" \n", "x is empty; send an image in base64."),
        ("data:image/png;base64,", "x is empty; send an image in base64."),
        ("A" * (2 * MAX_BYTES + 1), "x is larger than 7 MB"),
    ],
    ids=lambda value: value[-40:],
)
def test_text_that_is_not_base64_is_rejected(text: str, words: str) -> None:
    with pytest.raises(BadRequest) as caught:
        decoded(text, "x", other_forms="; or a URL")
    assert words in caught.value.message
    assert caught.value.details == {"field": "x"}


def test_largest_image_is_taken_in_lines_too() -> None:
    data = written("PNG")
    data += bytes(MAX_BYTES - len(data))
    assert checked(decoded(base64.encodebytes(data).decode(), "x"), "x").data == data
