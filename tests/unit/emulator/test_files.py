"""The Files API of the offline Gemini: google-genai's own client, and one project's files apart from another's."""

from __future__ import annotations

import io
from typing import Any

import aiohttp
import pytest
from google import genai

from shared.emulator import EmulatorConfig, running
from shared.emulator.files import LIFETIME_S, PROCESSING_S
from tests.support.stored_files import uploaded
from tests.unit.emulator.conftest import MODEL, Asker


def using(uri: str) -> dict[str, Any]:
    part = {"fileData": {"fileUri": uri, "mimeType": "text/plain"}}
    return {"contents": [{"role": "user", "parts": [part, {"text": "Read it."}]}]}


async def test_google_genai_uploads_uses_lists_and_deletes(client: genai.Client) -> None:
    config: Any = {"mime_type": "text/plain", "display_name": "A text"}
    file = await client.aio.files.upload(file=io.BytesIO(b"Hello"), config=config)
    assert (file.size_bytes, file.display_name, file.mime_type) == (5, "A text", "text/plain")
    assert file.name
    answer = await client.aio.models.generate_content(model=MODEL, contents=[file, "Read it."])
    assert "With it came a file" in (answer.text or "")
    assert [one.name async for one in await client.aio.files.list()] == [file.name]
    assert (await client.aio.files.get(name=file.name)).uri == file.uri
    await client.aio.files.delete(name=file.name)
    with pytest.raises(genai.errors.ClientError, match=r"You do not have permission to access the File"):
        await client.aio.files.get(name=file.name)


async def test_a_file_belongs_to_the_project_of_its_key() -> None:
    config = EmulatorConfig(keys={"k1": "one", "k2": "one", "k3": "two"})
    async with running(config) as emulator, aiohttp.ClientSession() as session:
        ask = Asker(emulator, session)
        file = await uploaded(emulator.url, "k1")
        for method in ("generateContent", "countTokens"):
            asked = [await ask.status(body=using(file["uri"]), key=key, method=method) for key in ("k1", "k2", "k3")]
            assert asked == [200, 200, 403]
        for key, names in (("k2", [file["name"]]), ("k3", [])):
            async with session.get(f"{emulator.url}/v1beta/files?key={key}") as response:
                body = await response.json(content_type=None)
                assert [one["name"] for one in body.get("files", ())] == names
        name = await uploaded(emulator.url, "k3", name=file["name"])
        assert name["name"] == file["name"]


async def test_a_file_ends_after_two_days(session: aiohttp.ClientSession) -> None:
    now_s = 1_800_000_000.0
    async with running(wall_clock=lambda: now_s) as emulator:
        ask = Asker(emulator, session)
        file = await uploaded(emulator.url, "k")
        assert file["expirationTime"] == "2027-01-17T08:00:00.000000Z"
        assert await ask.status(body=using(file["uri"])) == 200
        now_s += LIFETIME_S
        assert await ask.status(body=using(file["uri"])) == 403


async def test_a_video_is_processed_before_it_can_be_used(session: aiohttp.ClientSession) -> None:
    now_s = 1_800_000_000.0
    async with running(wall_clock=lambda: now_s) as emulator:
        ask = Asker(emulator, session)
        file = await uploaded(emulator.url, "k", mime_type="video/mp4")
        assert file["state"] == "PROCESSING"
        assert await ask.status(body=using(file["uri"])) == 400
        now_s += PROCESSING_S
        async with session.get(file["uri"], headers={"x-goog-api-key": "k"}) as response:
            assert (await response.json(content_type=None))["state"] == "ACTIVE"
        assert await ask.status(body=using(file["uri"])) == 200


async def test_an_upload_tells_what_it_has_received(session: aiohttp.ClientSession) -> None:
    async with running() as emulator:
        start = {"x-goog-api-key": "k", "X-Goog-Upload-Command": "start"}
        async with session.post(f"{emulator.url}/upload/v1beta/files", headers=start) as begun:
            url = begun.headers["X-Goog-Upload-URL"]
        piece = {"X-Goog-Upload-Command": "upload", "X-Goog-Upload-Offset": "0"}
        async with session.post(url, data=b"12345", headers=piece) as taken:
            assert taken.headers["X-Goog-Upload-Status"] == "active"
        async with session.post(url, headers={"X-Goog-Upload-Command": "query"}) as asked:
            assert asked.headers["X-Goog-Upload-Size-Received"] == "5"
        async with session.post(url, data=b"1", headers=piece) as wrong:
            assert wrong.status == 400


@pytest.mark.parametrize(
    ("method", "path", "headers", "status"),
    [
        ("GET", "/v1beta/files", {}, 403),
        ("POST", "/v1beta/files", {"x-goog-api-key": "k"}, 404),
        ("PUT", "/upload/v1beta/files", {"x-goog-api-key": "k"}, 404),
        ("GET", "/v1beta/files?pageSize=many", {"x-goog-api-key": "k"}, 400),
        ("GET", "/v1beta/files/unknown", {"x-goog-api-key": "k"}, 403),
        ("DELETE", "/v1beta/files/unknown", {"x-goog-api-key": "k"}, 403),
        ("POST", "/upload/v1beta/files", {"x-goog-api-key": "k"}, 400),
        ("POST", "/upload/v1beta/files?upload_id=x", {"X-Goog-Upload-Command": "upload"}, 403),
    ],
)
async def test_a_wrong_request_is_rejected(
    ask: Asker, method: str, path: str, headers: dict[str, str], status: int
) -> None:
    async with ask.session.request(method, f"{ask.emulator.url}{path}", headers=headers) as response:
        assert response.status == status
    with pytest.raises(aiohttp.ClientResponseError, match="400"):
        await uploaded(ask.emulator.url, "k", name="files/Not-Allowed")
    await uploaded(ask.emulator.url, "k", name="files/mine")
    with pytest.raises(aiohttp.ClientResponseError, match="409"):
        await uploaded(ask.emulator.url, "k", name="files/mine")
