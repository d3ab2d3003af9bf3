"""Reads the images in Gemini's answers, and stores them. An image is paid for, so it is stored even if its caller leaves."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, NamedTuple

from shared.errors import GatewayError, StorageUnavailable, UpstreamFailed
from shared.media.base64_text import decode
from shared.media.image_file import ImageFile, identify
from shared.media.names import EXTENSIONS

if TYPE_CHECKING:
    from shared.media.media import MediaStore, StoredImage

_MAX_TYPE_CHARS = 40
_SHOWN_BYTES = 12
"""How much of a declared type, and of a file that is not an image, an error repeats."""


class ImageData(NamedTuple):
    """The bytes of a complete image, and its type and size."""

    data: bytes
    kind: ImageFile


def read_image(text: str, declared: str) -> ImageData:
    """The image in `text` (base64). Raises UpstreamFailed if the data is not a complete image, whatever its declared type."""
    subject = f"Gemini's answer has {declared[:_MAX_TYPE_CHARS]!r} of"
    try:
        data = decode(text)
    except ValueError as rule:
        raise UpstreamFailed(f"{subject} {len(text)} characters, which {rule}. Send the request again.") from None
    kind = identify(data)
    if kind.whole:
        return ImageData(data, kind)
    known = kind.mime_type in EXTENSIONS
    why = f"a damaged or incomplete {kind.mime_type}" if known else f"not a known image: {kind.mime_type}"
    raise UpstreamFailed(
        f"{subject} {len(data)} bytes, which is {why} (it begins with {data[:_SHOWN_BYTES].hex(' ')}). "
        "It was not stored; send the request again."
    )


async def store_image(
    store: Callable[[], MediaStore],
    image: ImageData,
    metadata: Mapping[str, str],
    public_error: Callable[[Exception], GatewayError],
) -> StoredImage | str:
    """The stored image, or the reason why it is not stored. `store` may raise StorageUnavailable; `public_error` logs an
    internal error, and returns the error for the caller."""
    try:
        return await store().put_image(image.data, image.kind.mime_type, metadata=metadata)
    except Exception as error:  # noqa: BLE001 - logged by `public_error` and returned; the image must not be lost with it
        cause = public_error(error)
        return cause.message if isinstance(cause, StorageUnavailable) else "the storage failed"
