"""Images side by side: none that was paid for is lost, whatever else fails; and what an answer has room for."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import tracemalloc
from typing import Any
from unittest.mock import patch

import orjson
import pytest
from starlette.requests import Request
from starlette.responses import StreamingResponse

from functions.generate.answer import answer
from functions.generate.main import generate
from shared.clock import elapsed_s
from shared.errors import EmptyResponse, ResponseBlocked, StorageUnavailable, UpstreamFailed
from shared.gemini import encoding
from shared.generation import RateLimit, RateStatus, Timeline, TimeSpan
from shared.http.call import Call
from shared.images import generation as image_generation
from shared.images.generation import GeneratedImage, ImageRequest, ImageResult, generate_images
from shared.media import input_image
from shared.media.input_image import InputImage
from tests.support.edge import ADMIN, FakeGateway, FakeMedia, FakeServices, ask
from tests.support.image_samples import written

NOISE = written("PNG", (64, 64))
PNG = base64.b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNgAAAAAgABSK+kcQAAAABJRU5ErkJggg==")
MODEL = "gemini-3-pro-image"


def part(data: bytes, mime_type: str = "image/png", **more: Any) -> dict[str, Any]:
    return {"inlineData": {"mimeType": mime_type, "data": base64.b64encode(data).decode()}, **more}


def body(*parts: dict[str, Any], reason: str = "STOP") -> dict[str, Any]:
    return {"candidates": [{"content": {"role": "model", "parts": list(parts)}, "finishReason": reason}]}


def call_for(says: Any) -> tuple[Call, FakeServices]:
    services = FakeServices(FakeGateway(says))
    scope = {"type": "http", "method": "POST", "path": "/generate", "headers": [(b"host", b"h:1")], "scheme": "http"}
    request = Request({**scope, "query_string": b"", "server": ("h", 1)})
    return Call(request, services, elapsed_s()), services  # type: ignore[arg-type]


async def made_of(says: Any, media: FakeMedia | None = None, **asked: Any) -> ImageResult:
    call, services = call_for(says)
    return await generated(call, ImageRequest("A cat", MODEL, **asked), lambda: media or services.media)


async def generated(call: Call, request: ImageRequest, store: Any) -> ImageResult:
    return await generate_images(call.generator, request, store, call.work, call.public_error, call.request_id)


async def test_what_is_asked_of_gemini_is_an_image_and_nothing_else() -> None:
    call, services = call_for(body(part(PNG)))
    asked = ImageRequest(
        "A cat",
        MODEL,
        2,
        aspect_ratio="16:9",
        image_size="2K",
        system_prompt="Be bold.",
        inputs=[InputImage("image/png", PNG)],
    )
    await generated(call, asked, lambda: services.media)
    first, second = services.gateway.asked
    assert first.body == second.body
    assert first.body["generationConfig"] == {
        "responseModalities": ["IMAGE"],
        "imageConfig": {"aspectRatio": "16:9", "imageSize": "2K"},
    }
    assert first.body["contents"][0]["parts"] == [part(PNG), {"text": "A cat"}]
    assert first.body["systemInstruction"] == {"parts": [{"text": "Be bold."}]}


async def test_type_and_size_are_read_from_the_file() -> None:
    (image,) = (await made_of(body(part(PNG, "image/jpeg")))).images
    assert (image.mime_type, image.width, image.height) == ("image/png", 1, 1)


def blob(text: str, mime_type: str = "image/png") -> dict[str, Any]:
    return {"inlineData": {"mimeType": mime_type, "data": text}}


@pytest.mark.parametrize(
    "text",
    [
        base64.urlsafe_b64encode(NOISE).decode(),
        base64.urlsafe_b64encode(NOISE).decode().rstrip("="),
        base64.b64encode(NOISE).decode().rstrip("="),
        base64.encodebytes(NOISE).decode(),
        f"data:image/png;base64,{base64.b64encode(NOISE).decode()}",
    ],
    ids=["URL-safe", "URL-safe, unpadded", "unpadded", "in lines", "data URL"],
)
async def test_image_in_any_base64_is_stored_byte_for_byte(text: str) -> None:
    media = FakeMedia()
    (image,) = (await made_of(body(blob(text)), media)).images
    assert (image.mime_type, image.size_bytes) == ("image/png", len(NOISE))
    assert [*media.images.values()] == [NOISE]


BROKEN = {
    "cut": (part(NOISE[: len(NOISE) // 2]), "'image/png' of .* a damaged or incomplete image/png .*89 50 4e 47"),
    "cut text": (blob(base64.b64encode(NOISE).decode()[:-3]), "its length is wrong"),
    "HTML": (part(b"<html>502 Bad Gateway</html>"), "not a known image: text/html .*3c 68 74 6d 6c"),
    "JSON": (part(b'{"error": 1}'), "not a known image: application/json"),
    "a format that is not known": (part(b"\x8asomething new\0", "image/new"), "'image/new' of .* not a known image"),
    "no bytes": (blob("data:image/png;base64,"), "0 bytes"),
    "no type": ({"inlineData": {"data": "AAAA"}}, "a file without a type"),
    "mixed alphabets": (blob("+_AA"), "one base64 alphabet"),
}
"""What may come in an image's place, and what is said of it."""


@pytest.mark.parametrize("name", BROKEN)
async def test_what_is_not_a_whole_image_is_an_error_and_not_stored(name: str) -> None:
    broken, words = BROKEN[name]
    media = FakeMedia()
    with pytest.raises(UpstreamFailed, match=words):
        await made_of(body(broken), media)
    assert media.images == {}


@pytest.mark.parametrize("name", BROKEN)
async def test_broken_image_costs_no_other_one(name: str) -> None:
    """Neither one of the same answer nor one of another request; the error names the request."""
    media = FakeMedia()
    made = await made_of(body(part(PNG), BROKEN[name][0]), media, count=2)
    assert [(image.number, image.size_bytes) for image in made.images] == [(0, len(PNG)), (1, len(PNG))]
    assert [(failure.number, failure.error.code) for failure in made.failures] == [
        (0, "upstream_failed"),
        (1, "upstream_failed"),
    ]
    assert [*media.images.values()] == [PNG, PNG]


async def test_every_image_of_an_answer_is_kept_but_not_its_drafts() -> None:
    made = await made_of(body(part(b"draft", thought=True), part(PNG), {"text": "Two of them."}, part(PNG + b"2")))
    assert [image.size_bytes for image in made.images] == [len(PNG), len(PNG) + 1]
    assert made.text == "Two of them."


@pytest.mark.parametrize(
    ("says", "error", "words"),
    [
        (body(reason="IMAGE_SAFETY"), ResponseBlocked, "IMAGE_SAFETY"),
        (body(reason="IMAGE_PROHIBITED_CONTENT"), ResponseBlocked, "withheld"),
        (body(reason="NO_IMAGE"), EmptyResponse, "NO_IMAGE"),
        (body(reason="MAX_TOKENS"), EmptyResponse, "MAX_TOKENS"),
        (body({"text": "I would rather write."}), EmptyResponse, "I would rather write."),
        (body({"inlineData": {"mimeType": "image/png", "data": 5}}), EmptyResponse, "STOP"),
        ({}, EmptyResponse, "missing"),
    ],
)
async def test_an_answer_without_an_image_is_an_error_with_its_reason(says: Any, error: type, words: str) -> None:
    with pytest.raises(error, match=words):
        await made_of(says)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (StorageUnavailable("The bucket is gone."), "The bucket is gone."),
        (RuntimeError("a defect that quotes a prompt"), "the storage failed"),
    ],
)
async def test_an_image_that_cannot_be_stored_is_handed_back(
    error: Exception, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    media = FakeMedia()
    media.error = error
    made = await made_of(body(part(PNG)), media, count=2)
    assert [(image.name, image.data) for image in made.images] == [(None, PNG)] * 2
    assert [(failure.number, failure.error.code) for failure in made.failures] == [
        (0, "storage_unavailable"),
        (1, "storage_unavailable"),
    ]
    assert words in made.failures[0].error.message
    logged = capsys.readouterr().out
    assert ("Unexpected RuntimeError" in logged) == isinstance(error, RuntimeError)
    assert "quotes a prompt" not in logged


async def test_no_storage_at_all_is_the_same() -> None:
    call, _ = call_for(body(part(PNG)))

    def none() -> Any:
        raise StorageUnavailable("No storage is configured.")

    made = await generated(call, ImageRequest("A cat", MODEL), none)
    assert made.images[0].data == PNG


async def test_a_defect_in_one_request_costs_no_other_its_image(capsys: pytest.CaptureFixture[str]) -> None:
    call, services = call_for(body(part(PNG)))
    generate = services.gateway.generate

    async def sometimes(generation: Any) -> Any:
        if len(services.gateway.asked) == 1:
            services.gateway.asked.append(generation)
            raise ZeroDivisionError
        return await generate(generation)

    services.gateway.generate = sometimes  # type: ignore[method-assign]
    made = await generated(call, ImageRequest("A cat", MODEL, 3), lambda: services.media)
    assert len(made.images) == 2
    assert [(failure.number, failure.error.code) for failure in made.failures] == [(1, "internal_error")]
    assert "ZeroDivisionError" in capsys.readouterr().out


async def test_image_is_stored_despite_a_disconnect() -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()

    class Slow(FakeMedia):
        async def put_image(self, *args: Any, **rest: Any) -> Any:
            begun.set()
            await go_on.wait()
            return await super().put_image(*args, **rest)

    media = Slow()
    task = asyncio.create_task(made_of(body(part(PNG), part(PNG + b"2")), media))
    await begun.wait()
    task.cancel()
    await asyncio.sleep(0)
    go_on.set()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    assert task.cancelled()
    assert [*media.images.values()] == [PNG, PNG + b"2"], "the one being stored, and the one after it"


async def test_encoded_request_is_freed_while_gemini_works() -> None:
    """The decoded image, in the one module that decodes. The buffer of the encoded body, which orjson reserves many times
    too large, and the base64 in the body that is sent are not counted."""
    data = PNG + bytes(6 * 2**20)
    held: list[int] = []

    class Watched(FakeGateway):
        async def generate(self, generation: Any) -> Any:
            if not tracemalloc.is_tracing():
                return await super().generate(generation)
            found = tracemalloc.take_snapshot().filter_traces(
                [*(tracemalloc.Filter(False, module.__file__) for module in (encoding, image_generation, input_image))]
            )
            held.append(sum(one.size for one in found.statistics("filename")))
            return await super().generate(generation)

    services = FakeServices(Watched(body(part(PNG))))
    sent = {"prompt": "A cat", "number_of_images": 8, "input_images": [base64.b64encode(data).decode()]}
    content = [orjson.dumps(sent)[at : at + 2**16] for at in range(0, 9 * 2**20, 2**16)]
    with patch("shared.bootstrap.services", lambda: services):
        # The modules that a first request loads are not counted.
        first = {"prompt": "A cat", "input_images": [base64.b64encode(NOISE).decode()]}
        await ask(generate, path="/", json=first, headers=ADMIN)
        tracemalloc.start()
        try:
            answer = await ask(
                generate, path="/", content=content, headers={**ADMIN, "content-type": "application/json"}
            )
        finally:
            tracemalloc.stop()
    assert (answer.status, len(held)) == (200, 8)
    assert len(data) < max(held) < 1.5 * len(data)


def image_of(number: int, size_bytes: int, name: str | None) -> GeneratedImage:
    return GeneratedImage(number, "image/png", 1, 1, size_bytes, "0" * 64, name, bytes(size_bytes))


def test_image_without_room_is_returned_as_url() -> None:
    call, _ = call_for("")
    images = [image_of(0, 300, "a.png"), image_of(1, 900, "b.png"), image_of(2, 300, None), image_of(3, 150, "d.png")]
    shown = answer(call, ImageResult(images, [], "", MODEL), max_bytes=1_000)
    assert isinstance(shown, dict)
    assert ["b64_json" in image for image in shown["images"]] == [True, False, True, True]
    (error,) = shown["errors"]
    assert (error["index"], error["code"]) == (1, "answer_too_large")
    assert shown["images"][1]["url"] == "http://h:1/image/b.png"
    assert sum(len(image.get("b64_json", "")) for image in shown["images"]) <= 1_000


async def test_unstored_images_are_always_in_the_answer() -> None:
    call, _ = call_for("")
    images = [image_of(0, 3_000_000, None), image_of(1, 3_000_000, "b.png")]
    shown = answer(call, ImageResult(images, [], "", MODEL), max_bytes=1_000)
    assert isinstance(shown, StreamingResponse)
    chunks = [chunk async for chunk in shown.body_iterator]
    assert len(chunks) > 3
    told = orjson.loads(b"".join(chunks))  # type: ignore[arg-type]
    assert [len(image.get("b64_json", "")) for image in told["images"]] == [4_000_000, 0]


async def test_response_reports_the_tightest_limits() -> None:
    """Whichever of the request's generations ended last."""
    services = FakeServices(FakeGateway(body(part(PNG))))
    services.gateway.rates = [
        RateStatus(RateLimit(300, 298, 59.0), RateLimit(1_000, 10, 59.0)),
        RateStatus(RateLimit(300, 5, 58.0), RateLimit(1_000, 900, 58.0)),
        RateStatus(RateLimit(300, 290, 60.0)),
    ]
    with patch("shared.bootstrap.services", lambda: services):
        answer = await ask(generate, path="/", json={"prompt": "A cat", "number_of_images": 3}, headers=ADMIN)
    assert {name: value for name, value in answer.headers.items() if name.startswith("x-ratelimit-")} == {
        "x-ratelimit-limit-requests": "300",
        "x-ratelimit-remaining-requests": "5",
        "x-ratelimit-reset-requests": "58.000s",
        "x-ratelimit-limit-tokens": "1000",
        "x-ratelimit-remaining-tokens": "10",
        "x-ratelimit-reset-tokens": "59.000s",
    }


def test_overlapping_waits_count_once() -> None:
    timeline = Timeline(waits=[TimeSpan(1, 3), TimeSpan(2, 5), TimeSpan(2.5, 4), TimeSpan(7, 8)])
    assert timeline.queue_s == 5
