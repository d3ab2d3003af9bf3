"""POST /generate over the whole path: images that open, partial success, limits of callers and of Gemini, bad input."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import io
import ssl
import struct
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import orjson
import pytest
from PIL import Image

from shared.emulator.config import Limits, Project
from shared.media import addresses, fetch
from shared.media.look_ups import Asker, LookUps
from tests.support.edge import ADMIN, Answer
from tests.support.https_site import certificate, https_site
from tests.support.whole_path import OWN_KEY, WholePath, eventually, text_of, told, whole_path

MODEL = "gemini-3-pro-image"


@pytest.fixture
def storage(tmp_path: Path) -> str:
    return f"file://{tmp_path}/storage"


def files_in(storage: str) -> list[Path]:
    return [file for file in Path(storage.removeprefix("file://")).rglob("*") if file.is_file()]


async def generate(path: WholePath, prompt: Any = "A lighthouse", headers: Any = ADMIN, **fields: Any) -> Answer:
    return await path.send("POST", "/generate", orjson.dumps({"prompt": prompt, **fields}), headers)


async def opened(path: WholePath, image: dict[str, Any]) -> Image.Image:
    """The stored image, fetched by its link and opened; it is all that the answer says of it."""
    assert image["url"] == f"http://127.0.0.1:{path.port}/image/{image['name']}"
    answer = await path.send("GET", f"/image/{image['name']}", headers={})
    assert (answer.status, answer.headers["content-type"]) == (200, image["mime_type"])
    assert (len(answer.body), hashlib.sha256(answer.body).hexdigest()) == (image["size_bytes"], image["sha256"])
    picture = Image.open(io.BytesIO(answer.body))
    picture.load()
    assert picture.size == (image["width"], image["height"])
    return picture


def png(width: int, height: int, *, bytes_of_pixels: int = 10) -> bytes:
    """A PNG that says it has so many pixels, whatever it holds."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(bytes(bytes_of_pixels))), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )


def base64_of(data: bytes) -> str:
    return base64.b64encode(data).decode()


class TestImages:
    async def test_a_prompt_is_enough(self, storage: str) -> None:
        async with whole_path(STORAGE_URL=storage) as path:
            answer = await generate(path)
            assert answer.status == 200, answer.body
            body = answer.json()
            assert (body["errors"], body["text"], body["model"]) == ([], "", MODEL)
            assert body["request_id"] == answer.headers["x-request-id"]
            (image,) = body["images"]
            assert "b64_json" not in image
            assert (await opened(path, image)).size == (1024, 1024)

    async def test_a_chinese_prompt_gives_an_image_that_opens(self, storage: str) -> None:
        async with whole_path(STORAGE_URL=storage) as path:
            (image,) = (await generate(path, "月光下的灯塔，油画")).json()["images"]
            await opened(path, image)

    async def test_four_images_are_four_requests(self, storage: str) -> None:
        """Each has the requested size, and the usage is their sum."""
        async with whole_path(STORAGE_URL=storage) as path:
            one = (await generate(path)).json()
            body = (await generate(path, number_of_images=4, aspect_ratio="16:9", image_size="2K")).json()
            assert [image["index"] for image in body["images"]] == [0, 1, 2, 3]
            assert len({image["name"] for image in body["images"]}) == 4
            assert len({image["sha256"] for image in body["images"]}) == 4, "four images, not one of them four times"
            for image in body["images"]:
                assert (await opened(path, image)).size == (2752, 1536)
            assert path.sent == 5
            assert body["usage"] == {name: 4 * tokens for name, tokens in one["usage"].items()}
            assert await path.dispatched() == 5

    async def test_b64_json_has_the_very_bytes_that_are_stored(self, storage: str) -> None:
        async with whole_path(STORAGE_URL=storage) as path:
            (image,) = (await generate(path, response_format="b64_json")).json()["images"]
            data = base64.b64decode(image["b64_json"])
            assert hashlib.sha256(data).hexdigest() == image["sha256"]
            await opened(path, image)

    async def test_stored_image_is_edited_by_name_or_url(self, storage: str) -> None:
        async with whole_path(STORAGE_URL=storage) as path:
            (first,) = (await generate(path, response_format="b64_json")).json()["images"]
            sent = [first["name"], first["url"], first["b64_json"], f"data:image/png;base64,{first['b64_json']}"]
            edited = []
            for one in sent:
                path.gemini.app.seeds.clear()
                edited += (await generate(path, "In winter", input_images=[one])).json()["images"]
            assert len({image["sha256"] for image in edited}) == 1, "each way leads to the same image"
            (without,) = (await generate(path, "In winter")).json()["images"]
            assert without["sha256"] != edited[0]["sha256"]

    async def test_a_caller_s_own_key_pays_for_them(self, storage: str) -> None:
        async with whole_path(STORAGE_URL=storage) as path:
            answer = await generate(path, headers={}, credentials={"gemini_api_key": OWN_KEY})
            assert (answer.status, path.sent_by_key[OWN_KEY]) == (200, 1)

    async def test_without_a_credential_only_where_the_operator_allows_it(self, storage: str) -> None:
        async with whole_path(STORAGE_URL=storage) as path:
            assert told(await generate(path, headers={})) == (401, "unauthorized")
        async with whole_path(STORAGE_URL=storage, ALLOW_ANONYMOUS="generate") as path:
            assert (await generate(path, headers={})).status == 200


class TestFailures:
    async def test_partial_failure_keeps_images_and_lists_errors(self, storage: str) -> None:
        async with whole_path(STORAGE_URL=storage) as path:
            path.gemini.inject("image_safety", 1)
            path.gemini.inject("no_image", 1)
            answer = await generate(path, number_of_images=4)
            body = answer.json()
            assert (answer.status, len(body["images"])) == (200, 2)
            assert sorted(error["code"] for error in body["errors"]) == ["empty_response", "response_blocked"]
            messages = " ".join(error["message"] for error in body["errors"])
            assert "IMAGE_SAFETY" in messages
            assert "NO_IMAGE" in messages
            named = [*(one["index"] for one in body["images"]), *(one["index"] for one in body["errors"])]
            assert sorted(named) == [0, 1, 2, 3]
            for image in body["images"]:
                await opened(path, image)

    @pytest.mark.parametrize(
        ("fault", "status", "code"),
        [
            ("image_safety", 502, "response_blocked"),
            ("no_image", 502, "empty_response"),
            ("text_only", 502, "empty_response"),
            ("image_cut", 502, "upstream_failed"),
            ("image_html", 502, "upstream_failed"),
            ("block", 400, "prompt_blocked"),
            ("400", 400, "rejected_by_gemini"),
        ],
    )
    async def test_if_all_failed_the_first_one_s_error_is_the_answer(
        self, storage: str, fault: str, status: int, code: str
    ) -> None:
        async with whole_path(STORAGE_URL=storage) as path:
            answer = await generate(path, f"[[fault:{fault}]]", number_of_images=2)
            assert told(answer) == (status, code)
            assert [error["index"] for error in answer.error["details"]["errors"]] == [0, 1]
            assert files_in(storage) == []

    async def test_image_in_the_url_safe_alphabet_is_stored_whole(self, storage: str) -> None:
        async with whole_path(STORAGE_URL=storage) as path:
            body = (await generate(path, "[[fault:image_base64url]]", number_of_images=2)).json()
            assert (len(body["images"]), body["errors"]) == (2, [])
            for image in body["images"]:
                assert (await opened(path, image)).size == (1024, 1024)

    @pytest.mark.parametrize("fault", ["image_cut", "image_html"])
    async def test_broken_image_is_an_error_of_its_own_and_paid_once(self, storage: str, fault: str) -> None:
        """Its tokens are counted like those of the others, it is asked for once, and no file of it is left."""
        async with whole_path(STORAGE_URL=storage) as path:
            one = (await generate(path)).json()
            path.gemini.inject(fault, 1)
            body = (await generate(path, number_of_images=3)).json()
            assert len(body["images"]) == 2
            (error,) = body["errors"]
            assert error["code"] == "upstream_failed"
            named = [*(image["index"] for image in body["images"]), error["index"]]
            assert sorted(named) == [0, 1, 2]
            assert body["usage"] == {name: 3 * tokens for name, tokens in one["usage"].items()}
            assert path.sent == 4
            # Each image has a file of attributes beside it.
            assert len(files_in(storage)) == 2 * 3

    async def test_text_instead_of_an_image_is_an_error(self, storage: str) -> None:
        async with whole_path(STORAGE_URL=storage) as path:
            answer = await generate(path, "[[fault:text_only]]")
            assert "I cannot draw that" in answer.error["message"]

    async def test_recovered_failure_is_not_reported(self, storage: str) -> None:
        async with whole_path(STORAGE_URL=storage) as path:
            path.gemini.inject("503", 2)
            body = (await generate(path, number_of_images=2)).json()
            assert (len(body["images"]), body["errors"], path.sent) == (2, [], 4)

    async def test_an_image_that_cannot_be_stored_is_in_the_answer(self, tmp_path: Path) -> None:
        (tmp_path / "storage").write_text("A file where the folder should be.")
        async with whole_path(STORAGE_URL=f"file://{tmp_path}/storage") as path:
            answer = await generate(path, number_of_images=2)
            body = answer.json()
            assert (answer.status, [error["code"] for error in body["errors"]]) == (200, ["storage_unavailable"] * 2)
            assert [error["index"] for error in body["errors"]] == [0, 1]
            for image in body["images"]:
                data = base64.b64decode(image["b64_json"])
                assert (image["url"], image["name"]) == (None, None)
                assert hashlib.sha256(data).hexdigest() == image["sha256"]
                assert Image.open(io.BytesIO(data)).size == (1024, 1024)

    async def test_a_caller_who_goes_stops_what_is_being_made(self, storage: str) -> None:
        async with whole_path(STORAGE_URL=storage) as path:
            task = asyncio.create_task(generate(path, "[[latency:60000]]", number_of_images=3))
            await eventually(lambda: path.open_upstream == 3)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await path.quiet()


class TestLimits:
    async def test_images_per_minute_are_limited(self, storage: str) -> None:
        law = Project(limits=Limits(ipm=3))
        async with whole_path(STORAGE_URL=storage, upstream=law, GEMINI_IPM=3, QUEUE_TIMEOUT_SECONDS=1) as path:
            body = (await generate(path, number_of_images=5)).json()
            assert len(body["images"]) == 3
            assert [error["code"] for error in body["errors"]] == ["queue_timeout", "queue_timeout"]
            assert path.gemini.stats()["refused"] == {}

    async def test_two_instances_share_images_per_minute(self, storage: str, tmp_path: Path) -> None:
        """Each with an upstream of its own, so that only the ledger can hold them together."""
        given = {
            "STORAGE_URL": storage,
            "LEDGER_URL": f"sqlite:///{tmp_path}/ledger.db",
            "GEMINI_IPM": 4,
            "QUEUE_TIMEOUT_SECONDS": 1,
            "LEDGER_WINDOW_SECONDS": 60,
        }
        async with whole_path(**given) as one, one_more(**given) as other:
            answers = await asyncio.gather(*(generate(path, number_of_images=4) for path in (one, other, one, other)))
            made = sum(len(answer.json().get("images", ())) for answer in answers)
            assert made == one.sent + other.sent == 4
            refused = [error["code"] for answer in answers for error in errors_of(answer)]
            assert refused == ["queue_timeout"] * 12

    async def test_a_text_model_does_not_take_of_the_images(self, storage: str) -> None:
        async with whole_path(STORAGE_URL=storage, GEMINI_IPM=1) as path:
            answers = await asyncio.gather(*(path.ask() for _ in range(5)))
            assert [answer.status for answer in answers] == [200] * 5

    async def test_input_images_are_counted_once_in_the_queue(self, storage: str) -> None:
        """Eight requests with 0.9 MB each may wait where 1 MB may: they have the same bytes."""
        large = base64_of(png(2, 2) + bytes(675_000))
        async with whole_path(STORAGE_URL=storage, QUEUE_MAX_MB=1, GEMINI_CONCURRENCY_LIMIT=1) as path:
            body = (await generate(path, number_of_images=8, input_images=[large])).json()
            assert (len(body["images"]), body["errors"]) == (8, [])

    async def test_zero_image_limit_is_rejected_at_once(self, storage: str) -> None:
        async with whole_path(STORAGE_URL=storage, GEMINI_IPM=0) as path:
            answer = await generate(path)
            assert told(answer) == (400, "cost_exceeds_limit")
            assert "images per minute" in answer.error["message"]

    async def test_a_caller_s_rate_holds_over_two_instances(self, storage: str, tmp_path: Path) -> None:
        given = {
            "STORAGE_URL": storage,
            "LEDGER_URL": f"sqlite:///{tmp_path}/ledger.db",
            "RATE_LIMIT_PER_MINUTE": 3,
            "LEDGER_WINDOW_SECONDS": 60,
        }
        async with whole_path(**given) as one, one_more(**given) as other:
            answers = await asyncio.gather(*(generate(path) for path in (one, other) * 3))
            assert sorted(answer.status for answer in answers) == [200] * 3 + [429] * 3
            assert one.sent + other.sent == 3
            refused = [answer for answer in answers if answer.status == 429]
            for answer in refused:
                assert told(answer) == (429, "rate_limited")
                assert 1 <= int(answer.headers["retry-after"]) <= 60
            assert (await generate(one, headers={**ADMIN, "x-caller-id": "another"})).status == 200
            assert (await generate(other, number_of_images=0)).status == 429, "a request counts before its body is read"


def errors_of(answer: Answer) -> list[Any]:
    body = answer.json()
    return body["errors"] if "errors" in body else body["error"]["details"]["errors"]


one_more = whole_path
"""A second instance, as another process of the deployment would be."""


class TestBadInput:
    @pytest.mark.parametrize("number", [0, 9, -1, 1.5, "two", True, None])
    async def test_a_number_of_images_that_cannot_be_is_refused(self, storage: str, number: Any) -> None:
        await refused(storage, "number_of_images", "must be a whole number from 1 to 8", number_of_images=number)

    @pytest.mark.parametrize("name", ["aspect_ratio", "image_size", "response_format"])
    async def test_a_choice_that_there_is_not_is_refused(self, storage: str, name: str) -> None:
        await refused(storage, name, "must be", **{name: "enormous"})

    async def test_a_model_that_makes_no_images_is_refused(self, storage: str) -> None:
        await refused(
            storage, "model", "does not generate images; use one of gemini-3-pro-image", model="gemini-3.8-flash"
        )

    async def test_more_images_than_a_model_takes_are_refused(self, storage: str) -> None:
        await refused(storage, "input_images", "at most 14 entries", input_images=[base64_of(png(1, 1))] * 15)

    @pytest.mark.parametrize(
        ("sent", "words"),
        [
            ("hello!", "it may also be a data URL, the name"),
            ("data:image/png,hello", "data:image/png;base64,<data>"),
            (base64_of(b"hello"), "is text and not an image"),
            (base64_of(b"<!doctype html><p>Sign in"), "is an HTML page"),
            (base64_of(png(9, 9)[:-1]), "is a PNG that is damaged or cut off"),
            (base64_of(b"<svg xmlns='http://www.w3.org/2000/svg'></svg>"), "is an SVG"),
            (base64_of(b"<?xml version='1.0'?><svg/>"), "is an SVG"),
            (f"data:image/png;base64,{base64_of(b'GIF89a' + bytes(20))}", "is a GIF"),
            (base64_of(png(30_000, 30_000, bytes_of_pixels=10_000_000)), "has 30000 x 30000 pixels"),
            (base64_of(png(100, 100)[:20]), "its header is unreadable"),
            (base64_of(png(0, 5)), "its header is unreadable"),
            (base64_of(png(1, 1) + bytes(7 * 2**20)), "is larger than 7 MB"),
            ("0" * 44 + ".png", "is not the name of a stored image"),
            ("http://images.example/a.png", "send an https URL"),
            ("file:///etc/passwd", "nothing else is fetched"),
            ("ftp://images.example/a.png", "nothing else is fetched"),
            ("https://169.254.169.254/computeMetadata/v1/", "not at a public address"),
            ("https://localhost/a.png", "not at a public address"),
            ("https://[::ffff:127.0.0.1]/a.png", "not at a public address"),
            ("https://2130706433/a.png", "not at a public address"),
            ("https://xn--/a.png", "unknown or not at a public address"),
            ("https://user:password@images.example/a.png", "contains credentials"),
        ],
        ids=lambda value: str(value)[:40],
    )
    async def test_an_input_image_that_is_none_is_refused(self, storage: str, sent: str, words: str) -> None:
        await refused(storage, "input_images[0]", words, input_images=[sent])

    async def test_more_bytes_than_the_platform_lets_through_are_refused(self, storage: str) -> None:
        async with whole_path(STORAGE_URL=storage) as path:
            answer = await generate(path, "x" * (33 * 2**20))
            assert told(answer) == (413, "payload_too_large")
            assert path.sent == 0


@contextmanager
def internet(folder: Path, hosts: dict[str, str]) -> Iterator[dict[str, Path]]:
    """Lets the gateway find `hosts` at their addresses, take 127.0.0.2 for a public one, and trust the certificates
    that it yields. Everything else is as it is."""
    certificates = {host: certificate(host, folder) for host in (*hosts, "localhost")}
    tls = ssl.create_default_context()
    for file in certificates.values():
        tls.load_verify_locations(file)

    async def resolve(host: str, port: int) -> Sequence[str]:
        return [hosts[host]] if host in hosts else await LookUps().resolve(Asker("a test", False), host, port)

    def is_public(address: str) -> bool:
        return address == OUT_THERE or addresses.is_public(address)

    made = partial(fetch.Fetcher, resolve=resolve, is_public=is_public, tls=tls)
    with patch("shared.media.fetch.Fetcher", lambda _, hold: made(hold=hold)):
        yield certificates


OUT_THERE = "127.0.0.2"


class TestFetchedInputs:
    async def test_an_image_at_a_public_address_is_edited(self, storage: str, tmp_path: Path) -> None:
        with internet(tmp_path, {"images.example": OUT_THERE}) as certificates:
            async with (
                https_site(OUT_THERE, certificates["images.example"]) as site,
                whole_path(STORAGE_URL=storage) as path,
            ):
                site.pages["/a.png"] = png(3, 2)
                url = f"https://images.example:{site.port}/a.png"
                fetched = (await generate(path, "In winter", input_images=[url])).json()["images"][0]
                path.gemini.app.seeds.clear()
                sent = (await generate(path, "In winter", input_images=[base64_of(png(3, 2))])).json()["images"][0]
                assert fetched["sha256"] == sent["sha256"]
                assert [asked for asked, _ in site.asked] == ["/a.png"]

    async def test_fetched_bytes_count_in_the_byte_budget(self, storage: str, tmp_path: Path) -> None:
        with internet(tmp_path, {"images.example": OUT_THERE}) as certificates:
            async with (
                https_site(OUT_THERE, certificates["images.example"]) as site,
                whole_path(STORAGE_URL=storage, QUEUE_MAX_MB=1) as path,
            ):
                site.pages["/a.png"] = bytes(2_000_000)
                answer = await generate(path, input_images=[f"https://images.example:{site.port}/a.png"])
                assert told(answer) == (503, "queue_full")
                assert path.sent == 0
                assert "image" in text_of(await path.ask("image"))

    async def test_a_redirect_to_this_machine_is_refused_and_not_followed(self, storage: str, tmp_path: Path) -> None:
        """Nothing but the refusal stands between the two: the second site would answer, with an image."""
        with internet(tmp_path, {"images.example": OUT_THERE}) as certificates:
            async with (
                https_site(OUT_THERE, certificates["images.example"]) as first,
                https_site("127.0.0.1", certificates["localhost"]) as second,
                whole_path(STORAGE_URL=storage) as path,
            ):
                second.pages["/a.png"] = png(3, 2)
                first.pages["/moved"] = f"https://localhost:{second.port}/a.png"
                answer = await generate(path, input_images=[f"https://images.example:{first.port}/moved"])
                assert told(answer) == (400, "invalid_request")
                assert answer.error["details"]["field"] == "input_images[0]"
                assert "not at a public address" in answer.error["message"]
                assert ([asked for asked, _ in first.asked], second.asked) == (["/moved"], [])
                assert (path.sent, files_in(storage)) == (0, [])


async def refused(storage: str, field: str, words: str, **fields: Any) -> None:
    """Told by the field's name; nothing is sent to Gemini, and nothing stored."""
    async with whole_path(STORAGE_URL=storage) as path:
        answer = await generate(path, **fields)
        assert told(answer) == (400, "invalid_request"), answer.body
        assert answer.error["details"]["field"] == field
        assert words in answer.error["message"]
        assert (path.sent, files_in(storage)) == (0, [])
