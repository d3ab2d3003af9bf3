"""The Google project that an error names: read for operators, erased from what callers see."""

from __future__ import annotations

import orjson
import pytest

from shared.gemini.errors import read_failure, redacted
from tests.support.google_errors import error_info, failure, quota

TEXTS = [
    (
        429,
        "Quota exceeded for quota metric 'x' and limit 'y' of service 'z' for consumer 'project_number:411082643095'.",
    ),
    (403, "Gemini API has not been used in project 411082643095 before or it is disabled."),
    (403, "Permission denied on resource project 411082643095."),
    (403, "Lightning dunning decision is deny for project: projects/411082643095"),
    (403, "Access to x is restricted from your billing country and was denied for projects/411082643095."),
    (
        403,
        "This API method requires billing to be enabled. Please enable billing on project #411082643095 by visiting x.",
    ),
]


@pytest.mark.parametrize(
    ("consumer", "expected"),
    [
        ("projects/411082643095", "411082643095"),
        ("project_number:411082643095", "411082643095"),
        ("projects/gen-lang-client-0632657658", "gen-lang-client-0632657658"),
        ("api_key:AIzaSyExample", None),
        ("projects/", None),
        ("", None),
        (5, None),
    ],
)
def test_metadata_of_error_info(consumer: object, expected: str | None) -> None:
    assert failure(403, "x", "", [error_info("SERVICE_DISABLED", consumer=consumer)]).consumer == expected


@pytest.mark.parametrize(("code", "text"), TEXTS)
def test_message(code: int, text: str) -> None:
    found = failure(code, text, "PERMISSION_DENIED")
    assert found.consumer == "411082643095"
    assert "411082643095" not in str(found)


def test_name_in_a_message() -> None:
    found = failure(403, "Gemini API has not been used in project gen-lang-client-7 before or it is disabled.")
    assert found.consumer == "gen-lang-client-7"
    assert "gen-lang-client-7" not in str(found)


def test_other_details() -> None:
    assert failure(403, "x", "", [error_info("X", containerInfo="587517297089")]).consumer == "587517297089"
    assert failure(403, "x", "", [error_info("X", containerInfo="api_key:AIza1")]).consumer is None
    assert failure(429, "x", "", [quota({"subject": "project:411082643095"})]).consumer == "411082643095"


def test_nested() -> None:
    inner = {
        "error": {"code": 429, "message": "x", "details": [error_info("RATE_LIMIT_EXCEEDED", consumer="projects/7")]}
    }
    body = {"error": {"message": orjson.dumps(inner).decode(), "code": 429}}
    assert read_failure(429, orjson.dumps(body), {}).consumer == "7"


def test_callers_words_name_no_consumer() -> None:
    text = "Invalid JSON payload received. Unknown name \"for consumer 'projects/1'\": Cannot find field."
    assert failure(400, text, "INVALID_ARGUMENT").consumer is None


@pytest.mark.parametrize(
    "text",
    [
        "You do not have access to this project.",
        "Please go to AI Studio at https://ai.studio/projects to manage your project and billing.",
        "project 5 of 12",
    ],
)
def test_texts_without_a_project_stay(text: str) -> None:
    assert redacted(text) == text
