"""/v1/files as OpenAI's clients use it, over HTTP: stored, listed, read, deleted; per credential; hostile uploads."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import aiohttp
import orjson
import pytest

from functions.openai_api.main import openai_api
from shared.accounts.pool import Pool
from shared.errors import BadRequest, GatewayError, NotFound
from shared.generation import FileUri, JsonObject
from shared.http.call import Call
from shared.ledger.limits import Limits
from shared.media.input_image import MAX_BYTES
from shared.openai_api.files import file_parts
from tests.support.edge import ADMIN_KEY, Answer, account
from tests.support.folder_services import MULTIPART, FolderServices, files_in, form
from tests.support.processes import served

ADMIN = {"authorization": f"Bearer {ADMIN_KEY}"}
ANNA = {"authorization": "Bearer AQ.key-of-anna-0001"}
BEN = {"authorization": "Bearer AQ.key-of-ben-00002"}
UNKNOWN = "file-" + "0" * 44
PNG = base64.b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGP4z8AAAAMBAQDJ/pLvAAAAAElFTkSuQmCC")
TEXT = "Größe: 3\n".encode()


class FileServices(FolderServices):
    async def send(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str] = ADMIN,
        content: bytes | list[bytes] = b"",
        **rest: Any,
    ) -> Answer:
        return await self.asked(openai_api, method, path, headers, content, **rest)

    async def upload(self, data: bytes = TEXT, headers: Mapping[str, str] = ADMIN, **rest: Any) -> Answer:
        return await self.send("POST", "/v1/files", {**headers, "content-type": MULTIPART}, form(data, **rest))

    async def made(self, data: bytes = TEXT, headers: Mapping[str, str] = ADMIN, **rest: Any) -> JsonObject:
        answer = await self.upload(data, headers, **rest)
        assert answer.status == 200, answer.body
        result: JsonObject = answer.json()
        return result

    async def listed(self, headers: Mapping[str, str] = ADMIN, query: str = "") -> list[str]:
        return [file["id"] for file in (await self.send("GET", f"/v1/files{query}", headers)).json()["data"]]


@pytest.fixture
def services(tmp_path: Path) -> FileServices:
    return FileServices(tmp_path / "storage")


# -- a file's life -----------------------------------------------------------------------------------------------------


async def test_file_is_stored_listed_read_and_deleted(services: FileServices) -> None:
    made = await services.made(purpose="assistants")
    assert made == {
        "id": made["id"],
        "object": "file",
        "bytes": len(TEXT),
        "created_at": made["created_at"],
        "expires_at": made["created_at"] + 30 * 86_400,
        "filename": "a.txt",
        "purpose": "assistants",
        "status": "processed",
    }
    path = f"/v1/files/{made['id']}"
    assert (await services.send("GET", path)).json() == made
    page = (await services.send("GET", "/v1/files")).json()
    assert page == {"object": "list", "data": [made], "first_id": made["id"], "last_id": made["id"], "has_more": False}
    content = await services.send("GET", f"{path}/content")
    assert (content.status, content.body, content.headers["content-type"]) == (200, TEXT, "text/plain")
    deleted = await services.send("DELETE", path)
    assert deleted.json() == {"id": made["id"], "object": "file", "deleted": True}
    assert (await services.send("GET", path)).status == 404
    assert (await services.listed(), services.kept) == ([], [])


async def test_list_is_paged(services: FileServices) -> None:
    ids = [(await services.made(purpose="vision" if number else "batch"))["id"] for number in range(3)]
    ids.sort()
    page = (await services.send("GET", "/v1/files?limit=2")).json()
    assert ([file["id"] for file in page["data"]], page["has_more"]) == (ids[:2], True)
    assert await services.listed(query=f"?after={page['last_id']}") == ids[2:]
    assert await services.listed(query="?order=asc") == ids[::-1]
    assert len(await services.listed(query="?purpose=vision")) == 2
    wrong = await services.send("GET", "/v1/files?limit=0")
    assert (wrong.status, "limit" in wrong.error["message"]) == (400, True)


async def test_expiry_is_stated_and_bounded(services: FileServices, tmp_path: Path) -> None:
    hour = {"expires_after[anchor]": "created_at", "expires_after[seconds]": "3600"}
    made = await services.made(**hour)
    assert made["expires_at"] - made["created_at"] == 3600
    days = {**hour, "expires_after[seconds]": str(2 * 86_400)}
    short = FileServices(tmp_path / "short", IMAGE_TTL_DAYS="1")
    made = await short.made()
    assert made["expires_at"] - made["created_at"] == 86_400
    refused = await short.upload(**days)
    assert (refused.status, "expires_after.seconds must be at most 86400" in refused.error["message"]) == (400, True)
    assert len(await short.listed()) == 1


async def test_content_never_acts_as_a_page_of_this_server(services: FileServices) -> None:
    """A page that somebody uploads is saved, not shown, and its name cannot add a header."""
    made = await services.made(b"<html><script>alert(1)</script>", filename="../../x/é.html", content_type="image/png")
    assert made["filename"] == "é.html"
    headers = (await services.send("GET", f"/v1/files/{made['id']}/content")).headers
    assert headers["content-disposition"] == "attachment; filename=\"_.html\"; filename*=UTF-8''%C3%A9.html"
    assert headers["content-type"].startswith("text/html")
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["content-security-policy"] == "sandbox; default-src 'none'"


async def test_content_is_read_in_parts(services: FileServices) -> None:
    path = f"/v1/files/{(await services.made(b'0123456789'))['id']}/content"
    part = await services.send("GET", path, {**ADMIN, "range": "bytes=2-4"})
    assert (part.status, part.body, part.headers["content-range"]) == (206, b"234", "bytes 2-4/10")
    assert (await services.send("GET", path, {**ADMIN, "range": "bytes=10-"})).status == 416
    whole = await services.send("HEAD", path)
    assert (whole.status, whole.body, whole.headers["content-length"]) == (200, b"", "10")
    assert (await services.send("GET", path, {**ADMIN, "if-none-match": whole.headers["etag"]})).status == 304


# -- whose file it is --------------------------------------------------------------------------------------------------


async def test_another_callers_file_is_like_an_unknown_one(services: FileServices) -> None:
    file_id = (await services.made(headers=ANNA))["id"]
    for headers in (BEN, ADMIN):
        assert await services.listed(headers) == []
        for method, rest in (("GET", ""), ("DELETE", ""), ("GET", "/content")):
            told = [
                await services.send(method, f"/v1/files/{one}{rest}", {**headers, "x-request-id": "r"})
                for one in (file_id, UNKNOWN, "file-x", "..%2F" + file_id)
            ]
            assert {(answer.status, answer.body) for answer in told} == {(404, told[0].body)}
    assert await services.listed(ANNA) == [file_id]


async def test_admin_files_survive_a_change_of_the_key(tmp_path: Path) -> None:
    """Both admin keys of a rotation are one owner; a name in x-caller-id is another."""
    new = "another-admin-key-of-the-tests"
    services = FileServices(tmp_path, ADMIN_API_KEY=f"{ADMIN_KEY},{new}")
    file_id = (await services.made())["id"]
    assert await services.listed({"authorization": f"Bearer {new}"}) == [file_id]
    assert await services.listed({**ADMIN, "x-caller-id": "anna"}) == []


async def test_uploads_of_invented_keys_are_bounded_by_network(services: FileServices) -> None:
    services.upload_rate.limit = 2
    with patch.object(Call, "holders", ("key:x", "ip:192.0.2.1")):
        assert [(await services.upload(headers=ANNA)).status for _ in range(3)] == [200, 200, 429]
        assert (await services.upload(headers=BEN)).status == 429
    assert (await services.upload()).status == 200
    assert len(await services.listed(ANNA)) == 2


async def test_listings_of_invented_keys_are_bounded_by_network(services: FileServices) -> None:
    """A page may read thousands of entries. A key that Gemini accepted is not counted."""
    services.caller_rate.limit = 2
    with patch.object(Call, "holders", ("key:x", "ip:192.0.2.1")):
        listed = [await services.send("GET", "/v1/files", one) for one in (ANNA, BEN, ANNA)]
        assert [answer.status for answer in listed] == [200, 200, 429]
    with patch.object(Call, "holders", ("key:x",)):
        assert [(await services.send("GET", "/v1/files", ANNA)).status for _ in range(3)] == [200] * 3


# -- what is refused ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "status", "words"),
    [
        (form(b""), 400, "file is empty"),
        (form(b"x", filename=""), 400, "file has no file name"),
        (form(b"x", purpose="other"), 400, "purpose must be"),
        (form(b"x", tag="y"), 400, "Unknown field tag"),
        (form(b"x")[:-4], 400, "incomplete"),
        (form(b"x").replace(b"--b", b"--c"), 400, "boundary"),
        (b'--b\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nvision\r\n--b--\r\n', 400, "file is missing"),
        (form(b"x" * (1 << 20 | 1)), 413, "file is larger than 1 MB"),
        (form(b"x" * (2 << 20)), 413, "The form is too large: its files may have 1 MB together"),
    ],
)
async def test_invalid_upload_leaves_nothing(tmp_path: Path, content: bytes, status: int, words: str) -> None:
    services = FileServices(tmp_path, MAX_UPLOAD_MB="1")
    answer = await services.send("POST", "/v1/files", {**ADMIN, "content-type": MULTIPART}, content)
    assert (answer.status, words in answer.error["message"]) == (status, True), answer.body
    assert (services.kept, await services.listed()) == ([], [])


async def test_upload_without_a_credential_is_refused_unread(services: FileServices) -> None:
    parts = [form(b"x" * 100_000)]
    answer = await services.send("POST", "/v1/files", {"content-type": MULTIPART}, parts)
    assert answer.status == 401


# -- in a chat ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("times", [3, 60])
async def test_a_file_that_is_named_often_is_bounded(services: FileServices, times: int) -> None:
    """Its bytes are sent as often as it is named, and a name is short."""
    file_id = (await services.made(b"x" * 2**20))["id"]
    content = [{"type": "file", "file": {"file_id": file_id}}] * times
    body = orjson.dumps({"messages": [{"role": "user", "content": content}]})
    headers = {**ADMIN, "content-type": "application/json"}
    answer = await services.send("POST", "/v1/chat/completions", headers, body)
    assert answer.status == (200 if times == 3 else 400), answer.body
    assert len(services.gateway.asked) == (times == 3)
    if times == 60:
        assert answer.error["param"] == "messages"


async def parts_of(services: FileServices, *ids: str, headers: Mapping[str, str] = ADMIN) -> Mapping[str, JsonObject]:
    """As the handler of a chat gets them."""
    found: list[Any] = []

    async def handler(call: Call) -> JsonObject:
        try:
            found.append(await file_parts(call, ids))
        except GatewayError as error:
            found.append(error)
        return {}

    with patch("functions.openai_api.main.HANDLERS", SimpleNamespace(answer=handler)):
        await services.send("GET", "/v1/models", headers)
    if isinstance(found[0], Exception):
        raise found[0]
    result: Mapping[str, JsonObject] = found[0]
    return result


async def test_files_become_parts_of_a_request(services: FileServices) -> None:
    image, text = (await services.made(PNG, filename="a.png"))["id"], (await services.made(b"{}"))["id"]
    assert await parts_of(services, image, text, image) == {
        image: {"inlineData": {"mimeType": "image/png", "data": base64.b64encode(PNG).decode()}},
        text: {"inlineData": {"mimeType": "text/plain", "data": "e30="}},
    }


async def test_files_of_others_are_no_parts(services: FileServices) -> None:
    file_id = (await services.made(headers=ANNA))["id"]
    for one in (file_id, UNKNOWN):
        with pytest.raises(NotFound, match=one):
            await parts_of(services, one)
    assert list(await parts_of(services, file_id, headers=ANNA)) == [file_id]


@pytest.mark.parametrize("data", [b"PK\x03\x04zip", b"\0\1\2\3", PNG[:30], b"GIF89a"])
async def test_what_gemini_does_not_take_is_refused_by_name(services: FileServices, data: bytes) -> None:
    file_id = (await services.made(data))["id"]
    with pytest.raises(BadRequest, match=file_id):
        await parts_of(services, file_id)


async def test_files_inside_one_request_are_bounded_together(tmp_path: Path) -> None:
    """Where no account has a Files API, the larger file cannot be sent otherwise."""
    services = FileServices(tmp_path, QUEUE_MAX_MB="1")
    services.pool = Pool([account(kind="vertex")], caller_limits=Limits(), caller_concurrency=1)
    ids = [(await services.made(b"x" * 200_000))["id"] for _ in range(2)]
    assert list(await parts_of(services, ids[0])) == [ids[0]]
    with pytest.raises(BadRequest, match="together"):
        await parts_of(services, *ids)


async def test_files_beyond_the_inline_limit_are_named(tmp_path: Path) -> None:
    """The smallest go inside the request, and only their bytes are held."""
    services = FileServices(tmp_path)
    ids = [(await services.made(b"x" * size))["id"] for size in (3000, 1000, 2000)]
    with patch("shared.http.stored_files.INLINE_BYTES", 3000):
        parts = await parts_of(services, *ids)
    assert {file_id: next(iter(part)) for file_id, part in parts.items()} == {
        ids[1]: "inlineData",
        ids[2]: "inlineData",
        ids[0]: "fileData",
    }
    uri = parts[ids[0]]["fileData"]["fileUri"]
    assert isinstance(uri, FileUri)
    assert (uri.source.name, uri.source.size_bytes, await uri.source.read(0, 2)) == (ids[0], 3000, b"xx")


async def test_image_beyond_its_inline_limit_is_named(services: FileServices) -> None:
    """Gemini takes a smaller image inside a request than other files."""
    image, text = [(await services.made(data))["id"] for data in (PNG + bytes(MAX_BYTES), b"x" * (MAX_BYTES + 1))]
    parts = await parts_of(services, image, text)
    assert {file_id: next(iter(part)) for file_id, part in parts.items()} == {image: "fileData", text: "inlineData"}


async def test_deleting_a_file_deletes_its_copies(services: FileServices) -> None:
    file_id = (await services.made())["id"]
    assert (await services.send("DELETE", f"/v1/files/{file_id}")).status == 200
    assert [key.endswith(file_id.removeprefix("file-")) for key in services.gateway.deleted] == [True]


# -- the real server ---------------------------------------------------------------------------------------------------


async def test_old_programs_lines_work_on_the_real_server(tmp_path: Path) -> None:
    """`curl -F file=@a.png -F purpose=vision .../v1/files`, then list, content, a chat about the file, and delete."""
    storage = {"STORAGE_URL": f"file://{tmp_path}"}
    async with served(storage) as server, aiohttp.ClientSession(server.url, headers=ADMIN) as session:
        given = aiohttp.FormData({"purpose": "vision"})
        given.add_field("file", PNG * 2000, filename="a.png")
        async with session.post("/v1/files", data=given) as answer:
            assert answer.status == 200
            file_id = (await answer.json())["id"]
        async with session.get("/v1/files") as answer:
            assert [file["id"] for file in (await answer.json())["data"]] == [file_id]
        async with session.get(f"/v1/files/{file_id}/content") as answer:
            assert (answer.headers["content-type"], await answer.read()) == ("image/png", PNG * 2000)
        parts = [{"type": "text", "text": "What is it?"}, {"type": "file", "file_id": file_id}]
        asked = {"model": "gemini-3.8-flash", "messages": [{"role": "user", "content": parts}]}
        async with session.post("/v1/chat/completions", json=asked) as answer:
            text = (await answer.json())["choices"][0]["message"]["content"]
            assert f"image/png of {len(PNG) * 2000} bytes" in text
        async with session.delete(f"/v1/files/{file_id}") as answer:
            assert (await answer.json())["deleted"] is True


async def test_broken_uploads_leave_nothing_on_the_server(tmp_path: Path) -> None:
    """A declared size of 2 GB, and callers that disconnect in the middle of a file."""
    async with served({"STORAGE_URL": f"file://{tmp_path}"}) as server:
        host, _, port = server.url.removeprefix("http://").partition(":")
        body = form(b"x" * 500_000)
        head = (
            f"POST /v1/files HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {ADMIN_KEY}\r\n"
            f"Content-Type: {MULTIPART}\r\nContent-Length: "
        )
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(f"{head}{2 << 30}\r\n\r\n".encode() + body[:1000])
        assert b" 413 " in await asyncio.wait_for(reader.readline(), 60)
        writer.close()
        for _ in range(5):
            _, writer = await asyncio.open_connection(host, int(port))
            writer.write(f"{head}{len(body)}\r\n\r\n".encode() + body[:-100_000])
            await writer.drain()
            writer.close()
        await server.line("caller_gone", 60)
        async with aiohttp.ClientSession(server.url, headers=ADMIN) as session, session.get("/v1/files") as answer:
            assert (await answer.json())["data"] == []
    assert files_in(tmp_path) == []
