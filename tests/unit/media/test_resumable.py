"""Opening a resumable session of a bucket: what is sent to Google, and each failure as one of the storage."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import google.auth
import pytest
from aiohttp import web
from google.auth.exceptions import DefaultCredentialsError

from shared.errors import StorageUnavailable
from shared.media import resumable
from shared.media.location import StorageLocation
from shared.media.resumable import Resumable

BUCKET = StorageLocation("gs", "the-bucket", "the/prefix")


class Credentials:
    """As google-auth's: without a token until they are refreshed."""

    token: str | None = None
    refreshed = 0

    @property
    def valid(self) -> bool:
        return self.token is not None

    def refresh(self, request: Any) -> None:
        self.refreshed += 1
        self.token = "the-token"


class Google:
    """Answers with `status`, and with `location` as the session's URL."""

    def __init__(self) -> None:
        self.status, self.location = 200, "https://storage.example/session"
        self.asked: list[web.Request] = []

    async def handle(self, request: web.Request) -> web.Response:
        self.asked.append(request)
        return web.Response(status=self.status, headers={"Location": self.location} if self.location else {})


@pytest.fixture
async def storage(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Google]:
    fake, app = Google(), web.Application()
    app.router.add_route("*", "/{path:.*}", fake.handle)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    monkeypatch.setattr(resumable, "GOOGLE", f"http://127.0.0.1:{runner.addresses[0][1]}")
    yield fake
    await runner.cleanup()


@pytest.fixture
def credentials(monkeypatch: pytest.MonkeyPatch) -> Credentials:
    made = Credentials()
    monkeypatch.setattr(google.auth, "default", lambda scopes: (made, "a-project"))
    return made


async def test_session_is_opened_for_one_object_of_one_size(storage: Google, credentials: Credentials) -> None:
    sessions = Resumable(BUCKET)
    for _ in range(2):
        assert await sessions.start("files/a.bin", 7, "https://app.example") == storage.location
    request = storage.asked[0]
    assert (request.method, request.path) == ("POST", "/upload/storage/v1/b/the-bucket/o")
    assert dict(request.query) == {"uploadType": "resumable", "name": "the/prefix/files/a.bin"}
    expected = {
        "Authorization": "Bearer the-token",
        "Origin": "https://app.example",
        "X-Upload-Content-Length": "7",
        "X-Upload-Content-Type": "application/octet-stream",
    }
    assert {name: request.headers[name] for name in expected} == expected
    assert credentials.refreshed == 1


async def test_session_for_a_program_names_no_origin(storage: Google, credentials: Credentials) -> None:
    await Resumable(BUCKET).start("files/a.bin", 7, "")
    assert "Origin" not in storage.asked[0].headers


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (401, "rejects the gateway's credentials"),
        (403, "rejects the gateway's credentials"),
        (404, "does not exist"),
        (503, "status 503"),
        (200, "status 200"),
    ],
)
async def test_refused_session_is_a_failure_of_the_storage(
    storage: Google, credentials: Credentials, status: int, words: str
) -> None:
    storage.status, storage.location = status, ""
    with pytest.raises(StorageUnavailable, match=words) as caught:
        await Resumable(BUCKET).start("files/a.bin", 7, "")
    assert "the-token" not in caught.value.message


async def test_missing_credentials_are_a_failure_of_the_storage(
    storage: Google, monkeypatch: pytest.MonkeyPatch
) -> None:
    def default(scopes: list[str]) -> None:
        raise DefaultCredentialsError("planted")

    monkeypatch.setattr(google.auth, "default", default)
    with pytest.raises(StorageUnavailable, match="no credential of Google"):
        await Resumable(BUCKET).start("files/a.bin", 7, "")
    assert storage.asked == []
