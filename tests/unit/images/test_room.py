"""Which images' bytes a response has."""

from __future__ import annotations

from shared.images.generation import GeneratedImage
from shared.images.room import room


def image(number: int, size_bytes: int, *, stored: bool = True) -> GeneratedImage:
    name = f"{number}.png" if stored else None
    return GeneratedImage(number, "image/png", 1, 1, size_bytes, "", name, b"x" * size_bytes)


def test_images_are_shown_while_they_fit() -> None:
    """300 bytes are 400 characters of base64."""
    found = room([image(0, 300), image(1, 600), image(2, 300)], 900)
    assert found.shown == [True, False, True]
    assert [error["index"] for error in found.errors] == [1]


def test_unstored_images_have_the_first_claim() -> None:
    found = room([image(0, 300), image(1, 300, stored=False)], 400)
    assert (found.shown, found.fits) == ([False, True], True)


def test_unstored_images_are_shown_even_if_they_do_not_fit() -> None:
    found = room([image(0, 300, stored=False), image(1, 300, stored=False)], 700)
    assert (found.shown, found.errors, found.fits) == ([True, True], [], False)
