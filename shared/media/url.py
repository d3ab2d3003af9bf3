"""Which storage a URL names. obstore is loaded only when the storage is opened."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal
from urllib.parse import parse_qsl, urlsplit

if TYPE_CHECKING:
    from shared.media.media import MediaStore

ALLOWED = (
    "file://folder (absolute: file:///folder), gs://bucket/prefix or s3://bucket/prefix, for a compatible store with "
    "?endpoint=http://127.0.0.1:9000&region=us-east-1; credentials come from the surroundings, never from the URL"
)
_BUCKET = re.compile(r"[a-z0-9][a-z0-9._-]{1,221}[a-z0-9]")
_PREFIX = re.compile(r"([A-Za-z0-9_-][A-Za-z0-9._-]*(/[A-Za-z0-9_-][A-Za-z0-9._-]*)*)?")
_REGION = re.compile(r"[a-z0-9-]{1,40}")
_OPTIONS = {"gs": {"endpoint"}, "s3": {"endpoint", "region"}}


@dataclass(frozen=True, slots=True)
class StorageLocation:
    kind: Literal["file", "gs", "s3"]
    place: str
    """A folder, or a bucket."""
    prefix: str = ""
    """Within the bucket, without slashes at its ends."""
    endpoint: str | None = None
    """Origin of a store other than Google's or Amazon's own."""
    region: str | None = None


def parse_storage_url(url: str) -> StorageLocation:
    """ValueError with a sentence about what is allowed. It shows nothing of the URL: somebody may have put a key there."""
    if url.startswith("file://") and len(url) > len("file://"):
        return StorageLocation("file", url.removeprefix("file://"))
    try:
        found = _bucket_location(url)
    except ValueError:
        found = None
    if found is None:
        raise ValueError(f"it must be {ALLOWED}")
    return found


def _bucket_location(url: str) -> StorageLocation | None:
    parts = urlsplit(url)
    kind: Literal["gs", "s3"] = "gs" if parts.scheme == "gs" else "s3"
    options = dict(parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query)))
    endpoint, region, prefix = options.get("endpoint"), options.get("region"), parts.path.strip("/")
    allowed = (
        parts.scheme == kind
        and _BUCKET.fullmatch(parts.netloc)
        and _PREFIX.fullmatch(prefix)
        and not parts.fragment
        and options.keys() <= _OPTIONS[kind]
        and (endpoint is None or _is_origin(endpoint))
        and (region is None or _REGION.fullmatch(region))
    )
    return StorageLocation(kind, parts.netloc, prefix, endpoint and endpoint.rstrip("/"), region) if allowed else None


def _is_origin(url: str) -> bool:
    parts = urlsplit(url)
    more = parts.path.strip("/") or parts.query or parts.fragment or "@" in parts.netloc
    return parts.scheme in ("http", "https") and bool(parts.hostname) and not more


def open_media(
    url: str, *, ttl_days: int | None = None, keep_prompts: bool = False, now_s: Callable[[], float] = time.time
) -> MediaStore:
    """The images at `url`; nothing is connected to yet. Raises ValueError, StorageUnavailable (a folder that cannot be made).

    `ttl_days`: how long an image is there, without end if None. `keep_prompts`: the metadata `prompt` is kept."""
    from shared.media.bucket import open_bucket
    from shared.media.folder import open_folder
    from shared.media.media import MediaStore

    location = parse_storage_url(url)
    objects = open_folder(Path(location.place)) if location.kind == "file" else open_bucket(location)
    ttl_s = None if ttl_days is None else ttl_days * 86_400.0
    return MediaStore(objects, ttl_s=ttl_s, keep_prompts=keep_prompts, now_s=now_s)
