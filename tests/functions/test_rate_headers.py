"""The headers that every generated response carries."""

from __future__ import annotations

import pytest

from tests.support.whole_path import whole_path


async def test_headers_report_limits_and_model() -> None:
    async with whole_path(GEMINI_RPM="300", GEMINI_TPM="unlimited") as path:
        window_s = path.services.settings.window_s
        headers = (await path.ask(model="gemini-1.5-flash-latest")).headers
    assert headers["x-ratelimit-limit-requests"] == "300"
    assert int(headers["x-ratelimit-remaining-requests"]) == 299
    assert float(headers["x-ratelimit-reset-requests"].removesuffix("s")) == pytest.approx(window_s, abs=1)
    assert not [name for name in headers if name.endswith("-tokens")]
    assert (headers["x-model-requested"], headers["x-model-used"]) == ("gemini-1.5-flash-latest", "gemini-3.8-flash")
