"""How wide and high an image is, by its first bytes. Pure."""

from __future__ import annotations

from shared.media.image_header import read_header


def image_size(data: bytes) -> tuple[int, int] | None:
    """(width, height) in pixels as stored, before any rotation; None if it cannot be read."""
    header = read_header(data)
    return None if header is None else header.size
