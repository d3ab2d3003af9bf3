"""Responses near or above the platform's size limit."""

from __future__ import annotations

from collections.abc import Iterator

from starlette.responses import Response, StreamingResponse

from shared.settings.settings import PLATFORM_BODY_BYTES

MAX_IMAGE_BYTES = PLATFORM_BODY_BYTES - 2**20
"""Maximum of base64 image bytes in a response; the rest is for everything else."""
_CHUNK_BYTES = 2**20


def in_chunks(body: bytes) -> Response:
    """JSON in chunks: the platform limits the size of whole responses, not of chunked ones (cloud.google.com/run/quotas)."""

    def chunks() -> Iterator[bytes]:
        for start in range(0, len(body), _CHUNK_BYTES):
            yield body[start : start + _CHUNK_BYTES]

    return StreamingResponse(chunks(), media_type="application/json")
