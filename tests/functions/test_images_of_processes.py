"""Images made and served by several processes on one store: as on the wire, and with limits that hold over all of them."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import sys
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from shared.emulator import EmulatorConfig, running
from shared.media.url import open_media
from tests.support.object_stores import AWS, KINDS, ObjectStore, bucket_store, folder_store
from tests.support.processes import ADMIN, ROOT, Running, request, served, started
from tests.support.whole_path import eventually

DATA = bytes(range(256)) * 4


async def raw(server: Running, path: str, **headers: str) -> tuple[int, Mapping[str, str], bytes]:
    """As bytes on the wire: a client library would tidy the path up."""
    host, _, port = server.url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    lines = [f"GET {path} HTTP/1.1", f"Host: {host}:{port}", "Connection: close"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    writer.write("\r\n".join([*lines, "", ""]).encode())
    answer = await asyncio.wait_for(reader.read(), 30)
    writer.close()
    head, _, body = answer.partition(b"\r\n\r\n")
    status, *given = head.decode().split("\r\n")
    return int(status.split()[1]), dict(line.lower().split(": ", 1) for line in given), body


async def test_every_process_serves_what_another_stored(tmp_path: Path) -> None:
    stored = await open_media(f"file://{tmp_path}").put_image(DATA, "image/png", metadata={})
    env = {"STORAGE_URL": f"file://{tmp_path}"}
    async with served(env) as first, served(env) as second:
        status, headers, body = await request("HEAD", f"{first.url}/image/{stored.name}")
        assert (status, headers["content-length"], body) == (200, "1024", "")
        for server in (first, second):
            status, headers, body = await raw(server, f"/image/{stored.name}")
            assert (status, headers["etag"], body) == (200, f'"{stored.sha256}"', DATA)
        status, _, listed = await request("GET", f"{first.url}/images", headers=ADMIN)
        assert (status, listed["images"][0]["url"]) == (200, f"{first.url}/image/{stored.name}")
        status, _, _ = await request("DELETE", f"{first.url}/images/{stored.name}", headers=ADMIN)
        assert status == 204
        assert (await raw(second, f"/image/{stored.name}"))[0] == 404


async def test_no_path_on_the_wire_leads_out_of_the_images(tmp_path: Path) -> None:
    (tmp_path / "secret.png").write_bytes(b"secret")
    stored = await open_media(f"file://{tmp_path}").put_image(DATA, "image/png", metadata={})
    name = stored.name
    paths = [
        "/image/../secret.png",
        "/image/..%2fsecret.png",
        "/image/%2e%2e/secret.png",
        "/image/%2e%2e%2fsecret.png",
        "/image/..%5csecret.png",
        "/image//etc/passwd",
        f"/image/%2e/{name}",
        f"/image/../about/{name}.json",
        f"/image/..%2fabout%2f{name}.json",
        f"/image/{name}%00",
        f"/image/{name}%0a",
        f"/image/{name}%2f",
        f"/image/{name}.json",
    ]
    async with served({"STORAGE_URL": f"file://{tmp_path}"}) as server:
        for path in paths:
            status, _, body = await raw(server, path)
            assert (status, b"secret" in body, b"sha256" in body) == (404, False, False), path
        assert (await raw(server, f"/image/{name}"))[0] == 200


async def test_processes_share_a_bucket(s3_store: ObjectStore) -> None:
    stored = await open_media(s3_store.url).put_image(DATA, "image/png", metadata={})
    env = {"STORAGE_URL": s3_store.url, **AWS}
    async with served(env) as proxied, served({**env, "IMAGE_URLS": "signed"}) as signed:
        assert (await raw(proxied, f"/image/{stored.name}"))[::2] == (200, DATA)
        status, headers, _ = await raw(signed, f"/image/{stored.name}")
        assert (status, headers["location"].startswith(s3_store.url.partition("endpoint=")[2][:20])) == (302, True)
        assert s3_store.proxy is not None
        s3_store.proxy.down = True
        status, _, body = await raw(proxied, f"/image/{stored.name}")
        assert (status, b"storage_unavailable" in body) == (503, True)
        assert stored.name not in proxied.output
        assert AWS["AWS_SECRET_ACCESS_KEY"] not in proxied.output


async def test_a_secret_in_the_storages_url_is_refused_and_not_shown() -> None:
    env = {"PORT": "0", "LEDGER_URL": "memory://", "STORAGE_URL": "s3://key-id:very-secret@bucket"}
    async with started([sys.executable, "-m", "functions.serve"], env, ROOT) as server:
        assert await server.ended() == 1
        assert "STORAGE_URL" in server.output
        assert "very-secret" not in server.output
        assert "key-id" not in server.output


# -- making -----------------------------------------------------------------------------------------------------------


@pytest.fixture(params=KINDS)
async def place(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[ObjectStore]:
    if request.param == "file":
        yield folder_store(tmp_path / "storage")
        return
    origin = request.getfixturevalue("gcs_origin" if request.param == "gs" else "s3_origin")
    async with bucket_store(request.param, origin) as store:
        yield store


async def test_two_processes_share_the_limit_and_the_images(place: ObjectStore, tmp_path: Path) -> None:
    """Only the ledger in the file and the storage are common to them; Gemini would make any number of images."""
    async with running(EmulatorConfig()) as gemini:
        env = {
            "GEMINI_BASE_URL": gemini.url,
            "GEMINI_API_KEY": "AQ.key-of-the-server",
            "LEDGER_URL": f"sqlite:///{tmp_path}/ledger.db",
            "STORAGE_URL": place.url,
            "GEMINI_IPM": "4",
            "RATE_LIMIT_PER_MINUTE": "4",
            **AWS,
        }
        async with served(env) as one, served(env) as other:
            made = await asyncio.gather(*(generate(server, "a", 2) for server in (one, other, one, other)))
            images = [
                (image, server) for (_, body), server in zip(made, (other, one) * 2, strict=True) for image in of(body)
            ]
            assert len(images) == gemini.stats()["requests"] == 4
            for image, elsewhere in images:
                status, headers, body = await raw(elsewhere, f"/image/{image['name']}")
                assert (status, headers["content-type"]) == (200, image["mime_type"])
                assert hashlib.sha256(body).hexdigest() == image["sha256"]
            for server in (one, other):
                _, _, listed = await request("GET", f"{server.url}/images", headers=ADMIN)
                assert {image["name"] for image in listed["images"]} == {image["name"] for image, _ in images}
            refused = await asyncio.gather(*(generate(server, "b") for server in (one, other) * 3))
            codes = Counter(body["error"]["code"] for _, body in refused)
            assert codes == {"queue_timeout": 4, "rate_limited": 2}, "four of this caller got as far as the queue"
            assert gemini.stats()["requests"] == 4


@pytest.mark.parametrize("place", ["gs", "s3"], indirect=True)
async def test_images_made_while_the_bucket_is_down_are_in_the_answer(place: ObjectStore) -> None:
    """It goes down when they are paid for and not yet there; once it is back, it has nothing of them."""
    assert place.proxy is not None
    async with running(EmulatorConfig()) as gemini:
        env = {
            "GEMINI_BASE_URL": gemini.url,
            "GEMINI_API_KEY": "AQ.key-of-the-server",
            "STORAGE_URL": place.url,
            "LEDGER_URL": "memory://",
            **AWS,
        }
        async with served(env) as server:
            asking = asyncio.create_task(generate(server, "a", 2, "[[latency:1000]] A lighthouse"))
            await eventually(lambda: gemini.stats()["open"] == 2, 30)
            place.proxy.down = True
            status, body = await asking
            assert (status, [error["code"] for error in body["errors"]]) == (200, ["storage_unavailable"] * 2)
            for image in body["images"]:
                assert (image["name"], image["url"]) == (None, None)
                assert hashlib.sha256(base64.b64decode(image["b64_json"])).hexdigest() == image["sha256"]
            place.proxy.down = False
            _, after = await generate(server, "a")
            _, _, listed = await request("GET", f"{server.url}/images", headers=ADMIN)
            assert [image["name"] for image in listed["images"]] == [after["images"][0]["name"]]


async def generate(server: Running, caller: str, images: int = 1, prompt: str = "A lighthouse") -> tuple[int, Any]:
    body = {"prompt": prompt, "number_of_images": images}
    headers = {**ADMIN, "x-caller-id": caller, "x-request-timeout": "10"}
    status, _, answer = await request("POST", f"{server.url}/generate", json=body, headers=headers)
    return status, answer


def of(body: Any) -> list[Any]:
    return list(body.get("images", ()))
