"""Google's error inside another error: as gateways on its SDKs, proxies and OpenRouter hand it on."""

from __future__ import annotations

import orjson
import pytest

from shared.emulator import error_faults
from shared.gemini.errors import MAX_MESSAGE_CHARS, Violation, read_error_frame, read_failure
from tests.support.google_errors import FREE_TEXT, HELP, quota, retry, violation

DAY = Violation("requests", "day", 20, "m")
DETAILS = [
    HELP,
    quota(
        violation("generate_content_free_tier_requests", "GenerateRequestsPerDayPerProjectPerModel-FreeTier", "20", "m")
    ),
    retry("2s"),
]
GOOGLE = {"error": {"code": 429, "message": FREE_TEXT, "status": "RESOURCE_EXHAUSTED", "details": DETAILS}}
TEXT = orjson.dumps(GOOGLE, option=orjson.OPT_INDENT_2).decode()
URL = "https://generativelanguage.googleapis.com/v1beta/models/m:generateContent"


def inside(text: str, **more: object) -> dict:
    return {"error": {"message": text, "code": 429, "status": "Too Many Requests", **more}}


def dumps(value: object) -> str:
    return orjson.dumps(value).decode()


WRAPPINGS = {
    "as text": inside(TEXT),
    "as text in a line": inside(dumps(GOOGLE)),
    "twice": inside(dumps(inside(TEXT))),
    "three times": inside(dumps(inside(dumps(inside(TEXT))))),
    "in an array": [inside(TEXT)],
    "array in a message": inside(dumps([GOOGLE])),
    "error alone in a message": inside(dumps(GOOGLE["error"])),
    "error is a text": {"error": TEXT},
    "error in an error": {"error": {"error": GOOGLE["error"]}},
    "message is an object": {"error": {"message": GOOGLE}},
    "OpenRouter": {"error": {"message": "Provider returned error", "code": 429, "metadata": {"raw": TEXT}}},
    "no code outside": {"error": {"message": TEXT, "type": "upstream_error"}},
    "status prefix": inside(f"[429 Too Many Requests] {dumps(GOOGLE)}"),
    "got status": inside(f"got status: 429 Too Many Requests. {dumps(GOOGLE)}"),
    "named error": inside(f"ApiError: {dumps(GOOGLE)}"),
    "LiteLLM": inside(f"litellm.RateLimitError: VertexAIException - {dumps(GOOGLE)}"),
    "Node SDK": inside(
        f"[GoogleGenerativeAI Error]: Error fetching from {URL}: [429 Too Many Requests] {FREE_TEXT} {dumps(DETAILS)}"
    ),
    "Python SDK": inside(f"429 RESOURCE_EXHAUSTED. {GOOGLE!r}"),
    "prefix twice": inside(f"[429 Too Many Requests] {dumps(inside(f'ClientError: {TEXT}'))}"),
}


@pytest.mark.parametrize("wrapping", WRAPPINGS)
@pytest.mark.parametrize("status", [429, 500, 502])
def test_error_inside_an_error_is_that_error(wrapping: str, status: int) -> None:
    found = read_failure(status, orjson.dumps(WRAPPINGS[wrapping]), {})
    assert (found.kind, found.status, found.violations, found.retry_delay_s) == ("quota", 429, (DAY,), 2)
    assert found.message == FREE_TEXT.strip()


@pytest.mark.parametrize("wrapping", [name for name, body in WRAPPINGS.items() if isinstance(body, dict)])
def test_error_inside_a_frame(wrapping: str) -> None:
    frame = WRAPPINGS[wrapping]
    assert isinstance(frame, dict)
    assert read_error_frame(frame, {}).violations == (DAY,)


@pytest.mark.parametrize("body", [TEXT, dumps(TEXT), f"[429 Too Many Requests] {dumps(GOOGLE)}", f"\ufeff{TEXT}"])
def test_body_that_is_the_error_as_a_text(body: str) -> None:
    assert read_failure(429, body.encode(), {}).violations == (DAY,)


def test_status_of_the_body_holds_where_a_proxy_answers_500() -> None:
    assert read_failure(502, orjson.dumps(GOOGLE), {}).kind == "quota"
    assert read_failure(400, orjson.dumps(GOOGLE), {}).kind == "bad_request"


def test_prefix_without_json() -> None:
    prefix = f"[GoogleGenerativeAI Error]: Error fetching from {URL}: [400 Bad Request]"
    text = f"{prefix} User location is not supported for the API use."
    found = read_failure(500, orjson.dumps({"error": {"message": text}}), {})
    assert (found.kind, found.status) == ("restricted", 400)


def test_deeper_than_the_bound_is_the_outer_error() -> None:
    body = TEXT
    for _ in range(8):
        body = dumps(inside(body))
    found = read_failure(429, body.encode(), {})
    assert (found.kind, found.status) == ("pressure", 429)
    assert len(found.message) <= MAX_MESSAGE_CHARS


@pytest.mark.parametrize(
    "text", ["{", "{'a'", "{" * 5000, "[{" * 5000, "{'a': " * 3000, '[429 x] [{"@type"', "429 x. {" + "-" * 9000]
)
def test_broken_text_is_a_message(text: str) -> None:
    assert read_failure(429, orjson.dumps(inside(text)), {}).kind == "pressure"


def test_plain_text_is_shown() -> None:
    found = read_failure(429, b"You exceeded your current quota, please check your plan.", {})
    assert (found.kind, found.violations) == ("quota", (Violation("other", "other"),))
    assert "check your plan" in found.message


@pytest.mark.parametrize("fault", sorted(error_faults.REJECTIONS))
def test_offline_gemini_says_what_is_read(fault: str) -> None:
    """What each refusal of the offline Gemini's faults is read as."""
    error = error_faults.rejection(fault, error_faults.Context("m", "free", 5, "123456789012", 7.5, 1.8e9))
    found = read_failure(error.code, error.body(), error.headers)
    expected = {"429-html": "pressure", "429-spending-cap": "account", "400-key-not-found": "key_invalid"}
    pressure = ("429-retry-after", "429-date", "429-ms")
    kind = "quota" if fault.startswith("429") else "restricted"
    kind = "pressure" if fault in pressure else "key_invalid" if fault.startswith("400-key") else kind
    assert found.kind == expected.get(fault, kind)
    assert "123456789012" not in str(found)


@pytest.mark.parametrize("fault", sorted(error_faults.FAILURES))
def test_offline_gemini_names_its_delay(fault: str) -> None:
    error = error_faults.failure(fault, 2.5)
    assert read_failure(error.code, error.body(), error.headers).retry_delay_s == 2.5
