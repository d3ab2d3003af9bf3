"""The names of images. Pure.

A name is the capability to see the image, so it has 128 random bits. It starts with the creation time, counted down, so that
the alphabetical order in which object stores list names is the order from the newest to the oldest image.
"""

from __future__ import annotations

import re

EXTENSIONS = {
    "image/png": "png",
    "image/jpeg": "jpg",
    "image/webp": "webp",
    "image/gif": "gif",
    "image/avif": "avif",
    "image/heic": "heic",
    "image/heif": "heif",
}
_OTHER = "bin"
PATTERN = rf"[0-9a-f]{{44}}\.({'|'.join([*EXTENSIONS.values(), _OTHER])})"
_NAME = re.compile(PATTERN)
_TIME_DIGITS = 12
_LAST_MS = (1 << 4 * _TIME_DIGITS) - 1


def new_name(now_ms: int, random_hex: str, mime_type: str) -> str:
    """`random_hex`: 32 unguessable hexadecimal digits."""
    return f"{newest_first(now_ms, random_hex)}.{EXTENSIONS.get(mime_type, _OTHER)}"


def newest_first(time_ms: int, random_hex: str) -> str:
    """44 hexadecimal digits; those of a later time sort before those of an earlier one."""
    return f"{_counted_down(time_ms)}{random_hex}"


def is_name(text: str) -> bool:
    """Whether `new_name` can return this text; False for paths, prefixes and other ids."""
    return _NAME.fullmatch(text) is not None


def created_ms(name: str) -> int:
    """Creation time in ms since 1970, by the clock of the instance that stored the image."""
    return _LAST_MS - int(name[:_TIME_DIGITS], 16)


def made_until(time_ms: int) -> str:
    """A text that sorts before the names of all images created at or before `time_ms`, and after all later ones."""
    return _counted_down(max(0, time_ms))


def _counted_down(time_ms: int) -> str:
    return f"{_LAST_MS - time_ms:0{_TIME_DIGITS}x}"
