"""POST /image-analysis."""

from __future__ import annotations

import pytest

from tests.support.edge import FakeGateway, FakeServices
from tests.support.functions import called

PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNgAAAAAgABSK+kcQAAAABJRU5ErkJggg=="


async def test_a_question_about_an_image_is_sent_with_the_image() -> None:
    services = FakeServices(FakeGateway("One grey dot."))
    answer = await called("image_analysis", {"image": PIXEL, "prompt": "What is it?"}, services=services)
    assert (answer.status, answer.json()["text"]) == (200, "One grey dot.")
    (asked,) = services.gateway.asked
    image, question = asked.body["contents"][0]["parts"]
    assert image == {"inlineData": {"mimeType": "image/png", "data": PIXEL}}
    assert question == {"text": "What is it?"}


@pytest.mark.parametrize(
    ("field", "value"), [("image", ""), ("image", "not base64!"), ("mime_type", "image/gif"), ("prompt", " ")]
)
async def test_a_wrong_field_is_named(field: str, value: str) -> None:
    answer = await called("image_analysis", {"image": PIXEL, field: value})
    assert (answer.status, answer.error["details"]["field"]) == (400, field)
