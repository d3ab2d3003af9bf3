"""Reads type, size in pixels and completeness of an image from its bytes. Nothing is decompressed. Pure.

File names and declared types are ignored. The modules of the formats name their sources.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from shared.media.formats import UNREADABLE, Found, gif, heif, jpeg, little, png, webp

UNKNOWN = "application/octet-stream"
_OTHERS = (
    (b"%PDF-", "application/pdf"),
    (b"II*\0", "image/tiff"),
    (b"MM\0*", "image/tiff"),
    (b"\0\0\1\0", "image/x-icon"),
    (b"\xff\x0a", "image/jxl"),
    (b"\0\0\0\x0cJXL \r\n\x87\n", "image/jxl"),
)
_HTML = re.compile(rb"<(!doctype html|html|head|body|title|meta|script|h1|p|div|center)[\s>]")
_HEAD_BYTES = 1_024
_BINARY = re.compile(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f\x7f]")


class ImageFile(NamedTuple):
    """`width` and `height`: pixels as stored, before any rotation; None if they cannot be read. `whole` is False for every
    file that is not an image of a known format."""

    mime_type: str
    width: int | None
    height: int | None
    whole: bool


def identify(data: bytes) -> ImageFile:
    """Accepts any bytes; the type of an unknown format is `application/octet-stream`."""
    mime_type, found = _found(data)
    width, height = found.size or (None, None)
    return ImageFile(mime_type, width, height, found.whole)


def _found(data: bytes) -> tuple[str, Found]:
    if data.startswith(png.SIGNATURE):
        return "image/png", png.read(data)
    if data.startswith(b"\xff\xd8\xff"):
        return "image/jpeg", jpeg.read(data)
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return "image/webp", webp.read(data)
    if data.startswith((b"GIF87a", b"GIF89a")):
        return "image/gif", gif.read(data)
    if (mime_type := heif.brand(data)) is not None:
        return mime_type, heif.read(data)
    if data.startswith(b"BM") and len(data) >= 26:
        return "image/bmp", _bmp(data)
    mime_type = next((kind for magic, kind in _OTHERS if data.startswith(magic)), None)
    return mime_type or _text_type(data) or UNKNOWN, UNREADABLE


def _bmp(data: bytes) -> Found:
    """The header has the length of the file, which some programs leave at 0."""
    stated_bytes, header_bytes = little(data, 2, 4), little(data, 14, 4)
    if header_bytes < 40:
        return UNREADABLE
    height = int.from_bytes(data[22:26], "little", signed=True)
    return Found((little(data, 18, 4), abs(height)), 0 < stated_bytes <= len(data))


def _text_type(data: bytes) -> str | None:
    """The type of a text by its first bytes; None if it is not a text."""
    head = data[:_HEAD_BYTES].removeprefix(b"\xef\xbb\xbf")
    text = head.lstrip().lower()
    if text.startswith((b"<svg", b"<?xml", b"<!doctype svg", b"<!--")) and b"<svg" in text:
        return "image/svg+xml"
    if text.startswith(b"<?xml"):
        return "application/xml"
    if text.startswith(b"<") and _HTML.search(text):
        return "text/html"
    if not text or _BINARY.search(head):
        return None
    try:
        head.decode("utf-8")
    except UnicodeDecodeError as wrong:
        # The last character may be cut.
        if len(data) <= _HEAD_BYTES or wrong.start < len(head) - 3:
            return None
    return "application/json" if text.startswith((b"{", b"[")) else "text/plain"
