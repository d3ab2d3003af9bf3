"""Google's error bodies, part by part, and what the gateway reads in them."""

from __future__ import annotations

from typing import Any

import orjson

from shared.gemini.errors import UpstreamFailure, read_failure

TYPE = "type.googleapis.com/google.rpc."
METRIC = "generativelanguage.googleapis.com/"
FREE_TEXT = (
    "You exceeded your current quota, please check your plan and billing details. For more information on this error, "
    "head to: https://ai.google.dev/gemini-api/docs/rate-limits. To monitor your current usage, head to: "
    "https://ai.dev/rate-limit. \n"
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


def failure(
    code: int, message: str, status: str = "", details: list[Any] | None = None, **headers: str
) -> UpstreamFailure:
    error: dict[str, Any] = {"code": code, "message": message, "status": status}
    if details is not None:
        error["details"] = details
    body = orjson.dumps({"error": error}, option=orjson.OPT_INDENT_2) + b"\n"
    return read_failure(code, body, headers)


def quota(*violations: dict[str, Any]) -> dict[str, Any]:
    return {"@type": TYPE + "QuotaFailure", "violations": list(violations)}


def violation(metric: str, quota_id: str, value: str | None, model: str) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "quotaMetric": METRIC + metric,
        "quotaId": quota_id,
        "quotaDimensions": {"location": "global", "model": model},
    }
    return entry if value is None else entry | {"quotaValue": value}


def retry(delay: Any) -> dict[str, Any]:
    return {"@type": TYPE + "RetryInfo", "retryDelay": delay}


def error_info(reason: str, **metadata: Any) -> dict[str, Any]:
    return {
        "@type": TYPE + "ErrorInfo",
        "reason": reason,
        "domain": "googleapis.com",
        "metadata": {"service": METRIC, **metadata},
    }
