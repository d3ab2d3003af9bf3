"""Google's Files API where it is not hot: uploads of a few bytes, lists, deletions. One pool of connections; no retries."""

from __future__ import annotations

from collections.abc import AsyncIterator
from types import TracebackType
from typing import Any

import aiohttp
import orjson

from shared.secret import Secret

API = "v1beta"
CONTENT = b"This file shows which keys belong to one Google project. It may be deleted."
PAGE_SIZE, MAX_PAGES = 100, 100
TIMEOUT_S = 30.0
_UPLOAD_URL = "X-Goog-Upload-URL"


class FilesCallFailed(Exception):
    """Google rejected the call, or could not be reached. The message holds no secret."""


class FilesApi:
    """`base_url` is the upstream's origin, with or without a path prefix. Use it as an async context manager."""

    failed: type[Exception] = FilesCallFailed

    def __init__(self, base_url: str, proxy: str | None = None) -> None:
        self._base_url, self._proxy = base_url.rstrip("/"), proxy
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> FilesApi:
        self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=TIMEOUT_S))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def upload(self, key: Secret, name: str) -> None:
        """Store a short text under `name` (`files/...`)."""
        start = {"X-Goog-Upload-Protocol": "resumable", "X-Goog-Upload-Command": "start"}
        start |= {
            "X-Goog-Upload-Header-Content-Length": str(len(CONTENT)),
            "X-Goog-Upload-Header-Content-Type": "text/plain",
        }
        described = orjson.dumps({"file": {"name": name, "mimeType": "text/plain"}})
        _, headers = await self._call("POST", f"{self._base_url}/upload/{API}/files", key, start, described)
        url = headers.get(_UPLOAD_URL, "")
        if not url:
            raise FilesCallFailed("Google named no URL for the upload.")
        # The URL is the right to upload: it is called without the key.
        await self._call(
            "POST", url, None, {"X-Goog-Upload-Command": "upload, finalize", "X-Goog-Upload-Offset": "0"}, CONTENT
        )

    async def names(self, key: Secret) -> AsyncIterator[str]:
        """The names of the project's files."""
        token = ""
        for _ in range(MAX_PAGES):
            query = f"?pageSize={PAGE_SIZE}" + (f"&pageToken={token}" if token else "")
            page, _ = await self._call("GET", f"{self._base_url}/{API}/files{query}", key)
            for file in page.get("files", ()):
                yield str(file.get("name", ""))
            token = str(page.get("nextPageToken", ""))
            if not token:
                return

    async def delete(self, key: Secret, name: str) -> None:
        await self._call("DELETE", f"{self._base_url}/{API}/{name}", key)

    async def _call(
        self,
        method: str,
        url: str,
        key: Secret | None,
        headers: dict[str, str] | None = None,
        body: bytes | None = None,
    ) -> tuple[dict[str, Any], Any]:
        assert self._session is not None, "use it as a context manager"
        given = {**(headers or {}), **({"x-goog-api-key": key.reveal()} if key is not None else {})}
        try:
            async with self._session.request(
                method, url, headers=given, data=body, proxy=self._proxy, allow_redirects=False
            ) as response:
                answer = await response.read()
                if response.status != 200:
                    raise FilesCallFailed(f"Google answered {method} of a file with status {response.status}.")
                return _object(answer), response.headers
        except (TimeoutError, aiohttp.ClientError, OSError, ValueError) as error:
            raise FilesCallFailed(f"The Files API could not be called: {type(error).__name__}.") from None


def _object(answer: bytes) -> dict[str, Any]:
    """The JSON object; an empty answer is an empty one. Raises ValueError."""
    parsed = orjson.loads(answer) if answer.strip() else {}
    if not isinstance(parsed, dict):
        raise ValueError("not an object")
    return parsed
