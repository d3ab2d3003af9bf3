"""Which images are taken to be sent to Gemini: by what they are and how large they say they are. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field

from shared.errors import BadRequest
from shared.media.image_header import read_header

MAX_BYTES = 7 * 1024 * 1024
"""What Google documents for an image within a request (cloud.google.com: Gemini image models, technical specifications)."""
MAX_PIXELS = 100_000_000
MAX_SIDE = 20_000
_TAKEN = {"image/png", "image/jpeg", "image/webp", "image/heic", "image/heif"}
"""ai.google.dev/gemini-api/docs/image-understanding, "Supported image formats"."""
_TAKEN_NAMES = "PNG, JPEG, WebP, HEIC and HEIF are taken"
_NAMES = {
    "image/svg+xml": "is an SVG, a drawing that is executed and not an image of pixels: render it to PNG first",
    "image/gif": f"is a GIF, which Gemini does not take; {_TAKEN_NAMES}",
    "image/avif": f"is an AVIF, which Gemini does not take; {_TAKEN_NAMES}",
    "application/pdf": f"is a PDF and not an image; {_TAKEN_NAMES}",
}


@dataclass(frozen=True, slots=True)
class InputImage:
    mime_type: str
    """As its content says."""
    data: bytes = field(repr=False)


def checked(data: bytes, where: str) -> InputImage:
    """Raises BadRequest that names the field `where`. Only the header is read: what a bomb would unpack to stays packed."""
    header = read_header(data)
    if header is None:
        raise _refuse(where, f"is not an image that is known here; {_TAKEN_NAMES}")
    kind = header.mime_type
    if kind not in _TAKEN:
        raise _refuse(where, _NAMES.get(kind, f"is {kind}, which Gemini does not take; {_TAKEN_NAMES}"))
    if len(data) > MAX_BYTES:
        raise too_large(where)
    if header.size is None or min(header.size) < 1:
        raise _refuse(where, f"begins as {kind}, but its header cannot be read: the file is damaged or cut off")
    width, height = header.size
    if max(width, height) > MAX_SIDE or width * height > MAX_PIXELS:
        raise _refuse(
            where,
            f"has {width} x {height} pixels; at most {MAX_PIXELS // 10**6} million are taken, and {MAX_SIDE} to a side",
        )
    return InputImage(kind, data)


def too_large(where: str) -> BadRequest:
    return _refuse(where, f"is larger than {MAX_BYTES // 2**20} MB, the most that an input image may have")


def _refuse(where: str, why: str) -> BadRequest:
    return BadRequest(f"{where} {why}.", field=where)
