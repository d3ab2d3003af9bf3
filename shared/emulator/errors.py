"""Every rejection in Google's own words: status, message, details, and the pretty-printed body.

Sources: public reports of real responses, the newest of November 2026. Other texts follow the same style.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from .config import Tier

TYPE = "type.googleapis.com/google.rpc."
SERVICE = "generativelanguage.googleapis.com"
VERTEX = "aiplatform.googleapis.com"
_STATUS = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}

INVALID_ARGUMENT = "Request contains an invalid argument."


class GoogleError(Exception):
    """A response other than 200. `early`: Google's front end rejects the request before the method runs, with JSON even on the
    stream route. `reason` is for the statistics."""

    def __init__(
        self,
        code: int,
        message: str,
        *,
        details: Sequence[dict[str, Any]] = (),
        early: bool = False,
        reason: str = "",
        status: str = "",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.details = list(details)
        self.early = early
        self.status = status or _STATUS[code]
        self.reason = reason or self.status.lower()
        self.headers = dict(headers or {})
        """Headers of this response only. A Content-Type here belongs to a body that is not Google's JSON."""

    def document(self) -> dict[str, Any]:
        error: dict[str, Any] = {"code": self.code, "message": self.message, "status": self.status}
        if self.details:
            error["details"] = self.details
        return {"error": error}

    def body(self) -> bytes:
        return orjson.dumps(self.document(), option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)


def invalid(message: str = INVALID_ARGUMENT) -> GoogleError:
    return GoogleError(400, message)


def bad_fields(violations: Sequence[tuple[str, str]]) -> GoogleError:
    """(field path or "", description) of every field that the JSON transcoder could not place."""
    listed = [{"field": path, "description": text} if path else {"description": text} for path, text in violations]
    message = "\n".join(text for _, text in violations)
    return GoogleError(400, message, details=[{"@type": TYPE + "BadRequest", "fieldViolations": listed}])


def model_not_found(version: str, model_id: str, method: str) -> GoogleError:
    return GoogleError(
        404,
        f"models/{model_id} is not found for API version {version}, or is not supported for {method}. "
        "Call ModelService.ListModels to see the list of available models and their supported methods.",
    )


def model_closed(model_id: str, successor: str) -> GoogleError:
    return GoogleError(
        404,
        f"This model models/{model_id} is no longer available to new users. "
        f"Please update your code to use models/{successor} for the latest features and improvements.",
    )


def body_too_large(limit_bytes: int) -> GoogleError:
    return GoogleError(400, f"Request payload size exceeds the limit: {limit_bytes} bytes.", early=True)


# --- credentials -------------------------------------------------------------------------------------------------------


def error_info(reason: str, **metadata: str) -> dict[str, Any]:
    return {
        "@type": TYPE + "ErrorInfo",
        "reason": reason,
        "domain": "googleapis.com",
        "metadata": {"service": SERVICE, **metadata},
    }


_NO_OAUTH = (
    "Request had invalid authentication credentials. Expected OAuth 2 access token, login cookie or other valid "
    "authentication credential. See https://developers.google.com/identity/sign-in/web/devconsole-project."
)


def _bad_key(message: str) -> GoogleError:
    localized = {"@type": TYPE + "LocalizedMessage", "locale": "en-US", "message": message}
    return GoogleError(400, message, details=[error_info("API_KEY_INVALID"), localized], early=True, reason="bad_key")


def key_invalid() -> GoogleError:
    return _bad_key("API key not valid. Please pass a valid API key.")


def key_expired() -> GoogleError:
    return _bad_key("API key expired. Please renew the API key.")


def two_credentials() -> GoogleError:
    message = "Multiple authentication credentials received. Please pass only one."
    return GoogleError(400, message, early=True, reason="two_credentials")


def no_credential() -> GoogleError:
    return GoogleError(
        403,
        "Method doesn't allow unregistered callers (callers without established identity). "
        "Please use API Key or other form of API consumer identity to call this API.",
        early=True,
        reason="no_key",
    )


def unauthenticated(version: str, method: str) -> GoogleError:
    return GoogleError(
        401,
        _NO_OAUTH,
        details=[error_info("ACCESS_TOKEN_TYPE_UNSUPPORTED", method=_rpc(version, method))],
        early=True,
        reason="unauthenticated",
    )


def no_token(rpc: str) -> GoogleError:
    """Vertex AI: no access token."""
    return GoogleError(
        401,
        "API keys are not supported by this API. Expected OAuth2 access token or other authentication credentials that "
        "assert a principal. See https://cloud.google.com/docs/authentication",
        details=[error_info("CREDENTIALS_MISSING", service=VERTEX, method=rpc)],
        early=True,
        reason="no_token",
    )


def bad_token(rpc: str, *, expired: bool) -> GoogleError:
    """Vertex AI: an access token that has expired, or that is none."""
    reason = "ACCESS_TOKEN_EXPIRED" if expired else "ACCESS_TOKEN_TYPE_UNSUPPORTED"
    return GoogleError(
        401, _NO_OAUTH, details=[error_info(reason, service=VERTEX, method=rpc)], early=True, reason="bad_token"
    )


def key_suspended(shown_key: str) -> GoogleError:
    return GoogleError(
        403,
        f"Permission denied: Consumer 'api_key:{shown_key}' has been suspended.",
        details=[error_info("CONSUMER_SUSPENDED", containerInfo=f"api_key:{shown_key}")],
        early=True,
        reason="suspended",
    )


def key_blocked(version: str, method: str) -> GoogleError:
    rpc = _rpc(version, method)
    return GoogleError(
        403,
        f"Requests to this API {SERVICE} method {rpc} are blocked.",
        details=[error_info("API_KEY_SERVICE_BLOCKED", methodName=rpc, apiName=SERVICE)],
        early=True,
        reason="blocked",
    )


def key_leaked() -> GoogleError:
    message = "Your API key was reported as leaked. Please use another API key."
    return GoogleError(403, message, early=True, reason="leaked")


def _rpc(version: str, method: str) -> str:
    service = "ModelService" if method in ("GetModel", "ListModels") else "GenerativeService"
    return f"google.ai.generativelanguage.{version}.{service}.{method[:1].upper()}{method[1:]}"


# --- quota -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Exceeded:
    """One exceeded quota. `dimension` is a field of Limits; `wait_s` is the time until the same request would fit."""

    dimension: str
    limit: int
    wait_s: float


# (tier, dimension) -> metric, quotaId.
_QUOTAS = {
    ("free", "rpm"): (
        "generate_content_free_tier_requests",
        "GenerateRequestsPerMinutePerProjectPerModel-FreeTier",
    ),
    ("free", "rpd"): ("generate_content_free_tier_requests", "GenerateRequestsPerDayPerProjectPerModel-FreeTier"),
    ("free", "tpm"): (
        "generate_content_free_tier_input_token_count",
        "GenerateContentInputTokensPerModelPerMinute-FreeTier",
    ),
    ("paid", "rpm"): ("generate_requests_per_model", "GenerateRequestsPerMinutePerProjectPerModel"),
    ("paid", "rpd"): ("generate_requests_per_model_per_day", "GenerateRequestsPerDayPerProjectPerModel"),
    ("paid", "tpm"): (
        "generate_content_paid_tier_input_token_count",
        "GenerateContentPaidTierInputTokensPerModelPerMinute",
    ),
    ("free", "tpd"): (
        "generate_content_free_tier_input_token_count",
        "GenerateContentInputTokensPerModelPerDay-FreeTier",
    ),
    # No report of these three is known; they follow the pattern of the others.
    ("paid", "tpd"): (
        "generate_content_paid_tier_input_token_count",
        "GenerateContentPaidTierInputTokensPerModelPerDay",
    ),
    ("free", "ipm"): ("generate_content_free_tier_images", "GenerateImagesPerMinutePerProjectPerModel-FreeTier"),
    ("paid", "ipm"): ("generate_images_per_model", "GenerateImagesPerMinutePerProjectPerModel"),
}
PLAN = "You exceeded your current quota, please check your plan and billing details."
_FREE_LINKS = (
    " For more information on this error, head to: https://ai.google.dev/gemini-api/docs/rate-limits."
    " To monitor your current usage, head to: https://ai.dev/rate-limit. "
)
HELP = {
    "@type": TYPE + "Help",
    "links": [
        {
            "description": "Learn more about Gemini API quotas",
            "url": "https://ai.google.dev/gemini-api/docs/rate-limits",
        }
    ],
}


def quota_exceeded(tier: Tier, model: str, exceeded: Sequence[Exceeded], *, whole_seconds: bool) -> GoogleError:
    """The 429 with every exceeded quota. Google uses both forms of retryDelay: whole seconds, truncated from the message's
    value (`72193s`), and up to nine decimals."""
    wait_s = max((one.wait_s for one in exceeded), default=0.0)
    lines, violations = [], []
    for one in exceeded:
        metric, quota_id = _QUOTAS[tier, one.dimension]
        lines.append(f"* Quota exceeded for metric: {SERVICE}/{metric}, limit: {one.limit}, model: {model}")
        violation: dict[str, Any] = {
            "quotaMetric": f"{SERVICE}/{metric}",
            "quotaId": quota_id,
            "quotaDimensions": {"location": "global", "model": model},
        }
        if one.limit:
            violation["quotaValue"] = str(one.limit)
        violations.append(violation)
    head = PLAN + (_FREE_LINKS if tier == "free" else "")
    message = "\n".join([head, *lines, f"Please retry in {go_duration(wait_s)}."])
    delay = f"{math.floor(wait_s)}s" if whole_seconds else f"{wait_s:.9f}".rstrip("0").rstrip(".") + "s"
    details: list[dict[str, Any]] = [
        {"@type": TYPE + "QuotaFailure", "violations": violations},
        {"@type": TYPE + "RetryInfo", "retryDelay": delay},
    ]
    reason = exceeded[0].dimension if exceeded else "quota"
    return GoogleError(429, message, details=[HELP, *details] if tier == "free" else details, reason=reason)


def exhausted(reason: str = "exhausted") -> GoogleError:
    """The 429 without details: capacity, spend, or (here) the concurrency limit."""
    return GoogleError(429, "Resource has been exhausted (e.g. check quota).", reason=reason)


def depleted() -> GoogleError:
    return GoogleError(
        429,
        "Your prepayment credits are depleted. Please go to AI Studio at https://ai.studio/projects to manage your "
        "project and billing.",
        reason="depleted",
    )


def go_duration(seconds: float) -> str:
    """Seconds as Go prints a duration, as in Google's messages: 20h3m13.257628674s, 548.431ms."""
    nanos = max(0, round(seconds * 1e9))
    if nanos < 1_000_000_000:
        return f"{nanos / 1e6:.6f}".rstrip("0").rstrip(".") + "ms" if nanos else "0s"
    whole, fraction = divmod(nanos, 1_000_000_000)
    hours, minutes, secs = whole // 3600, whole // 60 % 60, whole % 60
    tail = f".{fraction:09d}".rstrip("0") if fraction else ""
    head = f"{hours}h{minutes}m" if hours else f"{minutes}m" if minutes else ""
    return f"{head}{secs}{tail}s"


# --- the server's own failures -----------------------------------------------------------------------------------------


def internal() -> GoogleError:
    return GoogleError(
        500,
        "An internal error has occurred. Please retry or report in "
        "https://developers.generativeai.google/guide/troubleshooting",
    )


def overloaded() -> GoogleError:
    return GoogleError(
        503,
        "This model is currently experiencing high demand. Spikes in demand are usually temporary. "
        "Please try again later.",
    )


def deadline_expired() -> GoogleError:
    return GoogleError(504, "Deadline expired before operation could complete.")
