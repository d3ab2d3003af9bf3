"""PNG and APNG (W3C PNG, third edition, section 5): chunks with a checksum each, from IHDR to IEND."""

from __future__ import annotations

import zlib

from shared.media.formats import UNREADABLE, Found, big

SIGNATURE = b"\x89PNG\r\n\x1a\n"
MAX_CHUNKS = 50_000
"""Writers put 8 KB of pixels (libpng) or more into a chunk: this is 400 MB."""


def read(data: bytes) -> Found:
    if data[12:16] != b"IHDR" or len(data) < 24:
        return UNREADABLE
    return Found((big(data, 16, 4), big(data, 20, 4)), big(data, 8, 4) == 13 and _whole(data))


def _whole(data: bytes) -> bool:
    at, has_pixels = len(SIGNATURE), False
    view = memoryview(data)
    for _ in range(MAX_CHUNKS):
        kind, end = data[at + 4 : at + 8], at + 8 + big(data, at, 4)
        if end + 4 > len(data) or zlib.crc32(view[at + 4 : end]) != big(data, end, 4):
            return False
        has_pixels = has_pixels or kind == b"IDAT"
        if kind == b"IEND":
            return has_pixels
        at = end + 4
    return False
