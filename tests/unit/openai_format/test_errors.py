"""Errors in OpenAI's format."""

from __future__ import annotations

from typing import Any

import pytest

from shared.errors import (
    BadRequest,
    CallerNoQuota,
    CostExceedsLimit,
    DailyQuotaExhausted,
    EmptyResponse,
    Forbidden,
    GatewayError,
    InvalidGeminiKey,
    ModelNotFound,
    NoQuota,
    NotFound,
    PayloadTooLarge,
    PromptBlocked,
    QueueTimeout,
    RateLimited,
    RejectedByGemini,
    ResponseBlocked,
    Unauthorized,
    UpstreamFailed,
    UpstreamTimeout,
)
from shared.openai_format.errors import error_body, error_headers, with_openai_status
from shared.openapi.failures import tree

INVALID = "invalid_request_error"
TOKENS = "Quota exceeded for metric: generate_content_paid_tier_input_token_count"


@pytest.mark.parametrize(
    ("error", "kind", "code"),
    [
        (BadRequest("No."), INVALID, "invalid_request"),
        (CostExceedsLimit("No."), INVALID, "cost_exceeds_limit"),
        (PromptBlocked("No."), INVALID, "content_policy_violation"),
        (RejectedByGemini("Gemini rejected the request: No."), INVALID, "rejected_by_gemini"),
        (
            RejectedByGemini("The input token count (1200000) exceeds the maximum number of tokens allowed (1048576)."),
            INVALID,
            "context_length_exceeded",
        ),
        (Unauthorized("No."), INVALID, "invalid_api_key"),
        (InvalidGeminiKey("No."), INVALID, "invalid_api_key"),
        (Forbidden("No."), INVALID, "permission_denied"),
        (NotFound("No."), INVALID, "not_found"),
        (ModelNotFound("No."), INVALID, "model_not_found"),
        (PayloadTooLarge("No."), INVALID, "payload_too_large"),
        (RateLimited("No."), "requests", "rate_limit_exceeded"),
        (RateLimited(TOKENS), "tokens", "rate_limit_exceeded"),
        (QueueTimeout("No."), "requests", "rate_limit_exceeded"),
        (QueueTimeout("No.", details={"limit": "requests"}), "requests", "rate_limit_exceeded"),
        (QueueTimeout("No.", details={"limit": "input_tokens"}), "tokens", "rate_limit_exceeded"),
        (DailyQuotaExhausted("No."), "insufficient_quota", "insufficient_quota"),
        (CallerNoQuota("No."), "insufficient_quota", "insufficient_quota"),
        (GatewayError("No."), "server_error", "internal_error"),
        (UpstreamFailed("No."), "server_error", "upstream_failed"),
        (EmptyResponse("No."), "server_error", "empty_response"),
        (NoQuota("No."), "server_error", "no_quota"),
        (UpstreamTimeout("No."), "server_error", "upstream_timeout"),
    ],
)
def test_type_and_code(error: GatewayError, kind: str, code: str) -> None:
    body = error_body(error, "req_1")["error"]
    assert (body["type"], body["code"], body["message"]) == (kind, code, error.message)


@pytest.mark.parametrize("kind", list(tree()))
def test_every_error_has_openais_fields(kind: type[GatewayError]) -> None:
    body = error_body(with_openai_status(kind("No.")), "req_1")
    assert body.keys() == {"error"}
    assert body["error"].keys() == {"message", "type", "param", "code"}


def test_param_names_the_field_and_details_stay() -> None:
    error = BadRequest("No.", field="messages[0].role", details={"pointer": "/a"})
    body = error_body(error, "req_1")["error"]
    assert (body["param"], body["details"]) == ("messages[0].role", {"pointer": "/a"})
    assert error.details == {"field": "messages[0].role", "pointer": "/a"}


def test_a_missing_model_is_the_parameter_model() -> None:
    assert error_body(ModelNotFound("No."), "req_1")["error"]["param"] == "model"


@pytest.mark.parametrize(
    ("error", "details", "status"),
    [
        (InvalidGeminiKey, {"upstream_status": 403}, 403),
        (InvalidGeminiKey, {"upstream_status": 429}, 429),
        (InvalidGeminiKey, {"upstream_status": 400}, 401),
        (InvalidGeminiKey, None, 401),
        (ResponseBlocked, {"finish_reason": "IMAGE_SAFETY"}, 400),
        (UpstreamFailed, {"upstream_status": 403}, 502),
    ],
)
def test_the_status_is_that_of_openais_class(error: type[GatewayError], details: Any, status: int) -> None:
    found = with_openai_status(error("No.", details=details, headers={"x-a": "1"}))
    assert (found.status, found.message, found.details, found.headers["x-a"]) == (status, "No.", details, "1")


def test_a_key_without_credit_is_not_sent_again() -> None:
    found = with_openai_status(InvalidGeminiKey("No.", details={"upstream_status": 429}))
    assert found.headers["x-should-retry"] == "false"


@pytest.mark.parametrize(("seconds", "ms"), [(None, None), (0.0, "1"), (1.2341, "1235"), (60.0, "60000")])
def test_the_exact_time_to_retry(seconds: float | None, ms: str | None) -> None:
    assert error_headers(QueueTimeout("No.", retry_after_s=seconds)).get("retry-after-ms") == ms
