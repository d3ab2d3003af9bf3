"""Errors that occur only as injected faults: each known form of a 429, a 5xx or a rejected account.

The texts are those of public reports up to November 2026. `REJECTIONS` are returned before a quota is checked, `FAILURES`
after the request was admitted and counted.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from email.utils import formatdate
from typing import Any

import orjson

from . import errors
from .config import Tier
from .errors import HELP, PLAN, SERVICE, TYPE, Exceeded, GoogleError, error_info

_HTML = "text/html; charset=UTF-8"
_DEFAULT_DELAY_S = 7.0


@dataclass(frozen=True, slots=True)
class Context:
    """The values in a rejection: `consumer` is the project's number, `wait_s` the delay that the error names, `wall_s` the Unix
    time."""

    model: str
    tier: Tier
    limit: int
    consumer: str
    wait_s: float
    wall_s: float


class Wrapped(GoogleError):
    """One of Google's errors as a proxy passes it on: `raw` is the body."""

    def __init__(self, error: GoogleError, raw: bytes, content_type: str | None = None) -> None:
        named = {} if content_type is None else {"Content-Type": content_type}
        super().__init__(
            error.code, error.message, details=error.details, early=True, status=error.status, headers=named
        )
        self.raw = raw

    def body(self) -> bytes:
        return self.raw


def project_number(name: str) -> str:
    """The number of the Google project with this name; equal names have equal numbers."""
    return str(100_000_000_000 + zlib.crc32(name.encode()))


# --- quotas ------------------------------------------------------------------------------------------------------------


def _quota(context: Context, *dimensions: str, limit: int | None = None) -> GoogleError:
    value = context.limit if limit is None else limit
    exceeded = [Exceeded(dimension, value, context.wait_s) for dimension in dimensions]
    return errors.quota_exceeded(context.tier, context.model, exceeded, whole_seconds=context.wait_s.is_integer())


def _region(context: Context, limit: int, *, method: str = "GenerateContent", details: bool = True) -> GoogleError:
    """A regional quota, which Google names in an ErrorInfo, not in a QuotaFailure."""
    snake = "batch_embed_contents" if method == "BatchEmbedContents" else "generate_content"
    words = "Batch Embed Contents" if method == "BatchEmbedContents" else "Generate Content"
    message = (
        f"Quota exceeded for quota metric '{words} API requests per minute' and limit '{method} request limit per minute "
        f"for a region' of service '{SERVICE}' for consumer 'project_number:{context.consumer}'."
    )
    info = error_info(
        "RATE_LIMIT_EXCEEDED",
        consumer=f"projects/{context.consumer}",
        quota_limit=f"{method}RequestsPerMinutePerProjectPerRegion",
        quota_limit_value=str(limit),
        quota_location="us-west4",
        quota_metric=f"{SERVICE}/{snake}_requests",
        quota_unit="1/min/{project}/{region}",
    )
    return GoogleError(429, message, details=[info, HELP] if details else [])


def batches_exceeded(project_name: str, limit: int) -> GoogleError:
    """The 429 of the quota of batchEmbedContents."""
    context = Context(model="", tier="paid", limit=limit, consumer=project_number(project_name), wait_s=0.0, wall_s=0.0)
    error = _region(context, limit, method="BatchEmbedContents")
    error.reason = "batches"
    return error


def _bullets(context: Context) -> GoogleError:
    return GoogleError(429, _quota(context, "rpm").message)


def _plan(_: Context) -> GoogleError:
    text = f"{PLAN} For more information on this error, head to: https://ai.google.dev/gemini-api/docs/rate-limits."
    return GoogleError(429, text, details=[HELP])


def _spend(_: Context) -> GoogleError:
    return GoogleError(
        429,
        "You exceeded your spend-based rate limit. Your spending rate has exceeded the allowed limit for your account's "
        "billing history and tier.",
        reason="spend",
    )


def _spending_cap(_: Context) -> GoogleError:
    return GoogleError(
        429,
        "Your project has exceeded its monthly spending cap. Please go to AI Studio at https://ai.studio/spend to manage "
        "your project spend cap.",
        reason="spending_cap",
    )


# --- delays ------------------------------------------------------------------------------------------------------------


def _bare(context: Context, header: str) -> GoogleError:
    """The 429 that names no quota, with its delay in a header."""
    error = GoogleError(429, "Resource exhausted. Please try again later.")
    values = {
        "Retry-After": f"{context.wait_s:g}",
        "date": formatdate(context.wall_s + context.wait_s, usegmt=True),
        "retry-after-ms": f"{context.wait_s * 1000:.0f}",
    }
    error.headers = {"Retry-After" if header == "date" else header: values[header]}
    if header == "date":
        error.headers["Date"] = formatdate(context.wall_s, usegmt=True)
    return error


def _overloaded(text: str = "", **headers: str) -> GoogleError:
    return GoogleError(503, f"The model is overloaded. Please try again later.{text}", headers=headers)


def _overloaded_info(delay_s: float) -> GoogleError:
    error = _overloaded()
    error.details = [{"@type": TYPE + "RetryInfo", "retryDelay": f"{delay_s:g}s"}]
    return error


def _overloaded_page(delay_s: float) -> GoogleError:
    """Google's front end returns HTML if no backend is available."""
    page = (
        "<!DOCTYPE html>\n<html lang=en>\n  <title>Error 503 (Server Error)!!1</title>\n  <p><b>503.</b> <ins>That’s an "
        "error.</ins>\n  <p>The service you requested is not available at this time. Please try again in "
        f"{delay_s:g} seconds.  <ins>That’s all we know.</ins>\n"
    )
    return Wrapped(_overloaded(), page.encode(), _HTML)


def _internal(delay_s: float) -> GoogleError:
    error = errors.internal()
    error.headers = {"Retry-After": f"{delay_s:g}"}
    return error


# --- proxies in between ------------------------------------------------------------------------------------------------


def _nested(error: GoogleError, levels: int = 1) -> GoogleError:
    """Google's whole error as a string in error.message, as gateways on the Node SDK write it."""
    body = error.body()
    for _ in range(levels):
        wrapped = {"message": body.decode(), "code": error.code, "status": "Too Many Requests"}
        body = orjson.dumps({"error": wrapped})
    return Wrapped(error, body)


def _prefixed(error: GoogleError) -> GoogleError:
    text = (
        f"[GoogleGenerativeAI Error]: Error fetching from https://{SERVICE}/v1beta/models/m:generateContent: "
        f"[{error.code} Too Many Requests] {error.message} {orjson.dumps(error.details).decode()}"
    )
    return Wrapped(error, orjson.dumps({"error": {"message": text, "type": "upstream_error"}}))


def _python(error: GoogleError) -> GoogleError:
    text = f"{error.code} {error.status}. {error.document()!r}"
    return Wrapped(error, orjson.dumps({"error": {"message": text, "code": error.code}}))


def _in_500(error: GoogleError) -> GoogleError:
    wrapped = _nested(error)
    wrapped.code = 500
    return wrapped


def _page(error: GoogleError) -> GoogleError:
    return Wrapped(error, b"<html><head><title>429 Too Many Requests</title></head></html>\n", _HTML)


# --- accounts ----------------------------------------------------------------------------------------------------------


def _precondition(message: str) -> GoogleError:
    return GoogleError(400, message, status="FAILED_PRECONDITION", reason="restricted")


def _forbidden(message: str, reason: str | None = None, **metadata: str) -> GoogleError:
    details: list[dict[str, Any]] = []
    if reason is not None:
        details = [
            error_info(reason, **metadata),
            {"@type": TYPE + "LocalizedMessage", "locale": "en-US", "message": message},
        ]
    return GoogleError(403, message, details=details, early=True, reason="restricted")


def _disabled(context: Context) -> GoogleError:
    url = f"https://console.developers.google.com/apis/api/{SERVICE}/overview?project={context.consumer}"
    return _forbidden(
        f"Gemini API has not been used in project {context.consumer} before or it is disabled. Enable it by visiting {url} "
        "then retry. If you enabled this API recently, wait a few minutes for the action to propagate to our systems and "
        "retry.",
        "SERVICE_DISABLED",
        consumer=f"projects/{context.consumer}",
        containerInfo=context.consumer,
        activationUrl=url,
        serviceTitle="Gemini API",
    )


def _unbilled(context: Context) -> GoogleError:
    return _forbidden(
        f"This API method requires billing to be enabled. Please enable billing on project #{context.consumer} by visiting "
        f"https://console.developers.google.com/billing/enable?project={context.consumer} then retry.",
        "BILLING_DISABLED",
        consumer=f"projects/{context.consumer}",
    )


def _blocked(message: str, reason: str) -> Callable[[Context], GoogleError]:
    return lambda context: _forbidden(message, reason, consumer=f"projects/{context.consumer}")


_REJECTIONS: dict[str, Callable[[Context], GoogleError]] = {
    # Quotas.
    "429-zero": lambda context: _quota(context, "tpm", "rpd", "rpm", "tpd", limit=0),
    "429-tokens-day": lambda context: _quota(context, "tpd", limit=1_000_000),
    "429-region": lambda context: _region(context, context.limit),
    "429-region-zero": lambda context: _region(context, 0),
    "429-embed-batch": lambda context: _region(context, 150, method="BatchEmbedContents"),
    "429-sentence": lambda context: _region(context, context.limit, details=False),
    "429-bullets": _bullets,
    "429-plan": _plan,
    "429-spend": _spend,
    "429-spending-cap": _spending_cap,
    # Delays of a 429 that names no quota.
    "429-retry-after": lambda context: _bare(context, "Retry-After"),
    "429-date": lambda context: _bare(context, "date"),
    "429-ms": lambda context: _bare(context, "retry-after-ms"),
    # Errors of a proxy.
    "429-nested": lambda context: _nested(_quota(context, "rpd")),
    "429-nested-twice": lambda context: _nested(_quota(context, "rpd"), 2),
    "429-prefixed": lambda context: _prefixed(_quota(context, "rpd")),
    "429-python": lambda context: _python(_quota(context, "rpd")),
    "429-in-500": lambda context: _in_500(_quota(context, "rpd")),
    "429-array": lambda context: Wrapped(_quota(context, "rpm"), b"[" + _quota(context, "rpm").body() + b"]\n"),
    "429-html": lambda context: _page(_quota(context, "rpm")),
    # Keys and projects.
    "400-location": lambda _: _precondition("User location is not supported for the API use."),
    "400-unbilled": lambda _: _precondition(
        "User location is not supported for the API use without a billing account linked."
    ),
    "400-country": lambda _: _precondition(
        "Gemini API free tier is not available in your country. Please enable billing on your project in Google AI Studio."
    ),
    "400-key-not-found": lambda _: GoogleError(400, "API Key not found. Please pass a valid API key.", early=True),
    "400-key-expired": lambda _: errors.key_expired(),
    "403-disabled": _disabled,
    "403-unbilled": _unbilled,
    "403-referer": _blocked("Requests from referer <empty> are blocked.", "API_KEY_HTTP_REFERRER_BLOCKED"),
    "403-ip": _blocked(
        "The provided API key has an IP address restriction. The originating IP address of the call (203.0.113.7) violates "
        "this restriction.",
        "API_KEY_IP_ADDRESS_BLOCKED",
    ),
    "403-android": _blocked(
        "Requests from this Android client application <empty> are blocked.", "API_KEY_ANDROID_APP_BLOCKED"
    ),
    "403-consumer": lambda context: _forbidden(
        f"Permission denied on resource project {context.consumer}.",
        "CONSUMER_INVALID",
        consumer=f"projects/{context.consumer}",
    ),
    "403-country": lambda context: _forbidden(
        f"Access to {SERVICE} is restricted from your billing country and was denied for projects/{context.consumer}."
    ),
    "403-dunning": lambda context: _forbidden(
        f"Lightning dunning decision is deny for project: projects/{context.consumer}"
    ),
    "403-denied": lambda _: _forbidden("Your project has been denied access. Please contact support."),
}
_FAILURES: dict[str, Callable[[float], GoogleError]] = {
    "503-delay": lambda delay_s: _overloaded(**{"Retry-After": f"{delay_s:g}"}),
    "503-retry-info": _overloaded_info,
    "503-sentence": lambda delay_s: _overloaded(f" Please retry in {errors.go_duration(delay_s)}."),
    "503-page": _overloaded_page,
    "500-delay": _internal,
}
REJECTIONS = frozenset(_REJECTIONS)
FAILURES = frozenset(_FAILURES)


def rejection(kind: str, context: Context) -> GoogleError:
    return _REJECTIONS[kind](context)


def failure(kind: str, seconds: float | None) -> GoogleError:
    return _FAILURES[kind](_DEFAULT_DELAY_S if seconds is None else seconds)
