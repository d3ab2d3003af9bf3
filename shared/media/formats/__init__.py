"""One reader for each image format: its size in pixels, and whether the file is whole. Nothing is decompressed. Pure.

Each reader takes any bytes, raises nothing, and does a bounded amount of work: it gives up on a file that has more parts
than real ones do. What it cannot prove to be whole is not whole.
"""

from __future__ import annotations

from typing import NamedTuple


class Found(NamedTuple):
    """`size`: (width, height) in pixels as stored, before any rotation; None where the header is cut or wrong. `whole`:
    every part that the format requires is there, up to the end of the image; bytes that follow it do not matter."""

    size: tuple[int, int] | None
    whole: bool


UNREADABLE = Found(None, False)


def big(data: bytes, at: int, length: int) -> int:
    """The big-endian integer at `at`; bytes behind the end of the file are missing digits, never an error."""
    return int.from_bytes(data[at : at + length], "big")


def little(data: bytes, at: int, length: int) -> int:
    return int.from_bytes(data[at : at + length], "little")
