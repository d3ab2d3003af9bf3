"""Errors in OpenAI's format, so that its SDKs raise the right class and its clients react to the right code. Pure.

The status decides the class that an SDK raises; `code` and `type` are what clients compare. Both as OpenAI documents them
(platform.openai.com/docs/guides/error-codes); where it has none, the code is this gateway's own.
"""

from __future__ import annotations

import math
import re

from shared.errors import (
    BadRequest,
    CallerNoQuota,
    DailyQuotaExhausted,
    Forbidden,
    GatewayError,
    InvalidGeminiKey,
    ModelNotFound,
    PromptBlocked,
    RateLimited,
    RejectedByGemini,
    ResponseBlocked,
    Unauthorized,
)
from shared.generation import JsonObject

CONTENT_POLICY = "content_policy_violation"
_TOO_LONG = re.compile(r"input token count .{0,40}exceeds the maximum number of tokens", re.IGNORECASE)
"""Google's sentence for a prompt that is longer than the model's context."""
_OF_TOKENS = re.compile(r"input_token", re.IGNORECASE)
"""In the name of the metric that Google says is exceeded."""


def with_openai_status(error: GatewayError) -> GatewayError:
    """The error with the status that OpenAI has for it: an own key that Google refuses with 403 is one without permission, and
    one without credit has no quota; withheld content is the request's fault (400), so that no SDK sends it again."""
    status = (error.details or {}).get("upstream_status")
    if isinstance(error, InvalidGeminiKey) and status == 403:
        return Forbidden(error.message, details=error.details, headers=error.headers)
    if isinstance(error, InvalidGeminiKey) and status in (402, 429):
        return CallerNoQuota(error.message, details=error.details, headers={**error.headers, **_NO_RETRY})
    if isinstance(error, ResponseBlocked):
        return PromptBlocked(error.message, details=error.details, headers=error.headers)
    return error


_NO_RETRY = {"x-should-retry": "false"}


def error_body(error: GatewayError, request_id: str) -> JsonObject:
    details = dict(error.details or {})
    field = details.pop("field", "model" if isinstance(error, ModelNotFound) else None)
    kind, code = _type_and_code(error)
    body: JsonObject = {"message": error.message, "type": kind, "param": field, "code": code}
    if details:
        body["details"] = details
    return {"error": body}


def error_headers(error: GatewayError) -> dict[str, str]:
    """In addition to those of every error: OpenAI's SDKs prefer the exact time to whole seconds."""
    if error.retry_after_s is None:
        return {}
    return {"retry-after-ms": str(max(1, math.ceil(1000 * error.retry_after_s)))}


def _type_and_code(error: GatewayError) -> tuple[str, str]:
    match error:
        case DailyQuotaExhausted() | CallerNoQuota():
            return "insufficient_quota", "insufficient_quota"
        case RateLimited():
            limit = (error.details or {}).get("limit")
            of_tokens = limit == "input_tokens" or _OF_TOKENS.search(error.message)
            return "tokens" if of_tokens else "requests", "rate_limit_exceeded"
        case Unauthorized():
            return "invalid_request_error", "invalid_api_key"
        case PromptBlocked():
            return "invalid_request_error", CONTENT_POLICY
        case RejectedByGemini() if _TOO_LONG.search(error.message):
            return "invalid_request_error", "context_length_exceeded"
        case Forbidden():
            return "invalid_request_error", "permission_denied"
        case BadRequest():
            return "invalid_request_error", error.code
        case _:
            return ("server_error" if error.status >= 500 else "invalid_request_error"), error.code
