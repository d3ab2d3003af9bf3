"""Uploads a file to Gemini with an account's key, as an uploader of the gateway does."""

from __future__ import annotations

from typing import Any

import aiohttp


async def uploaded(
    url: str, key: str, data: bytes = b"Some text.", *, name: str = "", mime_type: str = "text/plain"
) -> dict[str, Any]:
    """The `file` of Gemini at `url`: its `name`, `uri`, `expirationTime` ... Raises aiohttp.ClientResponseError."""
    described = {"mimeType": mime_type, **({"name": name} if name else {})}
    start = {
        "x-goog-api-key": key,
        "X-Goog-Upload-Protocol": "resumable",
        "X-Goog-Upload-Command": "start",
        "X-Goog-Upload-Header-Content-Length": str(len(data)),
    }
    finish = {"X-Goog-Upload-Command": "upload, finalize", "X-Goog-Upload-Offset": "0"}
    async with aiohttp.ClientSession(raise_for_status=True) as session:
        async with session.post(f"{url}/upload/v1beta/files", json={"file": described}, headers=start) as begun:
            target = begun.headers["X-Goog-Upload-URL"]
        async with session.post(target, data=data, headers=finish) as done:
            file: dict[str, Any] = (await done.json(content_type=None))["file"]
            return file
