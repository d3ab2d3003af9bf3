"""The errors that callers get, with their HTTP status and code.

GatewayError
├── BadRequest 400            invalid_request        the caller's body; names the field
│   ├── CostExceedsLimit      cost_exceeds_limit     one request exceeds a whole limit
│   ├── PromptBlocked         prompt_blocked         Gemini blocked the prompt; names the reason
│   └── RejectedByGemini      rejected_by_gemini     Gemini's INVALID_ARGUMENT, with its message
├── Unauthorized 401          unauthorized           no valid credential; does not reveal which part is wrong
│   └── InvalidGeminiKey      invalid_gemini_key     the caller's own key, rejected by Google
├── Forbidden 403             forbidden              a request without a credential from a page of another origin
├── NotFound 404              not_found
│   └── ModelNotFound         model_not_found
├── MethodNotAllowed 405      method_not_allowed     carries Allow
├── StaleConfiguration 409    stale_configuration    an edit of a version that somebody else has changed
├── NothingPending 409        nothing_pending        a stream of a session that has no message without an answer
├── BatchBusy 409             batch_busy             another request carries the batch on
├── BatchDiffers 409          batch_differs          a batch_id that belongs to other items
├── PayloadTooLarge 413       payload_too_large
├── UnsupportedMediaType 415  unsupported_media_type
├── RangeNotSatisfiable 416   range_not_satisfiable  carries Content-Range
├── RateLimited 429           rate_limited           carries Retry-After
│   ├── QueueTimeout          queue_timeout          no permit before the deadline
│   ├── CallerNoQuota         no_quota               the caller's own key has no quota for the model, or reached its spend limit
│   └── DailyQuotaExhausted   daily_quota_exhausted  until midnight Pacific
├── CallerGone 499            caller_gone            logged, never sent
├── UpstreamFailed 502        upstream_failed        Gemini failed, with its reason
│   ├── ResponseBlocked       response_blocked       a finish reason other than STOP, without text
│   ├── EmptyResponse         empty_response         e.g. MAX_TOKENS with no text
│   └── NonconformingAnswer   nonconforming_answer   JSON that violates its schema, also after a repair
├── Unavailable 503           unavailable            carries Retry-After
│   ├── LedgerUnavailable     ledger_unavailable
│   ├── NoServerKey           no_server_key          no account of the server can serve
│   ├── NoQuota               no_quota               the server's project has no quota for the model, or reached its spend limit
│   ├── QueueFull             queue_full             too many bytes waiting
│   └── StorageUnavailable    storage_unavailable    images or files cannot be stored or read
└── UpstreamTimeout 504       upstream_timeout
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar


class GatewayError(Exception):
    """`message` is for the caller: what is wrong, then what to do. `details` is JSON, and never contains a secret."""

    status: ClassVar[int] = 500
    code: ClassVar[str] = "internal_error"
    retryable: ClassVar[bool] = True
    """False if no retry can succeed before a person acts or the day ends. OpenAI's SDKs retry every 429 and 5xx unless the
    response has `x-should-retry: false`."""

    def __init__(
        self,
        message: str,
        *,
        retry_after_s: float | None = None,
        details: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.retry_after_s = retry_after_s
        self.details = details
        self.headers = headers or {}


class BadRequest(GatewayError):
    status, code = 400, "invalid_request"

    def __init__(self, message: str, *, field: str | None = None, **rest: Any) -> None:
        if field is not None:
            rest["details"] = {"field": field, **(rest.get("details") or {})}
        super().__init__(message, **rest)


class CostExceedsLimit(BadRequest):
    code = "cost_exceeds_limit"


class PromptBlocked(BadRequest):
    code = "prompt_blocked"


class RejectedByGemini(BadRequest):
    code = "rejected_by_gemini"


class Unauthorized(GatewayError):
    status, code = 401, "unauthorized"


class InvalidGeminiKey(Unauthorized):
    code = "invalid_gemini_key"


class Forbidden(GatewayError):
    status, code = 403, "forbidden"


class NotFound(GatewayError):
    status, code = 404, "not_found"


class ModelNotFound(NotFound):
    code = "model_not_found"


class MethodNotAllowed(GatewayError):
    status, code = 405, "method_not_allowed"


class StaleConfiguration(GatewayError):
    status, code, retryable = 409, "stale_configuration", False


class NothingPending(GatewayError):
    status, code, retryable = 409, "nothing_pending", False


class BatchBusy(GatewayError):
    status, code = 409, "batch_busy"


class BatchDiffers(GatewayError):
    status, code, retryable = 409, "batch_differs", False


class PayloadTooLarge(GatewayError):
    status, code = 413, "payload_too_large"


class UnsupportedMediaType(GatewayError):
    status, code = 415, "unsupported_media_type"


class RangeNotSatisfiable(GatewayError):
    status, code = 416, "range_not_satisfiable"


class RateLimited(GatewayError):
    status, code = 429, "rate_limited"


class QueueTimeout(RateLimited):
    code = "queue_timeout"

    def __init__(self, message: str, *, rejected_s: float = 0.0, **rest: Any) -> None:
        """`rejected_s`: seconds for which Gemini is not asked, since it rejects all requests of this kind; 0 if the request only
        waits for its turn."""
        super().__init__(message, **rest)
        self.rejected_s = rejected_s


class CallerNoQuota(RateLimited):
    code = "no_quota"


class DailyQuotaExhausted(RateLimited):
    code, retryable = "daily_quota_exhausted", False


class CallerGone(GatewayError):
    status, code = 499, "caller_gone"


class UpstreamFailed(GatewayError):
    status, code = 502, "upstream_failed"


class ResponseBlocked(UpstreamFailed):
    code = "response_blocked"


class EmptyResponse(UpstreamFailed):
    code = "empty_response"


class NonconformingAnswer(UpstreamFailed):
    code = "nonconforming_answer"


class Unavailable(GatewayError):
    status, code = 503, "unavailable"


class LedgerUnavailable(Unavailable):
    code = "ledger_unavailable"


class NoServerKey(Unavailable):
    code, retryable = "no_server_key", False


class NoQuota(Unavailable):
    code = "no_quota"


class QueueFull(Unavailable):
    code = "queue_full"


class StorageUnavailable(Unavailable):
    code = "storage_unavailable"


class UpstreamTimeout(GatewayError):
    status, code = 504, "upstream_timeout"


def json_type(value: object) -> str:
    """The type of a JSON value, as an error message names it: "an object"."""
    names = {dict: "an object", list: "a list", str: "a string", bool: "a boolean", type(None): "null"}
    return names.get(type(value), "a number")
