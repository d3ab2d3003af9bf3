"""GIF (GIF89a, sections 18-27): blocks up to the trailer."""

from __future__ import annotations

from shared.media.formats import UNREADABLE, Found, little

MAX_BLOCKS = 500_000
"""A block of data has at most 255 bytes: this is 120 MB."""
_EXTENSION, _IMAGE, _TRAILER = 0x21, 0x2C, 0x3B


def read(data: bytes) -> Found:
    if len(data) < 13:
        return UNREADABLE
    return Found((little(data, 6, 2), little(data, 8, 2)), _whole(data))


def _whole(data: bytes) -> bool:
    at, has_image = 13 + _table_bytes(data[10]), False
    in_data = False
    for _ in range(MAX_BLOCKS):
        if at >= len(data):
            return False
        kind = data[at]
        if in_data:
            in_data = kind > 0
            at += 1 + kind
        elif kind == _TRAILER:
            return has_image
        elif kind == _EXTENSION:
            at, in_data = at + 2, True
        elif kind == _IMAGE and at + 10 < len(data):
            # The descriptor, a table of colours, and the size of the first code.
            at, in_data, has_image = at + 10 + _table_bytes(data[at + 9]) + 1, True, True
        else:
            return False
    return False


def _table_bytes(flags: int) -> int:
    """The length of the table of colours that these flags announce."""
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0
