"""Gemini's Files API for the files of callers: uploads in pieces, the state of a file, its deletion. No call takes a permit.

A file has at most 2 GB and a project 20 GB; Google deletes a file after 48 hours (ai.google.dev/gemini-api/docs/files).
google-genai's uploader is not used: it reads from a local file or a blocking stream, while these bytes come from the object
store as they are sent, so that a process holds one piece of each upload.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from functools import partial
from typing import NamedTuple

import orjson
from yarl import URL

from shared.bounds.large_work import LargeWork
from shared.clock import elapsed_s
from shared.gemini.backend import API_VERSION, checked_base_url, header_key
from shared.gemini.errors import UpstreamFailure
from shared.gemini.side_requests import MAX_JSON_BYTES, ProxyFor, Received, SideRequests
from shared.gemini.upload import Upload
from shared.generation import FileSource, JsonObject
from shared.secret import Secret

PIECE_BYTES = 8 * 1024 * 1024
"""Of every piece but the last one. Google takes multiples of 256 KiB; its own clients send 8 MiB."""
PAGE_SIZE = 100
"""Files of one page of a list."""
MAX_FAILURES = 3
"""Failed requests of one upload that are repeated."""
_REQUEST_S = 60.0
"""Maximum time for one request, so that a connection without any progress leaves time to continue on another one."""
_TRANSIENT = ("connect", "reset", "timeout", "server", "overloaded", "deadline")
_COMMAND, _OFFSET = "X-Goog-Upload-Command", "X-Goog-Upload-Offset"


class RemoteFile(NamedTuple):
    """A file at Gemini. `name` is like `files/x`; `state` is PROCESSING, ACTIVE or FAILED; `expires_ms` is since 1970, None if
    Google did not say."""

    name: str
    uri: str
    state: str
    expires_ms: int | None


class FileUploads:
    """One pool of connections for all accounts, bound to the event loop of its first call. Every method raises
    UpstreamFailure; `deadline_s` is elapsed time."""

    def __init__(self, base_url: str, large_work: LargeWork, proxy_for: ProxyFor) -> None:
        """`base_url` is the upstream's origin, with or without a path prefix."""
        self._base_url = checked_base_url(base_url)
        self._requests = SideRequests(large_work, proxy_for, "Gemini's Files API")

    async def upload(self, key: Secret, source: FileSource, deadline_s: float, *, name: str = "") -> RemoteFile:
        """Reads the file in pieces and sends them. After a broken connection it continues where Google's copy ends. `name`: like
        `files/x`; Google chooses one if it is "". Raises what `source.read` raises, too."""
        url = await self._start(key, source, deadline_s, name)
        at, failures = 0, 0
        while True:
            end = min(at + PIECE_BYTES, source.size_bytes)
            piece = await source.read(at, end) if end > at else b""
            command = "upload, finalize" if end == source.size_bytes else "upload"
            try:
                received = await self._post(url, {_COMMAND: command, _OFFSET: str(at)}, piece, deadline_s)
            except UpstreamFailure as failure:
                failures += 1
                if failure.kind not in _TRANSIENT or failures > MAX_FAILURES or elapsed_s() >= deadline_s:
                    raise
                at = await self._received_bytes(url, failure, deadline_s)
                continue
            finally:
                del piece
            if end == source.size_bytes:
                return _file_of(self._requests.object_of(received).get("file"))
            at = end

    async def describe(self, key: Secret, name: str, deadline_s: float) -> RemoteFile:
        received = await self._call("GET", URL(f"{self._base_url}/{API_VERSION}/{name}"), key, {}, None, deadline_s)
        return _file_of(self._requests.object_of(received))

    async def delete(self, key: Secret, name: str, deadline_s: float) -> None:
        await self._call("DELETE", URL(f"{self._base_url}/{API_VERSION}/{name}"), key, {}, None, deadline_s)

    async def page(self, key: Secret, token: str, deadline_s: float) -> tuple[list[str], str]:
        """Names of the project's files, and the token of the next page; "" for the first page and after the last one."""
        url = URL(f"{self._base_url}/{API_VERSION}/files").with_query(
            pageSize=PAGE_SIZE, **({"pageToken": token} if token else {})
        )
        page = self._requests.object_of(await self._call("GET", url, key, {}, None, deadline_s))
        names = [file.get("name") for file in page.get("files") or () if isinstance(file, dict)]
        return [name for name in names if isinstance(name, str)], str(page.get("nextPageToken") or "")

    async def aclose(self) -> None:
        await self._requests.aclose()

    async def _start(self, key: Secret, source: FileSource, deadline_s: float, name: str) -> URL:
        """The URL that takes the pieces. It is the right to upload, and is called without the key."""
        headers = {
            "Content-Type": "application/json",
            "X-Goog-Upload-Protocol": "resumable",
            _COMMAND: "start",
            "X-Goog-Upload-Header-Content-Length": str(source.size_bytes),
            "X-Goog-Upload-Header-Content-Type": source.mime_type,
        }
        file: JsonObject = {"mimeType": source.mime_type, "sizeBytes": str(source.size_bytes)}
        described = {"file": {**file, "name": name} if name else file}
        begin = partial(self._call, "POST", URL(f"{self._base_url}/upload/{API_VERSION}/files"), key, headers)
        try:
            received = await begin(orjson.dumps(described), deadline_s)
        except UpstreamFailure as failure:
            if failure.kind not in _TRANSIENT or elapsed_s() >= deadline_s:
                raise
            received = await begin(orjson.dumps(described), deadline_s)
        url = received.headers.get("X-Goog-Upload-URL", "")
        if not url.startswith(("https://", "http://")):
            raise _malformed("Gemini's Files API returned no URL for the upload.")
        return URL(url, encoded=True)

    async def _received_bytes(self, url: URL, failure: UpstreamFailure, deadline_s: float) -> int:
        """The bytes that Google has of an unfinished upload. Raises `failure` if that is not known, or if the upload ended."""
        received = await self._post(url, {_COMMAND: "query"}, b"", deadline_s)
        size = received.headers.get("X-Goog-Upload-Size-Received", "")
        if received.headers.get("X-Goog-Upload-Status") != "active" or not size.isdecimal():
            raise failure
        return int(size)

    async def _post(self, url: URL, headers: Mapping[str, str], piece: bytes, deadline_s: float) -> Received:
        sent = {"Content-Type": "application/octet-stream", **headers}
        return await self._call("POST", url, None, sent, piece, deadline_s)

    async def _call(
        self,
        method: str,
        url: URL,
        key: Secret | None,
        headers: Mapping[str, str],
        data: bytes | None,
        deadline_s: float,
    ) -> Received:
        until_s = min(deadline_s, elapsed_s() + _REQUEST_S)
        sent = {**headers, "x-goog-api-key": header_key(key)} if key is not None else headers
        body = None if data is None else Upload(data, until_s, None, None)
        secrets = () if key is None else (key,)
        return await self._requests.send(method, str(url), sent, until_s, secrets, MAX_JSON_BYTES, body)


def _file_of(described: object) -> RemoteFile:
    if not isinstance(described, dict):
        raise _malformed("Gemini's Files API returned no file.")
    name, uri, state = (described.get(field) for field in ("name", "uri", "state"))
    if not (isinstance(name, str) and name.startswith("files/") and isinstance(uri, str) and uri):
        raise _malformed("Gemini's Files API returned a file without a name or URI.")
    # proto3's JSON leaves out a default; a file without a state is one that can be used.
    return RemoteFile(
        name, uri, state if isinstance(state, str) else "ACTIVE", _milliseconds(described.get("expirationTime"))
    )


def _milliseconds(timestamp: object) -> int | None:
    if not isinstance(timestamp, str):
        return None
    try:
        # Google has up to nine digits of a second; fromisoformat takes six.
        return int(datetime.fromisoformat(f"{timestamp.rstrip('Z').split('.')[0]}+00:00").timestamp() * 1000)
    except ValueError:
        return None


def _malformed(message: str) -> UpstreamFailure:
    return UpstreamFailure("malformed", message, written=False)
