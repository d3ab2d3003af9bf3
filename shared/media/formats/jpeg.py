"""JPEG (ITU-T T.81, annex B): segments with a length each, and scans of compressed data up to the next marker."""

from __future__ import annotations

import re

from shared.media.formats import UNREADABLE, Found, big

MAX_SEGMENTS = 4_000
"""Real files have dozens; a progressive one has two or three for each of its scans."""
_NO_FRAME = {0xC4, 0xC8, 0xCC}
"""Markers among C0-CF that do not begin a frame: Huffman tables, reserved, arithmetic conditioning."""
_ALONE = {0x01, *range(0xD0, 0xD8)}
"""Markers without a length: TEM, and restarts."""
_EOI, _SOS, _DNL = 0xD9, 0xDA, 0xDC
_NEVER = {0x00, 0xD8}
"""A stuffed FF and another beginning: not between segments."""
_AFTER_SCAN = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
"""A marker that ends compressed data: neither a stuffed FF, nor a restart, nor a byte of filling before another FF."""


def read(data: bytes) -> Found:
    """A thumbnail within a segment is skipped with it, so its end is not taken for the image's."""
    at, size, has_scan = 2, None, False
    for _ in range(MAX_SEGMENTS):
        if at + 2 > len(data) or data[at] != 0xFF:
            return Found(size, False)
        marker = data[at + 1]
        if marker == _EOI:
            return Found(size, has_scan and size is not None)
        if marker == 0xFF:
            # Any number of filling bytes may stand before a marker.
            at = _after_filling(data, at)
            continue
        if marker in _ALONE:
            at += 2
            continue
        end = at + 2 + big(data, at + 2, 2)
        if marker in _NEVER or end < at + 4 or end > len(data):
            return Found(size, False)
        if 0xC0 <= marker <= 0xCF and marker not in _NO_FRAME:
            if end < at + 9:
                return UNREADABLE
            size = big(data, at + 7, 2), big(data, at + 5, 2)
        elif marker == _DNL and size is not None:
            # The number of lines, told after the first scan.
            size = size[0], big(data, at + 4, 2)
        at = end
        if marker == _SOS:
            has_scan = size is not None
            found = _AFTER_SCAN.search(data, at)
            if found is None:
                return Found(size, False)
            at = found.start()
    return Found(size, False)


_FILLING = re.compile(rb"\xff*")


def _after_filling(data: bytes, at: int) -> int:
    """Where the last FF of the ones at `at` is: it begins the marker."""
    found = _FILLING.match(data, at)
    return found.end() - 1 if found is not None else at
