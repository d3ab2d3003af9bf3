"""Images by OpenAI's API: what was paid for is returned, whatever else fails."""

from __future__ import annotations

import base64
from typing import Any

from shared.errors import StorageUnavailable
from tests.bad_input.cases import FORM, PIXEL, form
from tests.support.edge import Answer, FakeGateway, FakeServices
from tests.support.functions import called

PNG = base64.b64decode(PIXEL)
IMAGE = {"candidates": [{"content": {"parts": [{"inlineData": {"mimeType": "image/png", "data": PIXEL}}]}}]}
GENERATIONS, EDITS = "/v1/images/generations", "/v1/images/edits"


async def generated(services: FakeServices, **fields: Any) -> Answer:
    return await called("openai_api", {"prompt": "A lighthouse", **fields}, services=services, path=GENERATIONS)


async def test_image_that_cannot_be_stored_is_in_the_answer() -> None:
    """Also if only URLs are asked for."""
    services = FakeServices(FakeGateway(IMAGE))
    services.stored.error = StorageUnavailable("The disk is full.")
    answer = await generated(services, response_format="url")
    (image,) = answer.json()["data"]
    assert (answer.status, image["url"]) == (200, None)
    assert base64.b64decode(image["b64_json"]) == PNG
    assert [error["code"] for error in answer.json()["errors"]] == ["storage_unavailable"]


async def test_size_is_sent_as_ratio_and_resolution() -> None:
    services = FakeServices(FakeGateway(IMAGE))
    assert (await generated(services, size="2560x1440", n=2)).status == 200
    configs = [generation.body["generationConfig"] for generation in services.gateway.asked]
    assert (
        configs
        == [
            {"responseModalities": ["IMAGE"], "imageConfig": {"aspectRatio": "16:9", "imageSize": "2K"}},
        ]
        * 2
    )


async def test_edit_sends_the_images_before_the_prompt() -> None:
    services = FakeServices(FakeGateway(IMAGE))
    content = form({"prompt": "Rain", "image": PNG, "image[]": PNG})
    answer = await called("openai_api", None, services=services, path=EDITS, content=content, headers=FORM)
    assert answer.status == 200, answer.body
    (generation,) = services.gateway.asked
    inline = {"inlineData": {"mimeType": "image/png", "data": PIXEL}}
    assert generation.body["contents"][0]["parts"] == [inline, inline, {"text": "Rain"}]


async def test_text_model_is_refused_by_name() -> None:
    services = FakeServices(FakeGateway(IMAGE))
    answer = await generated(services, model="gemini-3.8-flash")
    assert (answer.status, answer.error["param"]) == (400, "model")
    assert services.gateway.asked == []
