"""POST /translation."""

from __future__ import annotations

import pytest

from tests.support.edge import FakeGateway, FakeServices
from tests.support.functions import called

BODY = {"text": "Good morning.", "target_language": "Chinese"}


async def test_a_text_is_answered_in_the_language() -> None:
    services = FakeServices(FakeGateway("早上好。"))
    answer = await called("translation", {**BODY, "source_language": "English"}, services=services)
    assert (answer.status, answer.json()["text"]) == (200, "早上好。")
    (asked,) = services.gateway.asked
    assert asked.model == "gemini-3.8-flash"
    assert asked.body["contents"] == [{"role": "user", "parts": [{"text": "Good morning."}]}]
    assert "from English into Chinese" in asked.body["systemInstruction"]["parts"][0]["text"]


@pytest.mark.parametrize("field", ["text", "target_language", "source_language"])
async def test_a_blank_field_is_named(field: str) -> None:
    answer = await called("translation", {**BODY, field: " "})
    assert (answer.status, answer.error["details"]["field"]) == (400, field)
