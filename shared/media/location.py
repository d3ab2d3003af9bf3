"""Which storage a URL names. Pure: obstore is imported only where a storage is opened."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal
from urllib.parse import parse_qsl, urlsplit

ALLOWED = (
    "file://folder (absolute: file:///folder), gs://bucket/prefix or s3://bucket/prefix, for a compatible store with "
    "?endpoint=http://127.0.0.1:9000&region=us-east-1; credentials come from the environment, never from the URL"
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
    """The path within the bucket, without leading and trailing slashes."""
    endpoint: str | None = None
    """The origin of a store that is neither Google's nor Amazon's; None for theirs."""
    region: str | None = None


def parse_storage_url(url: str) -> StorageLocation:
    """Raises ValueError with a sentence about what is allowed. It repeats nothing of the URL, which may contain a key."""
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
