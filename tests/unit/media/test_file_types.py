"""The type of a file by its bytes; the client's word only where they do not tell."""

from __future__ import annotations

import pytest

from shared.media.file_types import is_text, type_of

UNKNOWN = "application/octet-stream"
MP4 = b"\0\0\0\x18ftyp"


@pytest.mark.parametrize(
    ("start", "kind"),
    [
        (b"\x89PNG\r\n\x1a\n", "image/png"),
        (b"\xff\xd8\xff\xe0", "image/jpeg"),
        (b"%PDF-1.7", "application/pdf"),
        (b"RIFF\0\0\0\0WAVEfmt ", "audio/wav"),
        (b"RIFF\0\0\0\0AVI LIST", "video/avi"),
        (b"RIFF\0\0\0\0WEBPVP8 ", "image/webp"),
        (b"FORM\0\0\0\0AIFF", "audio/aiff"),
        (b"ID3\x04", "audio/mpeg"),
        (b"\xff\xfb\x90\x64", "audio/mpeg"),
        (b"\xff\xf3\x84\xc4", "audio/mpeg"),
        (b"\xff\xf1\x50\x80", "audio/aac"),
        (b"\xff\xf9\x50\x80", "audio/aac"),
        (b"fLaC\0\0\0\x22", "audio/flac"),
        (b"OggS\0\x02", "audio/ogg"),
        (MP4 + b"isom\0\0\2\0isomiso2avc1mp41", "video/mp4"),
        (MP4 + b"M4A \0\0\2\0isomiso2", "audio/mp4"),
        (MP4 + b"qt  \0\0\2\0qt  ", "video/quicktime"),
        (MP4 + b"3gp5\0\0\2\x003gp5isom", "video/3gpp"),
        (MP4 + b"heic\0\0\0\0mif1heic", "image/heic"),
        (b"\x1a\x45\xdf\xa3\x9fB\x86\x81\x01B\x82\x84webm", "video/webm"),
        (b"\x1a\x45\xdf\xa3\x9fB\x86\x81\x01B\x82\x88matroska", "video/x-matroska"),
        (b"FLV\x01\x05", "video/x-flv"),
        (b"\0\0\x01\xba\x44", "video/mpeg"),
        (b"\x30\x26\xb2\x75\x8e\x66\xcf\x11\xa6", "video/wmv"),
        (b"PK\x03\x04\x14", "application/zip"),
        (b"Hello", "text/plain"),
        (b'{"a": 1}', "application/json"),
        (b"<html><body>", "text/html"),
        (b"\0\1\2\3", UNKNOWN),
        (b"", UNKNOWN),
    ],
)
def test_content_tells_the_type(start: bytes, kind: str) -> None:
    assert type_of(start) == kind
    assert type_of(start, "image/png; charset=x") == kind


@pytest.mark.parametrize(
    ("start", "declared", "kind"),
    [
        (b"# Title", "text/markdown", "text/markdown"),
        (b"a,b\n1,2\n", "text/csv; charset=utf-8", "text/csv"),
        (b'{"a": 1}\n{"a": 2}\n', "application/jsonl", "application/jsonl"),
        (b"<html><body>", "text/plain", "text/html"),
        (b"PK\x03\x04", "application/vnd.oasis.opendocument.text", "application/vnd.oasis.opendocument.text"),
        (b"\x1a\x45\xdf\xa3webm", "audio/webm", "audio/webm"),
        (b"\0\1\2\3", "audio/pcm", "audio/pcm"),
        (b"\0\1\2\3", "audio/wav", UNKNOWN),
        (b"\0\1\2\3", "text/plain", UNKNOWN),
        (b"\0\1\2\3", "image/gif", UNKNOWN),
        (b"\0\1\2\3", "nonsense", UNKNOWN),
        (b"\0\1\2\3", "a/b\r\nx: y", UNKNOWN),
        (b"%PDF-1.7", "text/html", "application/pdf"),
    ],
)
def test_declared_type_counts_only_where_content_is_silent(start: bytes, declared: str, kind: str) -> None:
    assert type_of(start, declared) == kind


@pytest.mark.parametrize("start", [b"\xff\xfeH\0e\0", b"\xff\xff\xff\xff", b"\xff\xe0\0\0", b"\xff\xfb"])
def test_other_set_bits_are_no_audio(start: bytes) -> None:
    """UTF-16 begins with FF FE, which is close to a frame's eleven set bits."""
    assert type_of(start) == UNKNOWN


def test_texts() -> None:
    assert [is_text(kind) for kind in ("text/x-python", "application/json", "image/svg+xml", "text/", "image/png")] == [
        True,
        True,
        True,
        False,
        False,
    ]
