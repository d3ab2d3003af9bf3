"""Uploads to Gemini's Files API in pieces, with scripted answers."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, NamedTuple
from unittest.mock import patch

import orjson
import pytest
from aiohttp.payload import Payload

from shared.bounds.large_work import LargeWork
from shared.clock import elapsed_s
from shared.gemini.errors import UpstreamFailure
from shared.gemini.file_uploads import MAX_FAILURES, FileUploads, RemoteFile
from shared.gemini.side_requests import Received
from shared.generation import FileSource, JsonObject
from shared.secret import Secret

KEY = Secret("AQ.the-key-of-a-project")
UPLOAD_URL = "https://uploads.example/upload?upload_id=1"
FILE: JsonObject = {"name": "files/a", "uri": "https://g.example/v1beta/files/a", "state": "ACTIVE"}
DATA = bytes(range(10))


class Sent(NamedTuple):
    url: str
    headers: Mapping[str, str]
    body: bytes


class Scripted:
    """Google's side of one upload. `broken`: numbers of the pieces (0, 1, ...) that fail after Google has stored `kept` bytes."""

    def __init__(self, broken: Mapping[int, int] | None = None, file: Any = None, kind: Any = "reset") -> None:
        self.sent: list[Sent] = []
        self.broken, self.file, self.kind = dict(broken or {}), FILE if file is None else file, kind
        self.stored = b""
        self.pieces = 0

    async def send(
        self, method: str, url: str, headers: Mapping[str, str], *rest: Any, url_header: str = UPLOAD_URL
    ) -> Received:
        payload = rest[-1]
        body = payload._value if isinstance(payload, Payload) else b""
        self.sent.append(Sent(url, headers, body))
        command = headers.get("X-Goog-Upload-Command", "")
        if command == "start":
            return Received(b"{}", {"X-Goog-Upload-URL": url_header})
        if command == "query":
            size = str(len(self.stored))
            return Received(b"", {"X-Goog-Upload-Status": "active", "X-Goog-Upload-Size-Received": size})
        assert int(headers["X-Goog-Upload-Offset"]) == len(self.stored)
        kept = self.broken.pop(self.pieces, None)
        self.pieces += 1
        self.stored += body if kept is None else body[:kept]
        if kept is not None:
            raise UpstreamFailure(self.kind, "It broke.", written=False)
        return Received(orjson.dumps({"file": self.file}), {})

    def object_of(self, received: Received) -> JsonObject:
        value: JsonObject = orjson.loads(received.body)
        return value


def upload(google: Scripted, data: bytes = DATA) -> RemoteFile:
    async def read(start: int, end: int) -> bytes:
        assert 0 < end - start <= 4
        return data[start:end]

    async def main() -> RemoteFile:
        uploads = FileUploads("https://g.example/", LargeWork(), lambda url: None)
        uploads._requests = google  # type: ignore[assignment]
        source = FileSource("owner.file", "file-1", "video/mp4", len(data), read)
        return await uploads.upload(KEY, source, elapsed_s() + 600)

    with patch("shared.gemini.file_uploads.PIECE_BYTES", 4):
        return asyncio.run(main())


def test_a_file_is_sent_in_pieces() -> None:
    google = Scripted()
    assert upload(google) == RemoteFile("files/a", str(FILE["uri"]), "ACTIVE", None)
    assert google.stored == DATA
    commands = [sent.headers["X-Goog-Upload-Command"] for sent in google.sent]
    assert commands == ["start", "upload", "upload", "upload, finalize"]
    start = google.sent[0]
    assert start.url == "https://g.example/upload/v1beta/files"
    assert start.headers["X-Goog-Upload-Header-Content-Length"] == "10"
    assert orjson.loads(start.body) == {"file": {"mimeType": "video/mp4", "sizeBytes": "10"}}


def test_only_the_start_has_the_key() -> None:
    """The URL that it returns is the right to upload."""
    google = Scripted()
    upload(google)
    assert ["x-goog-api-key" in sent.headers for sent in google.sent] == [True, False, False, False]
    assert {sent.url for sent in google.sent[1:]} == {UPLOAD_URL}


@pytest.mark.parametrize("broken", [{0: 0}, {0: 2}, {1: 4}, {2: 1}, {0: 1, 1: 0, 2: 3}])
def test_an_upload_continues_where_google_s_copy_ends(broken: dict[int, int]) -> None:
    google = Scripted(broken)
    upload(google)
    assert google.stored == DATA


def test_a_broken_end_after_the_last_byte_is_finished() -> None:
    google = Scripted({2: 2})
    upload(google)
    assert (google.stored, google.sent[-1].body) == (DATA, b"")


def test_an_upload_ends_after_some_failures() -> None:
    google = Scripted(dict.fromkeys(range(10), 0))
    with pytest.raises(UpstreamFailure, match="It broke"):
        upload(google)
    assert google.pieces == MAX_FAILURES + 1


def test_a_rejected_piece_is_not_repeated() -> None:
    google = Scripted({1: 0}, kind="bad_request")
    with pytest.raises(UpstreamFailure):
        upload(google)
    assert google.pieces == 2


@pytest.mark.parametrize(
    "file", [[], {}, {"name": "files/a"}, {"name": "x", "uri": "https://g"}, {"name": "files/a", "uri": 1}]
)
def test_an_answer_without_a_file_is_a_failure(file: Any) -> None:
    with pytest.raises(UpstreamFailure) as raised:
        upload(Scripted(file=file))
    assert raised.value.kind == "malformed"


@pytest.mark.parametrize(
    ("timestamp", "expires_ms"),
    [
        ("2027-01-17T08:00:00Z", 1_800_172_800_000),
        ("2027-01-17T08:00:00.123456789Z", 1_800_172_800_000),
        ("soon", None),
        (7, None),
    ],
)
def test_expiry_is_read(timestamp: Any, expires_ms: int | None) -> None:
    assert upload(Scripted(file={**FILE, "expirationTime": timestamp})).expires_ms == expires_ms


@pytest.mark.parametrize("url", ["", "file:///etc/passwd", "//host/x"])
def test_an_upload_needs_a_url(url: str) -> None:
    google = Scripted()
    answers = patch.object(google, "send", lambda *args: Scripted.send(google, *args, url_header=url))
    with answers, pytest.raises(UpstreamFailure, match="no URL"):
        upload(google)
    assert len(google.sent) == 1
