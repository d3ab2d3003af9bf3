"""Which files an upload takes: by their content, whatever their name and declared type."""

from __future__ import annotations

import pytest

from shared.errors import UnsupportedMediaType
from shared.media.image_file import UNKNOWN
from shared.sessions.upload_types import HEAD_BYTES, is_image, upload_type
from tests.support.image_samples import written

PNG = written("PNG")
ELF = b"\x7fELF\x02\x01\x01" + bytes(64)
WINDOWS = b"MZ\x90\x00\x03\x00\x00\x00" + bytes(64)
MP4 = b"\0\0\0\x20ftypisom" + bytes(64)
WEBM = b"\x1a\x45\xdf\xa3" + b"..webm" + bytes(64)


@pytest.mark.parametrize(
    ("head", "declared", "expected"),
    [
        (PNG, "text/plain", "image/png"),
        (b"\xff\xd8\xff\xe0" + bytes(40), "", "image/jpeg"),
        (b"RIFF\0\0\0\0WAVEfmt ", "", "audio/wav"),
        (b"ID3\x04" + bytes(40), "image/png", "audio/mpeg"),
        (MP4, "", "video/mp4"),
        (WEBM, "audio/webm", "audio/webm"),
        (b"%PDF-1.7\n", "", "application/pdf"),
        (b"a,b\n1,2\n", "text/csv", "text/csv"),
        (b"a,b\n1,2\n", "image/png", "text/plain"),
        ("Größe".encode() * 400, "", "text/plain"),
        (b'{"a": 1}', "", "application/json"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "image/svg+xml", "image/svg+xml"),
    ],
)
def test_type_is_the_contents(head: bytes, declared: str, expected: str) -> None:
    assert upload_type(head[:HEAD_BYTES], declared) == expected


@pytest.mark.parametrize("declared", ["image/png", "video/x-own", "audio/x-own", "text/plain", "application/pdf", ""])
@pytest.mark.parametrize("head", [ELF, WINDOWS, b"\xca\xfe\xba\xbe" + bytes(64), b"\0\1\2\3"])
def test_executable_is_refused_whatever_it_is_called(head: bytes, declared: str) -> None:
    """A type that only the client knows counts nothing here."""
    with pytest.raises(
        UnsupportedMediaType, match=r"no known type.*send an image.*, audio, video, a PDF or text"
    ) as caught:
        upload_type(head, declared)
    assert caught.value.details == {"field": "file"}


@pytest.mark.parametrize(
    ("head", "found"),
    [
        (b"PK\x03\x04" + bytes(40), "application/zip"),
        (b"GIF89a" + bytes(40), "image/gif"),
        (b"II*\0" + bytes(40), "image/tiff"),
    ],
)
@pytest.mark.parametrize("declared", ["image/png", "video/x-own", "application/x-own"])
def test_known_type_that_gemini_does_not_take_is_named(head: bytes, found: str, declared: str) -> None:
    with pytest.raises(UnsupportedMediaType, match=f"has the content of {found}"):
        upload_type(head, declared)


def test_svg_is_a_text() -> None:
    assert [is_image(one) for one in ("image/png", "image/heic", "image/svg+xml", UNKNOWN)] == [
        True,
        True,
        False,
        False,
    ]
