"""Which generated images' bytes fit into one response. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from shared.generation import JsonObject
    from shared.images.generation import GeneratedImage


class Room(NamedTuple):
    """`shown`: for each image, whether the response has its bytes. `errors`: an entry for each image that was left out."""

    shown: list[bool]
    errors: list[JsonObject]
    fits: bool
    """False if the images that could not be stored are too large together. Their bytes are in the response nevertheless."""


def room(images: Sequence[GeneratedImage], max_bytes: int) -> Room:
    """The bytes of images that could not be stored are always included. Those of a stored image are included while they fit
    into `max_bytes` of base64; otherwise its URL remains."""
    unstored = sum(encoded_bytes(image) for image in images if image.name is None)
    left_bytes = max_bytes - unstored
    shown, errors = [], []
    for image in images:
        fits = image.data is not None and (image.name is None or encoded_bytes(image) <= left_bytes)
        shown.append(fits)
        if fits and image.name is not None:
            left_bytes -= encoded_bytes(image)
        elif image.data is not None and not fits:
            errors.append(_no_room(image, max_bytes))
    return Room(shown, errors, unstored <= max_bytes)


def encoded_bytes(image: GeneratedImage) -> int:
    return (image.size_bytes + 2) // 3 * 4


def _no_room(image: GeneratedImage, max_bytes: int) -> JsonObject:
    return {
        "index": image.number,
        "code": "answer_too_large",
        "message": f"In base64 this image exceeds the response limit of {max_bytes // 2**20} MB; download it from its url.",
    }
