"""HEIF: HEIC and AVIF (ISO/IEC 23008-12 and 14496-12): boxes, of which `meta` lists items and where their bytes are.

The file is whole if all bytes of all items are in it. What has frames and no items (a sequence) is whole if its `moov` and
`mdat` are, as far as their lengths say: an `mdat` that lasts to the end of the file says nothing, and is not.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from shared.media.formats import Found, big

MAX_BOXES = 2_000
MAX_EXTENTS = 20_000
"""A picture of 100 million pixels has 400 tiles of 512 x 512, each an item of one extent."""
_HEIC = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx"}
_AVIF = {b"avif", b"avis"}
_HEIF = {b"mif1", b"msf1", b"mif2"}
_TOP_LEVEL = {b"ftyp", b"meta", b"mdat", b"moov", b"free", b"skip", b"uuid", b"wide", b"idat", b"moof", b"mfra"}
"""Boxes that end where they say. Anything else that does not is taken for bytes that follow the image and look like a box."""
_IN_FILE, _IN_IDAT = 0, 1


def brand(data: bytes) -> str | None:
    """The MIME type by the brands. The major one is first; `mif1` is any HEIF, and its compatible brands say which."""
    if data[4:8] != b"ftyp":
        return None
    end = min(big(data, 0, 4), 256)
    brands = [data[8:12], *(data[at : at + 4] for at in range(16, end, 4))]
    for one in brands:
        if one in _HEIC:
            return "image/heic"
        if one in _AVIF:
            return "image/avif"
    return "image/heif" if _HEIF & set(brands) else None


def read(data: bytes) -> Found:
    top = list(_boxes(data, 0, len(data)))
    size = _largest_item(data, top)
    return Found(size, _whole(data, top))


class _Box(NamedTuple):
    """`start` and `end` of its content. `end` may lie behind the file's; `open` if the box lasts to the end of the file."""

    kind: bytes
    start: int
    end: int
    open: bool = False


def _boxes(data: bytes, at: int, end: int) -> Iterator[_Box]:
    """The boxes from `at`, the last one perhaps cut."""
    for _ in range(MAX_BOXES):
        if at + 8 > end:
            return
        length, kind, start = big(data, at, 4), data[at + 4 : at + 8], at + 8
        if length == 1:
            length, start = big(data, at + 8, 8), at + 16
        stop = at + length if length else end
        if stop < start:
            return
        yield _Box(kind, start, stop, open=length == 0)
        at = stop


def _inside(data: bytes, boxes: list[_Box], *path: bytes) -> list[_Box]:
    """The boxes within the first whole box at `path`."""
    for depth, kind in enumerate(path):
        box = next((box for box in boxes if box.kind == kind and box.end <= len(data)), None)
        if box is None:
            return []
        # meta alone has a version and flags before its boxes.
        start = box.start + (4 if kind == b"meta" and depth == 0 else 0)
        boxes = list(_boxes(data, start, box.end))
    return [box for box in boxes if box.end <= len(data)]


def _largest_item(data: bytes, top: list[_Box]) -> tuple[int, int] | None:
    """The image is the largest item: the others are tiles of it, thumbnails and masks."""
    sizes = [
        (big(data, box.start + 4, 4), big(data, box.start + 8, 4))
        for box in _inside(data, top, b"meta", b"iprp", b"ipco")
        if box.kind == b"ispe" and box.end - box.start >= 12
    ]
    return max(sizes, key=lambda size: size[0] * size[1], default=None)


def _whole(data: bytes, top: list[_Box]) -> bool:
    if any(box.kind in _TOP_LEVEL and box.end > len(data) for box in top):
        return False
    boxes = _inside(data, top, b"meta")
    located = next((box for box in boxes if box.kind == b"iloc"), None)
    stored = next((box for box in boxes if box.kind == b"idat"), None)
    if located is not None and _items_are_there(data, located, stored):
        return True
    return {b"moov", b"mdat"} <= {box.kind for box in top if not box.open}


def _items_are_there(data: bytes, located: _Box, stored: _Box | None) -> bool:
    """Whether every extent of every item is in the file, or in `idat`; at least one must have bytes."""
    rooms = {_IN_FILE: len(data), _IN_IDAT: 0 if stored is None else stored.end - stored.start}
    any_bytes = False
    for room, offset, length in _extents(data, located):
        if room is None or offset + length > rooms.get(room, -1):
            return False
        any_bytes = any_bytes or length > 0
    return any_bytes


def _extents(data: bytes, box: _Box) -> Iterator[tuple[int | None, int, int]]:
    """(where it is, offset, length) of each extent in `iloc` (14496-12, 8.11.3). Where: None if the box is cut or too long."""
    at, end = box.start, box.end
    version = big(data, at, 1)
    sizes = big(data, at + 4, 2)
    offset_bytes, length_bytes, base_bytes, index_bytes = (sizes >> shift & 15 for shift in (12, 8, 4, 0))
    if version not in (1, 2):
        index_bytes = 0
    wide = 4 if version == 2 else 2
    items, at = big(data, at + 6, wide), at + 6 + wide
    left = MAX_EXTENTS
    for _ in range(min(items, MAX_EXTENTS + 1)):
        at += wide
        room = _IN_FILE
        if version in (1, 2):
            room, at = big(data, at, 2) & 15, at + 2
        outside = big(data, at, 2) != 0
        base, at = big(data, at + 2, base_bytes), at + 2 + base_bytes
        extents, at = big(data, at, 2), at + 2
        left -= extents + 1
        if left < 0 or at + extents * (index_bytes + offset_bytes + length_bytes) > end:
            yield None, 0, 0
            return
        for _ in range(extents):
            at += index_bytes
            offset, at = base + big(data, at, offset_bytes), at + offset_bytes
            length, at = big(data, at, length_bytes), at + length_bytes
            # An item in another file, or made of other items, takes no bytes here.
            if not outside and room in (_IN_FILE, _IN_IDAT):
                yield room, offset, length
