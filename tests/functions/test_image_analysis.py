"""POST /image-analysis."""

from __future__ import annotations

import base64

import pytest

from tests.support.edge import FakeGateway, FakeServices
from tests.support.functions import called
from tests.support.image_samples import SAMPLES, written

PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNgAAAAAgABSK+kcQAAAABJRU5ErkJggg=="
JPEG = written("JPEG")


def encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()


async def sent_for(**fields: str) -> list[dict[str, object]]:
    """The parts that Gemini is asked with."""
    services = FakeServices(FakeGateway("One grey dot."))
    answer = await called("image_analysis", {"prompt": "What is it?", **fields}, services=services)
    assert (answer.status, answer.json()["text"]) == (200, "One grey dot.")
    (asked,) = services.gateway.asked
    parts: list[dict[str, object]] = asked.body["contents"][0]["parts"]
    return parts


async def test_a_question_about_an_image_is_sent_with_the_image() -> None:
    image, question = await sent_for(image=PIXEL)
    assert image == {"inlineData": {"mimeType": "image/png", "data": PIXEL}}
    assert question == {"text": "What is it?"}


@pytest.mark.parametrize("name", [name for name in SAMPLES if not name.startswith(("GIF", "AVIF", "BMP"))])
@pytest.mark.parametrize("declared", [{}, {"mime_type": "image/png"}, {"mime_type": "text/html"}])
async def test_type_is_that_of_the_bytes(name: str, declared: dict[str, str]) -> None:
    mime_type, data = SAMPLES[name]
    image, _ = await sent_for(image=encoded(data), **declared)
    assert image == {"inlineData": {"mimeType": mime_type, "data": encoded(data)}}


@pytest.mark.parametrize(
    "text",
    [
        base64.urlsafe_b64encode(JPEG).decode().rstrip("="),
        base64.encodebytes(JPEG).decode(),
        f"data:image/png;base64,{encoded(JPEG)}",
    ],
    ids=["URL-safe", "in lines", "data URL"],
)
async def test_image_in_any_base64_is_sent_as_standard_base64(text: str) -> None:
    image, _ = await sent_for(image=text)
    assert image == {"inlineData": {"mimeType": "image/jpeg", "data": encoded(JPEG)}}


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("image", "", "is empty"),
        ("image", "not base64!", "must be base64"),
        ("image", "data:image/png,x", "must be in base64"),
        ("image", encoded(b"<html>Sign in</html>"), "is an HTML page and not an image"),
        ("image", encoded(SAMPLES["GIF"][1]), "is a GIF, which Gemini does not support"),
        ("image", encoded(JPEG[:-2]), "is a JPEG that is damaged or cut off"),
        ("image", PIXEL[:-4], "is a PNG that is damaged or cut off"),
        ("mime_type", 5, "must be a string"),
        ("prompt", " ", "is empty"),
    ],
    ids=lambda value: str(value)[-30:],
)
async def test_a_wrong_field_is_named(field: str, value: object, words: str) -> None:
    answer = await called("image_analysis", {"image": PIXEL, field: value})
    assert (answer.status, answer.error["details"]["field"]) == (400, field)
    assert words in answer.error["message"]
