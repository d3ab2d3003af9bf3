"""Starts resumable uploads to a bucket of Google Cloud Storage: sessions whose URL takes the bytes without a credential.

Source: cloud.google.com/storage/docs/resumable-uploads. A session is open for a week, takes the bytes in one request or in
several, and makes the object visible when it has all of them. Opening one needs no right beside that of writing objects.
"""

from __future__ import annotations

import asyncio
from typing import Any
from urllib.parse import quote

import aiohttp

from shared.media.location import StorageLocation
from shared.media.port import unavailable
from shared.secret import Secret

GOOGLE = "https://storage.googleapis.com"
_SCOPES = ["https://www.googleapis.com/auth/devstorage.read_write"]
_TIMEOUT = aiohttp.ClientTimeout(total=30, connect=5)


class Resumable:
    """The sessions of one bucket."""

    def __init__(self, location: StorageLocation) -> None:
        self._location = location
        self._credentials: Any = None

    async def start(self, path: str, size_bytes: int, origin: str) -> str:
        """The URL of a session for an object of exactly `size_bytes`, below the location's prefix. Pages of `origin` may use
        it; "" for none. Raises StorageUnavailable."""
        place = self._location
        name = quote(f"{place.prefix}/{path}".lstrip("/"), safe="")
        url = f"{place.endpoint or GOOGLE}/upload/storage/v1/b/{place.place}/o?uploadType=resumable&name={name}"
        headers = {"X-Upload-Content-Length": str(size_bytes), "X-Upload-Content-Type": "application/octet-stream"}
        if origin:
            headers["Origin"] = origin
        if not (place.endpoint or "").startswith("http://"):
            # Plain HTTP is for fake stores, which need no token; a real one must not be sent unencrypted.
            headers["Authorization"] = f"Bearer {(await asyncio.to_thread(self._token)).reveal()}"
        try:
            async with (
                aiohttp.ClientSession(timeout=_TIMEOUT, trust_env=True) as session,
                session.post(url, headers=headers) as answer,
            ):
                return _session_url(answer)
        except TimeoutError:
            raise unavailable("it did not answer in time") from None
        except aiohttp.ClientError:
            raise unavailable("it cannot be reached") from None

    def _token(self) -> Secret:
        """Blocks, since it may call the metadata server."""
        import google.auth
        from google.auth.exceptions import GoogleAuthError
        from google.auth.transport.requests import Request

        try:
            if self._credentials is None:
                self._credentials, _ = google.auth.default(scopes=_SCOPES)
            if not self._credentials.valid:
                self._credentials.refresh(Request())
        except GoogleAuthError:
            raise unavailable("the gateway has no credential of Google for it") from None
        return Secret(self._credentials.token)


def _session_url(answer: aiohttp.ClientResponse) -> str:
    """Raises StorageUnavailable."""
    if answer.status in (401, 403):
        raise unavailable("it rejects the gateway's credentials")
    if answer.status == 404:
        raise unavailable("its bucket or folder does not exist")
    url = answer.headers.get("Location")
    if answer.status >= 300 or url is None:
        raise unavailable(f"it answered with status {answer.status}")
    return url
