"""Opens the storage that STORAGE_URL names."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from shared.media.location import parse_storage_url
from shared.media.port import IMAGES, Objects

if TYPE_CHECKING:
    from shared.media.media import MediaStore


def open_media(
    url: str, *, ttl_days: int | None = None, keep_prompts: bool = False, now_s: Callable[[], float] = time.time
) -> MediaStore:
    """The images at `url`, without connecting to it. Raises ValueError, and StorageUnavailable for a folder that cannot be made.

    `ttl_days`: the lifetime of an image; None for no expiry. `keep_prompts`: whether the metadata `prompt` is stored."""
    from shared.media.media import MediaStore

    ttl_s = None if ttl_days is None else ttl_days * 86_400.0
    return MediaStore(open_objects(url, IMAGES), ttl_s=ttl_s, keep_prompts=keep_prompts, now_s=now_s)


def open_objects(url: str, folder: str) -> Objects:
    """One folder of the storage (IMAGES, FILES), without connecting to it. Raises as `open_media` does."""
    location = parse_storage_url(url)
    if location.kind == "file":
        from shared.media.folder import open_folder

        return open_folder(Path(location.place), folder)
    from shared.media.bucket import open_bucket

    return open_bucket(location, folder)
