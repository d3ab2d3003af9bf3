"""What Gemini's image models take and make (ai.google.dev/gemini-api/docs/image-generation, November 2026). Pure."""

from __future__ import annotations

import math
from typing import Literal, get_args

MAX_IMAGES = 8
"""Per API request."""
MAX_INPUTS = 14
"""What the best model takes."""
MAX_TOTAL_BYTES = 20 * 1024 * 1024
"""Of all input images of a request together."""
AspectRatio = Literal[
    "1:1", "1:4", "1:8", "2:3", "3:2", "3:4", "4:1", "4:3", "4:5", "5:4", "8:1", "9:16", "16:9", "21:9"
]
ImageSize = Literal["512", "1K", "2K", "4K"]
"""The sizes of all models together. Gemini rejects a size that the requested model does not support."""
MAX_RATIO = 3
"""How many times longer than the other one a side may be, so that a ratio of every model is near it."""
_OF_SOME_MODELS = frozenset({"1:4", "4:1", "1:8", "8:1"})
_SIDES: dict[ImageSize, int] = {"512": 512, "1K": 1024, "2K": 2048, "4K": 4096}
_WITHOUT_SIZES = frozenset({"gemini-2.5-flash-image"})
_WITHOUT_512 = frozenset({"gemini-3-pro-image"})


def nearest(width: int, height: int, model: str) -> tuple[AspectRatio, ImageSize | None]:
    """The ratio and the size of `model` that are nearest to an image of so many pixels; the size is None where the model has
    only one. The sides differ by at most MAX_RATIO times."""
    ratios: list[AspectRatio] = [one for one in get_args(AspectRatio) if one not in _OF_SOME_MODELS]
    ratio = min(ratios, key=lambda one: abs(math.log(_quotient(one) * height / width)))
    if model in _WITHOUT_SIZES:
        return ratio, None
    side = math.sqrt(width * height)
    sizes: list[ImageSize] = [one for one in _SIDES if not (one == "512" and model in _WITHOUT_512)]
    return ratio, min(sizes, key=lambda one: abs(math.log(side / _SIDES[one])))


def _quotient(ratio: str) -> float:
    width, height = ratio.split(":")
    return int(width) / int(height)
