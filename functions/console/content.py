"""Something that does not change while the process lives, answered so that browsers need not fetch it twice."""

from __future__ import annotations

import gzip
import hashlib
import re
from collections.abc import Mapping

from starlette.responses import Response

ASK_AGAIN = "no-cache"
"""A browser keeps it, and asks each time whether it still holds."""
FOR_GOOD = "public, max-age=31536000, immutable"
_GZIP = re.compile(r"(?:^|[,\s])gzip\s*(?:;\s*q=(?!0(?:\.0*)?\s*(?:,|$))[\d.]+\s*)?(?:,|$)")
_WORTH_BYTES = 1024


class Content:
    """`headers` are sent besides those that every answer here has."""

    def __init__(
        self, body: bytes, media_type: str, cache_control: str = ASK_AGAIN, headers: Mapping[str, str] | None = None
    ) -> None:
        self.body = body
        self.media_type = media_type
        # Weak: the same for the body as it is and for the compressed one.
        self.etag = f'W/"{hashlib.sha256(body).hexdigest()[:32]}"'
        self.headers = {
            "etag": self.etag,
            "cache-control": cache_control,
            "vary": "Accept-Encoding",
            "x-content-type-options": "nosniff",
            **(headers or {}),
        }
        self._compressed: bytes | None = None

    def answer(self, asked: Mapping[str, str]) -> Response:
        """`asked` are the request's headers, with lower-case names."""
        if self._is_known(asked.get("if-none-match", "")):
            return Response(status_code=304, headers=self.headers)
        if len(self.body) < _WORTH_BYTES or not _GZIP.search(asked.get("accept-encoding", "").lower()):
            return Response(self.body, headers=self.headers, media_type=self.media_type)
        if self._compressed is None:
            self._compressed = gzip.compress(self.body, 6, mtime=0)
        headers = {**self.headers, "content-encoding": "gzip"}
        return Response(self._compressed, headers=headers, media_type=self.media_type)

    def _is_known(self, tags: str) -> bool:
        known = {tag.strip().removeprefix("W/") for tag in tags.split(",")}
        return self.etag.removeprefix("W/") in known or "*" in known
