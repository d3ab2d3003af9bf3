"""Checks the images that are sent to Gemini: complete files of a type that it supports, by their bytes. Pure."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field

from shared.errors import BadRequest
from shared.generation import JsonObject
from shared.media.base64_text import decode
from shared.media.image_file import ImageFile, identify

MAX_BYTES = 7 * 1024 * 1024
"""Google's documented limit for an image in a request (cloud.google.com: Gemini image models, technical specifications)."""
MAX_PIXELS = 100_000_000
MAX_SIDE = 20_000
_TAKEN = {"image/png": "PNG", "image/jpeg": "JPEG", "image/webp": "WebP", "image/heic": "HEIC", "image/heif": "HEIF"}
"""ai.google.dev/gemini-api/docs/image-understanding, "Supported image formats"."""
_WHAT_TO_SEND = "send PNG, JPEG, WebP, HEIC or HEIF"
_NAMES = {
    "image/svg+xml": "is an SVG, which is not supported; convert it to PNG",
    "image/gif": f"is a GIF, which Gemini does not support; {_WHAT_TO_SEND}",
    "image/avif": f"is an AVIF, which Gemini does not support; {_WHAT_TO_SEND}",
    "application/pdf": f"is a PDF and not an image; {_WHAT_TO_SEND}",
    "text/html": f"is an HTML page and not an image; {_WHAT_TO_SEND}",
    "application/json": f"is JSON and not an image; {_WHAT_TO_SEND}",
    "application/xml": f"is XML and not an image; {_WHAT_TO_SEND}",
    "text/plain": f"is text and not an image; {_WHAT_TO_SEND}",
}


@dataclass(frozen=True, slots=True)
class InputImage:
    mime_type: str
    """The type by its content."""
    data: bytes = field(repr=False)


def checked(data: bytes, where: str, max_bytes: int = MAX_BYTES) -> InputImage:
    """Raises BadRequest that names the field `where`. Nothing is decompressed, so a decompression bomb does no harm."""
    if len(data) > max_bytes:
        raise too_large(where, max_bytes)
    found = identify(data)
    kind = found.mime_type
    if kind not in _TAKEN:
        if not kind.startswith("image/") and kind not in _NAMES:
            raise _refuse(where, f"is not an image of a known format; {_WHAT_TO_SEND}")
        raise _refuse(where, _NAMES.get(kind, f"is {kind}, which Gemini does not support; {_WHAT_TO_SEND}"))
    _check_size(found, where)
    if not found.whole:
        raise _refuse(where, f"is a {_TAKEN[kind]} that is damaged or cut off; send the whole file")
    return InputImage(kind, data)


def decoded(text: str, where: str, max_bytes: int = MAX_BYTES, *, other_forms: str = "") -> bytes:
    """Decodes base64 or a data URL. Raises BadRequest that names the field `where`; `other_forms` ends its sentence."""
    # Base64 has 4/3 of the bytes; line breaks and percent-encoding in a data URL need less than the rest.
    if len(text) > 2 * max_bytes:
        raise too_large(where, max_bytes)
    try:
        data = decode(text)
    except ValueError as rule:
        raise _refuse(where, f"{rule}{other_forms}") from None
    if not data:
        raise _refuse(where, "is empty; send an image in base64")
    return data


def inline_part(image: InputImage) -> JsonObject:
    """The image as a part of a native request."""
    return {"inlineData": {"mimeType": image.mime_type, "data": base64.b64encode(image.data).decode()}}


def too_large(where: str, max_bytes: int = MAX_BYTES) -> BadRequest:
    return _refuse(where, f"is larger than {max_bytes // 2**20} MB, the maximum for an input image")


def _check_size(found: ImageFile, where: str) -> None:
    width, height = found.width or 0, found.height or 0
    if min(width, height) < 1:
        kind = _TAKEN[found.mime_type]
        raise _refuse(
            where,
            f"starts like a {kind}, but its header is unreadable: the file is damaged or incomplete; send the whole file",
        )
    if max(width, height) > MAX_SIDE or width * height > MAX_PIXELS:
        raise _refuse(
            where,
            f"has {width} x {height} pixels; the maximum is {MAX_PIXELS // 10**6} million, and {MAX_SIDE} per side; shrink it",
        )


def _refuse(where: str, why: str) -> BadRequest:
    return BadRequest(f"{where} {why}.", field=where)
