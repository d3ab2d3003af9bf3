"""A response that stays the same while the process runs, with an ETag, so that browsers need not download it again."""

from __future__ import annotations

import gzip
import hashlib
import re
from collections.abc import Mapping

from starlette.responses import Response

from shared.http.conditional import not_modified

REVALIDATE = "no-cache"
"""A browser stores the response, and asks before each use whether it has changed."""
IMMUTABLE = "public, max-age=31536000, immutable"
_GZIP = re.compile(r"(?:^|[,\s])gzip\s*(?:;\s*q=(?!0(?:\.0*)?\s*(?:,|$))[\d.]+\s*)?(?:,|$)")
MIN_COMPRESSED_BYTES = 1024
"""Smaller bodies are sent as they are."""


class Content:
    def __init__(
        self, body: bytes, media_type: str, cache_control: str = REVALIDATE, headers: Mapping[str, str] | None = None
    ) -> None:
        """`headers` are added to those that every Content has."""
        self.body = body
        self.media_type = media_type
        # Weak, since the compressed body has the same tag as the original.
        self.etag = f'W/"{hashlib.sha256(body).hexdigest()[:32]}"'
        self.headers = {
            "etag": self.etag,
            "cache-control": cache_control,
            "vary": "Accept-Encoding",
            "x-content-type-options": "nosniff",
            **(headers or {}),
        }
        self._compressed: bytes | None = None

    def response(self, request_headers: Mapping[str, str]) -> Response:
        """`request_headers` have lower-case names."""
        if not_modified(request_headers, self.etag):
            return Response(status_code=304, headers=self.headers)
        accepted = request_headers.get("accept-encoding", "").lower()
        if len(self.body) < MIN_COMPRESSED_BYTES or not _GZIP.search(accepted):
            return Response(self.body, headers=self.headers, media_type=self.media_type)
        if self._compressed is None:
            self._compressed = gzip.compress(self.body, 6, mtime=0)
        headers = {**self.headers, "content-encoding": "gzip"}
        return Response(self._compressed, headers=headers, media_type=self.media_type)
