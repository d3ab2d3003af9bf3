"""WebP (RFC 9649, section 2): a RIFF container with one image, or with the frames of an animation."""

from __future__ import annotations

from shared.media.formats import UNREADABLE, Found, little

MAX_CHUNKS = 20_000
_IMAGES = {b"VP8 ", b"VP8L", b"ANMF"}


def read(data: bytes) -> Found:
    size = _size(data)
    return UNREADABLE if size is None else Found(size, _whole(data))


def _size(data: bytes) -> tuple[int, int] | None:
    """By the first chunk; the smallest lossless file has 26 bytes."""
    kind = data[12:16]
    if kind == b"VP8L" and len(data) >= 25 and data[20] == 0x2F:
        bits = little(data, 21, 4)
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if len(data) < 30:
        return None
    if kind == b"VP8 " and data[23:26] == b"\x9d\x01\x2a":
        return little(data, 26, 2) & 0x3FFF, little(data, 28, 2) & 0x3FFF
    if kind == b"VP8X":
        return little(data, 24, 3) + 1, little(data, 27, 3) + 1
    return None


def _whole(data: bytes) -> bool:
    at, end, has_image = 12, 8 + little(data, 4, 4), False
    if end > len(data):
        return False
    for _ in range(MAX_CHUNKS):
        if at + 8 > end:
            return has_image
        length = little(data, at + 4, 4)
        if at + 8 + length > end:
            return False
        has_image = has_image or (length > 0 and data[at : at + 4] in _IMAGES)
        # A chunk of an odd length is followed by one byte of padding.
        at += 8 + length + length % 2
    return False
