"""What an image is by its first bytes: its type, and how many pixels it says it has. Nothing is decoded. Pure.

Sources: PNG (W3C, 11.2.2), JPEG (ITU T.81, B.2.2), WebP (RFC 9649, 2.5-2.7), GIF89a (18), HEIF (ISO 23008-12, 6.5.3.1).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

_MOST_SEGMENTS = 2_000
"""Of a JPEG, and boxes of a HEIC: real ones have dozens; a file made of nothing else must not cost a second."""
_JPEG_NO_FRAME = {0xC4, 0xC8, 0xCC}
"""Markers among C0-CF that do not begin a frame: Huffman tables, reserved, arithmetic conditioning."""
_JPEG_ALONE = {0x01, *range(0xD0, 0xD9)}
_HEIC = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx"}
_AVIF = {b"avif", b"avis"}
_HEIF = {b"mif1", b"msf1", b"mif2"}
_OTHERS = (
    (b"%PDF-", "application/pdf"),
    (b"BM", "image/bmp"),
    (b"II*\0", "image/tiff"),
    (b"MM\0*", "image/tiff"),
    (b"\0\0\1\0", "image/x-icon"),
)


class ImageHeader(NamedTuple):
    mime_type: str
    size: tuple[int, int] | None
    """(width, height) in pixels as stored, before any rotation. None: the header is cut or wrong, or not of a kind
    that is read here (PNG, JPEG, WebP, GIF, HEIC, HEIF and AVIF are)."""


def read_header(data: bytes) -> ImageHeader | None:
    """None: nothing that is known here. By content alone: a name or a declared type says nothing."""
    if data[:8] == b"\x89PNG\r\n\x1a\n":
        size = (_big(data, 16, 4), _big(data, 20, 4)) if data[12:16] == b"IHDR" and len(data) >= 24 else None
        return ImageHeader("image/png", size)
    if data[:3] == b"\xff\xd8\xff":
        return ImageHeader("image/jpeg", _jpeg(data))
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return ImageHeader("image/webp", _webp(data))
    if data[:6] in (b"GIF87a", b"GIF89a"):
        return ImageHeader("image/gif", (_little(data, 6, 2), _little(data, 8, 2)) if len(data) >= 10 else None)
    if data[4:8] == b"ftyp" and (mime_type := _brand(data)) is not None:
        return ImageHeader(mime_type, _largest_item(data))
    if _is_svg(data):
        return ImageHeader("image/svg+xml", None)
    return next((ImageHeader(mime_type, None) for magic, mime_type in _OTHERS if data.startswith(magic)), None)


def _big(data: bytes, at: int, length: int) -> int:
    return int.from_bytes(data[at : at + length], "big")


def _little(data: bytes, at: int, length: int) -> int:
    return int.from_bytes(data[at : at + length], "little")


def _jpeg(data: bytes) -> tuple[int, int] | None:
    at = 2
    for _ in range(_MOST_SEGMENTS):
        if at + 9 > len(data) or data[at] != 0xFF:
            return None
        marker = data[at + 1]
        if marker == 0xFF:
            at += 1
        elif marker in _JPEG_ALONE:
            at += 2
        elif 0xC0 <= marker <= 0xCF and marker not in _JPEG_NO_FRAME:
            return _big(data, at + 7, 2), _big(data, at + 5, 2)
        else:
            at += 2 + _big(data, at + 2, 2)
    return None


def _webp(data: bytes) -> tuple[int, int] | None:
    kind = data[12:16]
    if len(data) < 30:
        return None
    if kind == b"VP8 ":
        return _little(data, 26, 2) & 0x3FFF, _little(data, 28, 2) & 0x3FFF
    if kind == b"VP8L":
        bits = _little(data, 21, 4)
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if kind == b"VP8X":
        return _little(data, 24, 3) + 1, _little(data, 27, 3) + 1
    return None


def _brand(data: bytes) -> str | None:
    """The major brand first; `mif1` is any HEIF, and its compatible brands say which."""
    end = min(_big(data, 0, 4), 256)
    brands = [data[8:12], *(data[at : at + 4] for at in range(16, end, 4))]
    for brand in brands:
        if brand in _HEIC:
            return "image/heic"
        if brand in _AVIF:
            return "image/avif"
    return "image/heif" if _HEIF & set(brands) else None


def _largest_item(data: bytes) -> tuple[int, int] | None:
    """The image is the largest item: the others are tiles of it, thumbnails and masks. Their sizes are in meta/iprp/ipco."""
    sizes = [
        (_big(data, start + 4, 4), _big(data, start + 8, 4))
        for kind, start, end in _boxes(data, 0, len(data), (b"meta", b"iprp", b"ipco"))
        if kind == b"ispe" and end - start >= 12
    ]
    return max(sizes, key=lambda size: size[0] * size[1], default=None)


def _boxes(data: bytes, at: int, end: int, path: tuple[bytes, ...]) -> Iterator[tuple[bytes, int, int]]:
    """(kind, start, end) of the content of each box in the box that `path` leads to."""
    for _ in range(_MOST_SEGMENTS):
        if at + 8 > end:
            return
        length, kind, start = _big(data, at, 4), data[at + 4 : at + 8], at + 8
        if length == 1:
            length, start = _big(data, at + 8, 8), at + 16
        stop = at + length if length else end
        if stop < start or stop > end:
            return
        if not path:
            yield kind, start, stop
        elif kind == path[0]:
            # meta alone has a version and flags before its boxes.
            yield from _boxes(data, start + (4 if kind == b"meta" else 0), stop, path[1:])
            return
        at = stop


def _is_svg(data: bytes) -> bool:
    text = data[:1024].removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    return text.startswith((b"<svg", b"<?xml", b"<!doctype svg", b"<!--")) and b"<svg" in text
