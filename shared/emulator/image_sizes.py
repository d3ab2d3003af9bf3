"""The size of an image in pixels, by a model and its imageConfig; an unsupported imageConfig is rejected. Pure.

Source: the tables "Aspect ratios and image size" of Google's page on image generation, November 2026.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .errors import GoogleError, invalid

_PIXELS_1K = {
    "1:1": (1024, 1024),
    "2:3": (848, 1264),
    "3:2": (1264, 848),
    "3:4": (896, 1200),
    "4:3": (1200, 896),
    "4:5": (928, 1152),
    "5:4": (1152, 928),
    "9:16": (768, 1376),
    "16:9": (1376, 768),
    "21:9": (1584, 672),
}
_LONG_1K = {"1:4": (512, 2048), "4:1": (2048, 512), "1:8": (384, 3072), "8:1": (3072, 384)}
_PIXELS_OF_2_5 = {
    "1:1": (1024, 1024),
    "2:3": (832, 1248),
    "3:2": (1248, 832),
    "3:4": (864, 1184),
    "4:3": (1184, 864),
    "4:5": (896, 1152),
    "5:4": (1152, 896),
    "9:16": (768, 1344),
    "16:9": (1344, 768),
    "21:9": (1536, 672),
}
_FACTORS = {"512": 0.5, "1K": 1.0, "2K": 2.0, "4K": 4.0}
# This model has one fixed size, and no long formats.
_OF_2_5 = "gemini-2.5-flash-image"
_WITHOUT_512 = "gemini-3-pro-image"
_TOKENS = {"512": 747, "1K": 1120, "2K": 1120, "4K": 2000}
_TOKENS_OF_2_5 = 1290
MIME_TYPES = ("image/png", "image/jpeg")


def pixels(model_id: str, config: Mapping[str, Any]) -> tuple[int, int]:
    """(width, height) for a checked imageConfig."""
    ratio = config.get("aspectRatio") or "1:1"
    if model_id == _OF_2_5:
        return _PIXELS_OF_2_5[ratio]
    factor = _FACTORS[config.get("imageSize") or "1K"]
    width, height = {**_PIXELS_1K, **_LONG_1K}[ratio]
    return int(width * factor), int(height * factor)


def output_tokens(model_id: str, config: Mapping[str, Any]) -> int:
    return _TOKENS_OF_2_5 if model_id == _OF_2_5 else _TOKENS[config.get("imageSize") or "1K"]


def check_image_config(config: Mapping[str, Any], model_id: str) -> None:
    """Raises GoogleError 400 for what the model does not support. No report has Google's words; these follow its style."""
    if model_id == _OF_2_5:
        ratios, sizes = [*_PIXELS_OF_2_5], [""]
    elif model_id == _WITHOUT_512:
        ratios, sizes = [*_PIXELS_1K], ["1K", "2K", "4K"]
    else:
        ratios, sizes = [*_PIXELS_1K, *_LONG_1K], [*_FACTORS]
    _check(config, "aspectRatio", "aspect_ratio", ratios)
    _check(config, "imageSize", "image_size", sizes)
    # The Developer API has no such field; here it selects what a real model selects by itself.
    _check(config, "outputMimeType", "output_mime_type", MIME_TYPES)


def _check(config: Mapping[str, Any], name: str, proto_name: str, allowed: Any) -> None:
    value = config.get(name)
    if value not in (None, "", *allowed):
        raise _rejection(proto_name, [one for one in allowed if one])


def _rejection(name: str, allowed: list[str]) -> GoogleError:
    path = f"* GenerateContentRequest.generation_config.image_config.{name}"
    if not allowed:
        return invalid(f"{path}: {name} is not supported for this model.\n")
    return invalid(f"{path}: {name} must be one of {', '.join(allowed)}.\n")
