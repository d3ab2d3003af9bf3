"""Which files an upload takes, by their content. Pure."""

from __future__ import annotations

from shared.errors import PayloadTooLarge, UnsupportedMediaType
from shared.media.file_types import is_text, type_of
from shared.media.image_file import UNKNOWN

HEAD_BYTES = 4096
"""What is enough of a file to tell its type."""
TAKEN = "an image (PNG, JPEG, WebP, HEIC, HEIF), audio, video, a PDF or text in UTF-8"
MAX_IMAGE_BYTES = 20 * 1024 * 1024
_MIB = 1024 * 1024
_IMAGES = frozenset({"image/png", "image/jpeg", "image/webp", "image/heic", "image/heif"})


def upload_type(head: bytes, declared: str) -> str:
    """The type of a file that begins with `head`. The client's own counts only for what the content leaves open, as the kind of
    a text. Raises UnsupportedMediaType."""
    by_content = type_of(head)
    # An archive is opaque to `type_of`, too: it would be whatever its client says.
    found = by_content if by_content in (UNKNOWN, "application/zip") else type_of(head, declared)
    if is_text(found) or is_image(found) or found.startswith(("audio/", "video/")) or found == "application/pdf":
        return found
    what = "content of no known type" if found == UNKNOWN else f"the content of {found}"
    raise UnsupportedMediaType(f"file has {what}, whatever its name; send {TAKEN}.", details={"field": "file"})


def is_image(mime_type: str) -> bool:
    """Whether it is an image that Gemini takes."""
    return mime_type in _IMAGES


def check_size(mime_type: str, size_bytes: int) -> None:
    """Raises PayloadTooLarge for an image that is too large to be checked whole."""
    if is_image(mime_type) and size_bytes > MAX_IMAGE_BYTES:
        raise PayloadTooLarge(
            f"file is an image of more than {MAX_IMAGE_BYTES // _MIB} MB, the maximum for an image; send a smaller one.",
            details={"field": "file", "limit_bytes": MAX_IMAGE_BYTES},
        )
