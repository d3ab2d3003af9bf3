"""POST /upload and resumable uploads over HTTP: stored, joined to a session, refused by content; nothing of a failure stays."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from unittest.mock import patch
from urllib.parse import urlsplit

import aiohttp
import pytest

from functions.sessions.main import sessions
from shared.bounds.byte_budget import Bucket
from shared.files.files import Files
from shared.generation import JsonObject
from shared.media.input_image import MAX_BYTES
from shared.media.port import FILES, HELD_BYTES
from shared.media.url import open_objects
from shared.sessions.session import FileRef, files_owner
from shared.sessions.store import Sessions
from shared.sessions.upload_types import MAX_IMAGE_BYTES
from tests.support.edge import ADMIN, ADMIN_KEY, Answer, ask
from tests.support.folder_services import MULTIPART, FolderServices, files_in, form
from tests.support.image_samples import written
from tests.support.object_stores import AWS, bucket_store
from tests.support.processes import served

ANNA = {**ADMIN, "x-caller-id": "anna"}
BEN = {**ADMIN, "x-caller-id": "ben"}
PNG = written("PNG")
ELF = b"\x7fELF\x02\x01\x01" + bytes(5000)
VIDEO = b"\0\0\0\x20ftypisom" + bytes(100_000)
UNKNOWN = "file-" + "0" * 44


class UploadServices(FolderServices):
    async def send(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str] = ANNA,
        content: bytes | list[bytes] = b"",
        **rest: Any,
    ) -> Answer:
        return await self.asked(sessions, method, path, headers, content, **rest)

    async def upload(self, content: bytes | list[bytes], headers: Mapping[str, str] = ANNA, **rest: Any) -> Answer:
        return await self.send("POST", "/upload", {**headers, "content-type": MULTIPART}, content, **rest)

    async def announce(self, headers: Mapping[str, str] = ANNA, **body: Any) -> Answer:
        given = {"name": "film.mp4", "size_bytes": len(VIDEO), **body}
        return await self.send("POST", "/upload?resumable=1", headers, json=given)

    async def waiting(self, session_id: str, owner: Mapping[str, str] = ANNA) -> list[FileRef]:
        """The files that the session's next message takes."""
        found = [one for one in await self._heads() if one.endswith(session_id)]
        assert len(found) == 1, found
        session = await Sessions(self.store, ttl_ms=1000).read(found[0].split("/")[1].split(".")[0], session_id)
        assert session.head is not None
        return list(session.head.uploads)

    async def _heads(self) -> list[str]:
        return await self.store.list("sessions/")


@pytest.fixture
def services(tmp_path: Path) -> UploadServices:
    return UploadServices(tmp_path / "storage")


def path_of(url: str) -> str:
    return urlsplit(url).path


# -- a form ------------------------------------------------------------------------------------------------------------


async def test_upload_is_stored_and_joins_the_session(services: UploadServices) -> None:
    answer = await services.upload(form(PNG, "photo.jpg", "image/jpeg"))
    assert answer.status == 200, answer.body
    body = answer.json()
    assert body == {
        "success": True,
        "message": "The file is stored. It goes to Gemini with the session's next message.",
        "id": body["id"],
        "name": "photo.jpg",
        "type": "image/png",
        "size_bytes": len(PNG),
        "session_id": body["session_id"],
    }
    assert answer.headers["x-session-id"] == body["session_id"]
    assert await services.waiting(body["session_id"]) == [FileRef(body["id"], "photo.jpg", "image/png", len(PNG))]
    file = await services.files.describe(files_owner(body["session_id"]), body["id"])
    assert await services.files.read(file) == PNG


async def test_uploads_of_one_caller_share_its_session(services: UploadServices) -> None:
    ids = [(await services.upload(form(b"a text"))).json()["session_id"] for _ in range(2)]
    other = (await services.upload(form(b"a text"), BEN)).json()["session_id"]
    assert (ids[0] == ids[1], other in ids) == (True, False)
    assert len(await services.waiting(ids[0])) == 2


@pytest.mark.parametrize("place", ["field", "header"])
async def test_session_of_another_caller_is_like_an_unknown_one(services: UploadServices, place: str) -> None:
    """And nothing of the file stays."""
    sid = (await services.upload(form(b"a text"))).json()["session_id"]
    before = files_in(services.folder)
    told = []
    for one in (sid, "0" * 44):
        fields = {"session_id": one} if place == "field" else {}
        headers = {**BEN, "x-request-id": "r", **({} if fields else {"x-session-id": one})}
        told.append(await services.upload(form(b"a text", **fields), headers))
    assert [answer.status for answer in told] == [404, 404]
    assert told[0].body == told[1].body
    assert files_in(services.folder) == before


@pytest.mark.parametrize(
    ("content", "status", "words"),
    [
        (form(b""), 400, "file is empty"),
        (form(b"x", filename=""), 400, "file has no file name"),
        (form(b"x", tag="y"), 400, "Unknown field tag"),
        (form(b"x")[:-4], 400, "incomplete"),
        (form(b"x").replace(b"--b", b"--c"), 400, "boundary"),
        (b'--b\r\nContent-Disposition: form-data; name="session_id"\r\n\r\nx\r\n--b--\r\n', 400, "file is missing"),
        (
            form(ELF, "photo.png", "image/png"),
            415,
            "file has content of no known type, whatever its name; send an image",
        ),
        (form(b"\xffELF", "photo.png", "image/png"), 415, "send an image (PNG, JPEG, WebP, HEIC, HEIF), audio, video"),
        (form(b"PK\x03\x04" + bytes(90), "a.docx"), 415, "file has the content of application/zip"),
        (form(PNG[:-20], "photo.png", "image/png"), 400, "file is a PNG that is damaged or cut off"),
        (form(b"x" * (1 << 20 | 1)), 413, "file is larger than 1 MB"),
        (form(b"x" * (3 << 20)), 413, "1 MB"),
    ],
)
async def test_invalid_upload_leaves_nothing(tmp_path: Path, content: bytes, status: int, words: str) -> None:
    services = UploadServices(tmp_path, MAX_UPLOAD_MB="1")
    for parts in ([content], [content[at : at + 1000] for at in range(0, len(content), 1000)]):
        answer = await services.upload(parts)
        assert (answer.status, words in answer.error["message"]) == (status, True), answer.body
    assert (files_in(tmp_path), await services.store.list("sessions/")) == ([], [])


async def test_executable_is_refused_before_the_rest_is_sent(services: UploadServices) -> None:
    """The type is known after a few thousand bytes; a client that sends 100 MB need not send them all."""
    begun = form(ELF, "photo.png", "image/png")[:-20]
    answer = await services.upload([begun, *[b"x" * 1000] * 5])
    assert answer.status == 415


@pytest.mark.parametrize("path", ["/upload?resumable=yes", "/upload?resumable="])
async def test_resumable_is_a_switch(services: UploadServices, path: str) -> None:
    answer = await services.send("POST", path, {**ANNA, "content-type": MULTIPART}, form(b"x"))
    assert (answer.status, answer.error["details"]) == (400, {"field": "resumable"})


async def test_file_is_not_sent_where_it_is_announced(services: UploadServices) -> None:
    answer = await services.send("POST", "/upload?resumable=1", {**ANNA, "content-type": MULTIPART}, form(b"x"))
    assert (answer.status, "the file itself goes to the upload_url" in answer.error["message"]) == (415, True)


async def test_declared_two_gigabytes_are_refused_unread(services: UploadServices) -> None:
    answer = await services.upload([b""], {**ANNA, "content-length": str(2 << 30)})
    assert (answer.status, answer.error["details"]["limit_bytes"]) == (413, 100 << 20)


async def test_deployed_limit_names_the_way_for_more(tmp_path: Path) -> None:
    services = UploadServices(
        tmp_path, K_SERVICE="sessions", GOOGLE_CLOUD_PROJECT="p", ADMIN_API_KEY="k" * 40, STORAGE_URL="gs://images-of-p"
    )
    headers = {"admin-api-key": "k" * 40, "content-type": MULTIPART, "content-length": str(50 << 20)}
    answer = await services.send("POST", "/upload", headers, [b""])
    assert answer.status == 413
    assert answer.error["details"]["limit_bytes"] == 31 << 20
    assert "up to 100 MB goes to the storage directly: POST /upload?resumable=1" in answer.error["message"]


async def test_too_large_image_is_refused_before_the_rest_is_sent(services: UploadServices) -> None:
    content = form(PNG + bytes(MAX_IMAGE_BYTES))[:-20]
    answer = await services.upload([content, b"x" * 1000])
    assert (answer.status, answer.error["details"]) == (413, {"field": "file", "limit_bytes": MAX_IMAGE_BYTES})
    assert files_in(services.folder) == []
    assert (await services.upload(form(PNG + bytes(MAX_BYTES)))).status == 200


async def test_upload_holds_what_the_writer_holds(services: UploadServices) -> None:
    """Of the process's memory budget: not the whole file."""
    budget, most = services.byte_budget, 0
    take = budget.take

    def seen(*given: Any) -> None:
        nonlocal most
        take(*given)
        most = max(most, budget.used_bytes)

    with patch.object(type(budget), "take", lambda _, *given: seen(*given)):
        content = form(VIDEO * 300)
        answer = await services.upload([content[at : at + 65_536] for at in range(0, len(content), 65_536)])
    assert answer.status == 200, answer.body
    assert answer.json()["size_bytes"] == len(VIDEO) * 300
    assert HELD_BYTES <= most < HELD_BYTES + 100_000


async def test_full_process_refuses_an_upload_and_keeps_nothing(services: UploadServices) -> None:
    claim = services.byte_budget.claim(Bucket("another", known=True))
    claim.grow(services.byte_budget.large_bytes - 1_000_000)
    with patch("shared.bootstrap.services", lambda: services):
        headers = {**ANNA, "content-type": MULTIPART}
        answer = await ask(sessions, "POST", "/upload", content=form(VIDEO * 20), headers=headers)
    assert (answer.status, answer.error["code"]) == (503, "queue_full")
    assert files_in(services.folder) == []


async def test_unreachable_store_keeps_nothing(services: UploadServices) -> None:
    await services.store.aclose()
    answer = await services.upload(form(b"a text"))
    assert (answer.status, answer.error["code"]) == (503, "ledger_unavailable")


async def test_upload_that_the_session_refuses_keeps_nothing(services: UploadServices) -> None:
    """Its bytes and its entry are written by then."""
    with patch("shared.sessions.session.MAX_WAITING_FILES", 1):
        answers = [await services.upload(form(b"a text")) for _ in range(2)]
    assert [answer.status for answer in answers] == [200, 400]
    sid = answers[0].json()["session_id"]
    page = await services.files.page(files_owner(sid), after=None, limit=9, newest_first=True, purpose=None)
    assert [file.id for file in page.files] == [answers[0].json()["id"]]
    assert len(await services.files.objects.names(None, 9)) == 1


# -- whose uploads count, and for whom ---------------------------------------------------------------------------------


async def test_upload_without_a_credential_needs_permission(services: UploadServices, tmp_path: Path) -> None:
    assert (await services.upload(form(b"a text"), {})).status == 401
    assert (await services.announce({})).status == 401
    opened = UploadServices(tmp_path / "open", ALLOW_ANONYMOUS="sessions")
    first, second = [(await opened.upload(form(b"a text"), {})).json()["session_id"] for _ in range(2)]
    assert first != second


async def test_uploads_without_a_credential_are_counted(tmp_path: Path) -> None:
    """In megabytes of one network; resumable ones when they are announced."""
    services = UploadServices(tmp_path, ALLOW_ANONYMOUS="sessions")
    services.upload_rate.limit = 3
    assert (await services.upload(form(VIDEO), {})).status == 200
    assert (await services.announce({}, size_bytes=2 << 20)).status == 200
    assert (await services.upload(form(VIDEO), {})).status == 429
    assert (await services.announce({}, size_bytes=1)).status == 429
    assert (await services.upload(form(VIDEO), {}, client=("198.51.100.1", 1))).status == 200
    assert (await services.upload(form(VIDEO), ANNA)).status == 200
    assert len(files_in(tmp_path)) == 6


# -- resumable ---------------------------------------------------------------------------------------------------------


async def test_resumable_upload_joins_its_session_once(services: UploadServices) -> None:
    """A client that got no answer completes again."""
    announced = (await services.announce()).json()
    assert announced["upload_url"].endswith(f"/upload/{announced['id']}/content")
    put = await services.send("PUT", path_of(announced["upload_url"]), {}, [VIDEO[:50_000], VIDEO[50_000:]])
    assert (put.status, put.json()["size_bytes"]) == (200, len(VIDEO)), put.body
    sid = announced["session_id"]
    answers = [await services.send("POST", f"/upload/{announced['id']}/complete") for _ in range(2)]
    assert [answer.status for answer in answers] == [200, 200], answers[0].body
    assert answers[0].json() == answers[1].json()
    assert answers[0].json() == {
        "success": True,
        "message": "The file is stored. It goes to Gemini with the session's next message.",
        "id": announced["id"],
        "name": "film.mp4",
        "type": "video/mp4",
        "size_bytes": len(VIDEO),
        "session_id": sid,
    }
    assert await services.waiting(sid) == [FileRef(announced["id"], "film.mp4", "video/mp4", len(VIDEO))]
    file = await services.files.describe(files_owner(sid), announced["id"])
    assert await services.files.read(file) == VIDEO
    kept = files_in(services.folder)
    assert (await services.send("PUT", path_of(announced["upload_url"]), {}, VIDEO)).status == 404
    assert files_in(services.folder) == kept, "a completed upload takes no more bytes"


async def test_announced_uploads_open_their_session(services: UploadServices) -> None:
    """It takes messages and other files before the first one is complete. A deleted session does not begin again."""
    sid = (await services.announce(session_id="new")).json()["session_id"]
    for name in ("a.txt", "b.txt"):
        announced = (await services.announce(session_id=sid, name=name, size_bytes=2)).json()
        assert (await services.send("PUT", path_of(announced["upload_url"]), {}, b"Hi")).status == 200
    complete = f"/upload/{announced['id']}/complete"
    assert (await services.send("POST", complete)).json()["session_id"] == sid
    assert [file.name for file in await services.waiting(sid)] == ["b.txt"]
    assert (await services.send("DELETE", f"/sessions/{sid}")).status == 204
    assert (await services.send("POST", complete)).status == 404
    assert await services.store.list("sessions/") == []


async def test_upload_that_is_completed_twice_at_once_is_one(services: UploadServices) -> None:
    announced = (await services.announce()).json()
    assert (await services.send("PUT", path_of(announced["upload_url"]), {}, VIDEO)).status == 200
    complete = f"/upload/{announced['id']}/complete"
    with patch("shared.bootstrap.services", lambda: services):
        answers = await asyncio.gather(*(ask(sessions, "POST", complete, headers=ANNA) for _ in range(4)))
    assert {(answer.status, answer.body) for answer in answers} == {(200, answers[0].body)}
    assert [file.id for file in await services.waiting(announced["session_id"])] == [announced["id"]]


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ({"size_bytes": 0}, 400, "size_bytes must be a whole number from 1"),
        ({"size_bytes": None}, 400, "size_bytes"),
        ({"size_bytes": (100 << 20) + 1}, 413, "an upload may have 100 MB"),
        ({"name": " "}, 400, "name is empty"),
        ({"name": "a/.."}, 400, "name must be the name of a file"),
        ({"name": "x" * 256}, 400, "name"),
        ({"other": 1}, 400, "Unknown field other"),
        ({"session_id": "0" * 44}, 404, "No session has this id"),
    ],
)
async def test_invalid_announcement_names_the_field(
    services: UploadServices, body: JsonObject, status: int, words: str
) -> None:
    answer = await services.announce(**body)
    assert (answer.status, words in answer.error["message"]) == (status, True), answer.body


async def test_foreign_upload_is_like_an_unknown_one(services: UploadServices) -> None:
    upload_id = (await services.announce()).json()["id"]
    for path in ("/complete", "/content"):
        method = "POST" if path == "/complete" else "PUT"
        told = [
            await services.send(method, f"/upload/{one}{path}", {**BEN, "x-request-id": "r"}, b"x")
            for one in (upload_id if method == "POST" else "file-x", UNKNOWN, "..%2F" + upload_id)
        ]
        assert {(answer.status, answer.body) for answer in told} == {(404, told[0].body)}


@pytest.mark.parametrize("content", [VIDEO[:-1], VIDEO + b"x", b""])
async def test_content_has_the_announced_size(services: UploadServices, content: bytes) -> None:
    """Whether its size is declared or not; what came before stays."""
    announced = (await services.announce()).json()
    path = path_of(announced["upload_url"])
    for headers in ({}, {"content-length": str(len(content))}):
        answer = await services.send("PUT", path, headers, content)
        assert (answer.status, "announced with" in answer.error["message"]) == (400, True), answer.body
    assert files_in(services.folder) == []
    missing = await services.send("POST", f"/upload/{announced['id']}/complete")
    assert (missing.status, "Nothing has arrived" in missing.error["message"]) == (400, True)
    assert (await services.send("PUT", path, {}, VIDEO)).status == 200
    assert (await services.send("POST", f"/upload/{announced['id']}/complete")).status == 200


@pytest.mark.parametrize(
    ("content", "status", "words"),
    [(ELF, 415, "no known type"), (PNG[:-20], 400, "damaged or cut off"), (b"GIF89a" + bytes(99), 415, "image/gif")],
)
async def test_refused_content_is_deleted(services: UploadServices, content: bytes, status: int, words: str) -> None:
    announced = (await services.announce(name="photo.png", type="image/png", size_bytes=len(content))).json()
    assert (await services.send("PUT", path_of(announced["upload_url"]), {}, content)).status == 200
    for expected, said in ((status, words), (404, "No upload has this id")):
        answer = await services.send("POST", f"/upload/{announced['id']}/complete")
        assert (answer.status, said in answer.error["message"]) == (expected, True), answer.body
    assert (files_in(services.folder), await services.waiting(announced["session_id"])) == ([], [])


@pytest.mark.parametrize("kind", ["gs", "s3"])
async def test_large_file_goes_to_the_bucket_itself(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The URL is the bucket's; this server takes no bytes for it, and judges what has arrived there."""
    for name, value in AWS.items():
        monkeypatch.setenv(name, value)
    async with bucket_store(kind, request.getfixturevalue("gcs_origin" if kind == "gs" else "s3_origin")) as place:
        services = UploadServices(tmp_path)
        services.files = Files(services.store, open_objects(place.url, FILES))
        for content, status in ((VIDEO, 200), (ELF, 415)):
            announced = (await services.announce(name="a.mp4", size_bytes=len(content))).json()
            complete = f"/upload/{announced['id']}/complete"
            assert (await services.send("PUT", f"/upload/{announced['id']}/content", {}, content)).status == 404
            assert (await services.send("POST", complete)).status == 400
            async with aiohttp.ClientSession() as anybody, anybody.put(announced["upload_url"], data=content) as put:
                assert put.status == 200, await put.text()
            answer = await services.send("POST", complete)
            assert answer.status == status, answer.body
        [kept] = await services.waiting(announced["session_id"])
        assert (kept.mime_type, kept.size_bytes) == ("video/mp4", len(VIDEO))
        assert len(await services.files.objects.names(None, 10)) == 1


# -- the real server ---------------------------------------------------------------------------------------------------


async def test_clients_upload_to_the_real_server(tmp_path: Path) -> None:
    """`curl -F file=@photo.png .../upload`, and the three steps of a resumable upload."""
    async with (
        served({"STORAGE_URL": f"file://{tmp_path}"}) as server,
        aiohttp.ClientSession(server.url, headers=ANNA) as session,
    ):
        given = aiohttp.FormData()
        given.add_field("file", PNG, filename="photo.png")
        async with session.post("/upload", data=given) as answer:
            assert (answer.status, (await answer.json())["type"]) == (200, "image/png")
        body = {"name": "film.mp4", "size_bytes": len(VIDEO)}
        async with session.post("/upload?resumable=1", json=body) as answer:
            announced = await answer.json()
        async with aiohttp.ClientSession() as anybody, anybody.put(announced["upload_url"], data=VIDEO) as answer:
            assert answer.status == 200, await answer.text()
        async with session.post(f"/upload/{announced['id']}/complete") as answer:
            assert (answer.status, (await answer.json())["type"]) == (200, "video/mp4")
    assert announced["id"] not in server.output
    assert announced["session_id"] not in server.output


async def test_broken_uploads_leave_nothing_on_the_server(tmp_path: Path) -> None:
    """A declared size of 2 GB, an executable at the start of 50 MB, and callers that disconnect in the middle of a file."""
    async with served({"STORAGE_URL": f"file://{tmp_path}"}) as server:
        host, _, port = server.url.removeprefix("http://").partition(":")
        async with aiohttp.ClientSession(server.url, headers=ADMIN) as session:
            body = {"name": "a.txt", "size_bytes": 500_000}
            async with session.post("/upload?resumable=1", json=body) as answer:
                content_path = path_of((await answer.json())["upload_url"])

        async def begin(method: str, path: str, size_bytes: int, begun: bytes) -> tuple[Any, Any]:
            reader, writer = await asyncio.open_connection(host, int(port))
            head = (
                f"{method} {path} HTTP/1.1\r\nHost: {host}\r\nAdmin-API-Key: {ADMIN_KEY}\r\n"
                f"Content-Type: {MULTIPART}\r\nContent-Length: {size_bytes}\r\n\r\n"
            )
            writer.write(head.encode() + begun)
            await writer.drain()
            return reader, writer

        text = form(b"x" * 500_000)
        for size_bytes, begun, status in ((2 << 30, text[:1000], 413), (50 << 20, form(ELF)[:-20], 415)):
            reader, writer = await begin("POST", "/upload", size_bytes, begun)
            assert f" {status} ".encode() in await asyncio.wait_for(reader.readline(), 60)
            writer.close()
        for method, path, whole in (("POST", "/upload", text), ("PUT", content_path, b"x" * 500_000)):
            _, writer = await begin(method, path, len(whole), whole[:-100_000])
            writer.close()
            await server.line(f"{method} /upload.* 499 caller_gone", 60)
    assert files_in(tmp_path) == []
