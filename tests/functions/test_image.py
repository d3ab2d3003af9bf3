"""GET /image/<name>, GET /images and DELETE /images/<name>, as HTTP."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any
from unittest.mock import patch

import aiohttp
import pytest
from PIL import Image

from functions.image.main import image
from shared.bootstrap import Services
from shared.errors import StorageUnavailable
from shared.media.media import MediaStore, StoredImage
from shared.media.url import open_media
from shared.settings.settings import Settings
from tests.support.edge import ADMIN, ENVIRONMENT, Answer, FakeServices, ask
from tests.support.object_stores import ObjectStore

DATA = bytes(range(256)) * 4
MISSING = "fe00112233445566778899aabbccddeeff00112233ab.png"


class ImageServices(FakeServices):
    """With images at `url`, as Services has them."""

    def __init__(self, url: str, **environment: str) -> None:
        super().__init__(environment={"STORAGE_URL": url, **environment})
        self.opened: MediaStore | None = None

    @property
    def media(self) -> MediaStore:
        images = self.settings.images
        if self.opened is None:
            assert images.storage_url is not None
            self.opened = open_media(images.storage_url, ttl_days=images.ttl_days, keep_prompts=images.keep_prompts)
        return self.opened

    async def get(self, path: str, method: str = "GET", **headers: str) -> Answer:
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        with patch("shared.bootstrap.services", lambda: self):
            return await ask(image, method, path, headers=given)

    async def put(self, data: bytes = DATA, mime_type: str = "image/png", **metadata: str) -> StoredImage:
        return await self.media.put_image(data, mime_type, metadata=metadata)


@pytest.fixture
def services(tmp_path: Path) -> ImageServices:
    return ImageServices(f"file://{tmp_path}")


def admin(**headers: str) -> dict[str, str]:
    return {"admin_api_key": ADMIN["admin-api-key"], **headers}


# -- an image ---------------------------------------------------------------------------------------------------------


async def test_an_image_is_served_to_anybody_who_knows_its_name(services: ImageServices) -> None:
    stored = await services.put()
    answer = await services.get(f"/image/{stored.name}")
    assert (answer.status, answer.body) == (200, DATA)
    wanted = {
        "content-type": "image/png",
        "content-length": "1024",
        "content-disposition": f'inline; filename="{stored.name}"',
        "etag": f'"{stored.sha256}"',
        "accept-ranges": "bytes",
        "x-content-type-options": "nosniff",
        "content-security-policy": "sandbox; default-src 'none'",
        "cross-origin-resource-policy": "cross-origin",
    }
    assert {name: answer.headers[name] for name in wanted} == wanted


@pytest.mark.parametrize("days", ["1", "30"])
async def test_image_is_cached_privately_until_it_expires(tmp_path: Path, days: str) -> None:
    services = ImageServices(f"file://{tmp_path}", IMAGE_TTL_DAYS=days)
    answer = await services.get(f"/image/{(await services.put()).name}")
    private, age, immutable = answer.headers["cache-control"].split(", ")
    assert (private, immutable) == ("private", "immutable")
    left_s = int(age.removeprefix("max-age="))
    assert int(days) * 86_400 - 3600 < left_s <= int(days) * 86_400


async def test_without_an_end_a_cache_keeps_it_a_year(tmp_path: Path) -> None:
    services = ImageServices(f"file://{tmp_path}", IMAGE_TTL_DAYS="unlimited")
    answer = await services.get(f"/image/{(await services.put()).name}")
    assert answer.headers["cache-control"] == "private, max-age=31536000, immutable"


@pytest.mark.parametrize("mime_type", ["image/svg+xml", "text/html", "image/unheard-of"])
async def test_what_is_not_surely_an_image_is_saved_and_not_shown(services: ImageServices, mime_type: str) -> None:
    answer = await services.get(f"/image/{(await services.put(b'<script>', mime_type)).name}")
    assert answer.headers["content-type"] == mime_type
    assert answer.headers["content-disposition"].startswith("attachment; ")
    assert answer.headers["content-security-policy"].startswith("sandbox;")


async def test_head_has_the_same_headers_without_the_bytes(services: ImageServices) -> None:
    path = f"/image/{(await services.put()).name}"
    head, get = await services.get(path, "HEAD", range="bytes=0-1"), await services.get(path)
    own = {"x-request-id", "server-timing"}
    assert (head.status, head.body) == (200, b"")
    assert {n: v for n, v in head.headers.items() if n not in own} == {
        n: v for n, v in get.headers.items() if n not in own
    }


@pytest.mark.parametrize("form", ['"{}"', 'W/"{}"', '"other", "{}"', "*"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_matching_etag_is_304(services: ImageServices, form: str, method: str) -> None:
    stored = await services.put()
    answer = await services.get(f"/image/{stored.name}", method, if_none_match=form.format(stored.sha256))
    assert (answer.status, answer.body) == (304, b"")
    assert answer.headers["etag"] == f'"{stored.sha256}"'
    assert "immutable" in answer.headers["cache-control"]


@pytest.mark.parametrize("form", ['"other"', "{}", ""])
async def test_other_etag_gets_the_image(services: ImageServices, form: str) -> None:
    stored = await services.put()
    answer = await services.get(f"/image/{stored.name}", if_none_match=form.format(stored.sha256))
    assert (answer.status, answer.body) == (200, DATA)


@pytest.mark.parametrize(
    ("asked", "first", "last"),
    [
        ("bytes=0-0", 0, 0),
        ("bytes=10-19", 10, 19),
        ("bytes=1000-", 1000, 1023),
        ("bytes=1000-5000", 1000, 1023),
        ("bytes=-24", 1000, 1023),
        ("bytes=-5000", 0, 1023),
        ("Bytes = 5 - 6", 5, 6),
    ],
)
async def test_a_part_is_served_alone(services: ImageServices, asked: str, first: int, last: int) -> None:
    stored = await services.put()
    answer = await services.get(f"/image/{stored.name}", range=asked)
    assert (answer.status, answer.body) == (206, DATA[first : last + 1])
    assert answer.headers["content-range"] == f"bytes {first}-{last}/1024"
    assert answer.headers["content-length"] == str(last - first + 1)
    assert answer.headers["etag"] == f'"{stored.sha256}"'


@pytest.mark.parametrize("asked", ["bytes=1024-", "bytes=5000-6000", "bytes=-0"])
async def test_a_part_behind_the_end_is_refused_with_the_size(services: ImageServices, asked: str) -> None:
    answer = await services.get(f"/image/{(await services.put()).name}", range=asked)
    assert (answer.status, answer.error["code"]) == (416, "range_not_satisfiable")
    assert answer.headers["content-range"] == "bytes */1024"


@pytest.mark.parametrize("asked", ["bytes=0-1,5-6", "bytes=9-3", "bytes=-", "lines=0-1", "bytes=a-b", "bytes", ""])
async def test_a_range_that_is_none_is_ignored(services: ImageServices, asked: str) -> None:
    answer = await services.get(f"/image/{(await services.put()).name}", range=asked)
    assert (answer.status, answer.body) == (200, DATA)


async def test_a_part_is_only_added_to_the_same_image(services: ImageServices) -> None:
    stored = await services.put()
    path = f"/image/{stored.name}"
    same = await services.get(path, range="bytes=0-9", if_range=f'"{stored.sha256}"')
    other = await services.get(path, range="bytes=0-9", if_range='"other"')
    assert (same.status, other.status, other.body) == (206, 200, DATA)


# -- names ------------------------------------------------------------------------------------------------------------

TRICKS = [
    MISSING,
    MISSING.upper(),
    "x",
    "..",
    "../about/{}.json",
    "../../etc/passwd",
    "./{}",
    "/{}",
    "{}.json",
    "{}/",
    "{}/..",
    "{}\0",
    "{}\n",
    " {}",
    "images/{}",
    "..\\{}",
    "%2e%2e%2f{}",
    "{}#x",
    "{};x",
    "*",
    "é",
]


@pytest.mark.parametrize("trick", TRICKS)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_every_other_name_is_missing_alike(services: ImageServices, trick: str, method: str) -> None:
    stored = await services.put()
    wrong = await services.get(f"/image/{trick.format(stored.name)}", method)
    missing = await services.get(f"/image/{MISSING}", method)
    assert wrong.status == 404
    differs = ("x-request-id", "server-timing", "content-length")
    assert {**wrong.error, "request_id": ""} == {**missing.error, "request_id": ""}
    assert {n: v for n, v in wrong.headers.items() if n not in differs} == {
        n: v for n, v in missing.headers.items() if n not in differs
    }


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
async def test_an_image_is_only_read(services: ImageServices, method: str) -> None:
    answer = await services.get(f"/image/{(await services.put()).name}", method)
    assert (answer.status, answer.headers["allow"]) == (405, "GET, HEAD, OPTIONS")


async def test_a_storage_that_is_down_is_not_a_missing_image(tmp_path: Path) -> None:
    services = ImageServices(f"file://{tmp_path}/storage")
    stored = await services.put()
    (tmp_path / "storage").rename(tmp_path / "moved")
    (tmp_path / "storage").write_text("not a folder")
    for method in ("GET", "HEAD"):
        answer = await services.get(f"/image/{stored.name}", method)
        assert (answer.status, answer.error["code"]) == (503, "storage_unavailable")
        assert answer.headers["retry-after"] == "5"


# -- the list ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("headers", [{}, {"admin_api_key": "wrong"}, {"x_goog_api_key": ADMIN["admin-api-key"]}])
@pytest.mark.parametrize(("method", "path"), [("GET", "/images"), ("DELETE", f"/images/{MISSING}")])
async def test_only_the_admin_lists_and_deletes(
    services: ImageServices, headers: dict[str, str], method: str, path: str
) -> None:
    answer = await services.get(path, method, **headers)
    assert (answer.status, answer.error["code"]) == (401, "unauthorized")


async def test_list_has_all_fields_of_each_image(services: ImageServices) -> None:
    written = io.BytesIO()
    Image.new("RGB", (30, 20)).save(written, "PNG")
    stored = await services.put(written.getvalue(), model="gemini-3-pro-image", prompt="not kept")
    answer = await services.get("/images", **admin(host="images.example:8080"))
    (listed,) = answer.json()["images"]
    assert listed.pop("created").startswith("20")
    assert listed == {
        "name": stored.name,
        "url": f"http://images.example:8080/image/{stored.name}",
        "model": "gemini-3-pro-image",
        "mime_type": "image/png",
        "width": 30,
        "height": 20,
        "size_bytes": len(written.getvalue()),
        "sha256": stored.sha256,
    }
    assert answer.json()["next_cursor"] is None


async def test_what_is_not_known_of_an_image_is_null(services: ImageServices) -> None:
    await services.put(b"not a picture")
    (listed,) = (await services.get("/images", **admin())).json()["images"]
    assert (listed["model"], listed["width"], listed["height"]) == (None, None, None)


async def test_the_prompt_is_listed_only_where_it_was_kept(tmp_path: Path) -> None:
    services = ImageServices(f"file://{tmp_path}", IMAGE_KEEP_PROMPTS="1")
    await services.put(prompt="A café at night")
    (listed,) = (await services.get("/images", **admin())).json()["images"]
    assert listed["prompt"] == "A café at night"


async def test_the_list_goes_page_by_page(services: ImageServices) -> None:
    names = {(await services.put()).name for _ in range(25)}
    first = (await services.get("/images", **admin())).json()
    second = (await services.get(f"/images?limit=100&cursor={first['next_cursor']}", **admin())).json()
    assert (len(first["images"]), len(second["images"]), second["next_cursor"]) == (20, 5, None)
    assert {found["name"] for page in (first, second) for found in page["images"]} == names


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=101", "limit=-1", "limit=ten", "limit=", "limit=1.0", "cursor=x", "cursor="]
)
async def test_a_wrong_page_is_refused_with_the_field(services: ImageServices, query: str) -> None:
    answer = await services.get(f"/images?{query}", **admin())
    assert (answer.status, answer.error["details"]["field"]) == (400, query.partition("=")[0])


async def test_a_deleted_image_is_gone(services: ImageServices) -> None:
    stored = await services.put()
    answer = await services.get(f"/images/{stored.name}", "DELETE", **admin())
    assert (answer.status, answer.body) == (204, b"")
    assert (await services.get(f"/image/{stored.name}")).status == 404
    assert (await services.get(f"/images/{stored.name}", "DELETE", **admin())).status == 404
    assert (await services.get("/images", **admin())).json()["images"] == []


# -- links ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("environment", "headers", "begins"),
    [
        ({}, {"host": "127.0.0.1:5004"}, "http://127.0.0.1:5004/image/"),
        ({}, {"host": "[::1]:5004"}, "http://[::1]:5004/image/"),
        ({}, {"host": "a.example", "x-forwarded-proto": "https"}, "http://a.example/image/"),
        ({}, {"host": "a.example", "x-forwarded-host": "evil.example"}, "http://a.example/image/"),
        ({}, {"host": 'evil.example/"><script>'}, "/image/"),
        ({}, {}, "/image/"),
        ({"K_SERVICE": "image"}, {"host": "a.run.app", "x-forwarded-proto": "https"}, "https://a.run.app/image/"),
        ({"K_SERVICE": "image"}, {"host": "a.run.app", "x-forwarded-proto": "javascript"}, "http://a.run.app/image/"),
        ({"PUBLIC_BASE_URL": "https://i.example/x/"}, {"host": "a.example"}, "https://i.example/x/image/"),
    ],
)
async def test_a_link_leads_where_the_images_are(
    tmp_path: Path, environment: dict[str, str], headers: dict[str, str], begins: str
) -> None:
    services = ImageServices(f"file://{tmp_path}")
    stored = await services.put()
    deployed = {"GOOGLE_CLOUD_PROJECT": "p", "STORAGE_URL": "gs://bucket"} if "K_SERVICE" in environment else {}
    services.settings = Settings.from_environment({**ENVIRONMENT, **deployed, **environment})
    with patch("shared.bootstrap.services", lambda: services):
        answer = await ask(image, "GET", "/images", headers={**ADMIN, **headers})
    assert answer.json()["images"][0]["url"] == f"{begins}{stored.name}"


# -- signed addresses -------------------------------------------------------------------------------------------------


class TestSigned:
    @pytest.fixture
    def signing(self, s3_store: ObjectStore) -> ImageServices:
        return ImageServices(s3_store.url, IMAGE_URLS="signed")

    async def test_the_answer_is_an_address_at_the_bucket(self, signing: ImageServices) -> None:
        stored = await signing.put()
        answer = await signing.get(f"/image/{stored.name}", range="bytes=0-1")
        assert (answer.status, answer.body) == (302, b"")
        assert answer.headers["cache-control"] == "private, max-age=600"
        assert "X-Amz-Expires=900" in answer.headers["location"]
        async with aiohttp.ClientSession() as session, session.get(answer.headers["location"]) as followed:
            assert (followed.status, await followed.read()) == (200, DATA)
            assert followed.headers["content-type"] == "image/png"
            assert followed.headers["content-disposition"] == f'inline; filename="{stored.name}"'

    async def test_a_missing_image_has_no_address(self, signing: ImageServices) -> None:
        assert (await signing.get(f"/image/{MISSING}")).status == 404

    async def test_conditional_request_is_answered_here(self, signing: ImageServices) -> None:
        stored = await signing.put()
        etag = f'"{stored.sha256}"'
        assert (await signing.get(f"/image/{stored.name}", if_none_match=etag)).status == 304
        head = await signing.get(f"/image/{stored.name}", "HEAD")
        assert (head.status, head.headers["etag"], head.headers["content-length"]) == (200, etag, "1024")


async def test_missing_bucket_is_reported_when_deployed() -> None:
    env: dict[str, Any] = {**ENVIRONMENT, "K_SERVICE": "image", "GOOGLE_CLOUD_PROJECT": "p"}
    made = Services(Settings.from_environment(env))
    with pytest.raises(StorageUnavailable, match="STORAGE_URL"):
        _ = made.media
    await made.aclose()
