"""The quota that a rejection names, in each form that Google uses. Pure.

    QuotaFailure     violations of {quotaMetric, quotaId, quotaValue, quotaDimensions}; quotaValue is absent when it is 0
    ErrorInfo        metadata of {quota_metric, quota_limit, quota_limit_value, quota_unit, quota_location}
    bullets          "* Quota exceeded for metric: <metric>, limit: 20, model: <model>"
    a sentence       "Quota exceeded for quota metric '<name>' and limit '<name>' of service ..."

Public reports of October 2026 have all four; the names are in the offline Gemini's errors.py.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from shared.gemini.error_body import JsonObject, is_type

Dimension = Literal["requests", "input_tokens", "images", "batches", "spend", "other"]
Period = Literal["minute", "day", "other"]

MAX_VIOLATIONS = 32
MAX_NAME_CHARS = 200
MAX_MODEL_CHARS = 100


@dataclass(frozen=True, slots=True)
class Violation:
    """One quota that was exceeded. `limit` is the value that Google names, None if it names none; 0 means that the project has
    no quota for this model. `spend` counts money, over all models of the project."""

    dimension: Dimension
    period: Period
    limit: int | None = None
    model: str | None = None


UNNAMED = Violation("other", "other")
"""An exceeded quota that Google does not name."""

_BULLET = re.compile(
    r"Quota exceeded for metric: ([\w./-]{1,200})(?:, limit: (\d{1,18}))?(?:, model: ([\w./-]{1,100}))?", re.IGNORECASE
)
_SENTENCE = re.compile(
    r"Quota exceeded for quota metric '([^']{1,200})' and limit '([^']{1,200})'(?:[^'*]{0,40}\blimit: (\d{1,18}))?",
    re.IGNORECASE,
)
_QUOTA_TEXTS = (
    "you exceeded your current quota",
    "quota exceeded",
    "you have exceeded your quota",
    "you exceeded your quota",
)
_QUOTA_REASONS = {"RATE_LIMIT_EXCEEDED", "RESOURCE_QUOTA_EXCEEDED", "quotaExceeded", "dailyLimitExceeded"}
_SPEND = re.compile(r"\b(?:spend|spending|budget)\b", re.IGNORECASE)
_SPEND_NAME = re.compile(r"spend|budget", re.IGNORECASE)
_URL = re.compile(r"https?://\S+")


def violations_of(details: Sequence[JsonObject], message: str, reason: str | None) -> tuple[Violation, ...]:
    """Every quota that an error names; `UNNAMED` alone if it reports an exceeded quota without a name; else none."""
    found = _of_quota_failure(details, message) or _of_error_info(details) or _of_message(message)
    if not any(violation.dimension == "spend" for violation in found) and _speaks_of_spend(message, reason):
        found.append(Violation("spend", "other"))
    if not found and (reason in _QUOTA_REASONS or message.lower().startswith(_QUOTA_TEXTS)):
        found = [UNNAMED]
    return tuple(found[:MAX_VIOLATIONS])


def _speaks_of_spend(message: str, reason: str | None) -> bool:
    """URLs are ignored: a link to a page about spending is not the reason of a rejection."""
    return bool(_SPEND_NAME.search(reason or "") or _SPEND.search(_URL.sub("", message)))


def _of_quota_failure(details: Sequence[JsonObject], message: str) -> list[Violation]:
    entries = list(_quota_entries(details))
    bullets = _Bullets(message)
    stated = [_limit(_field(entry, "quotaValue", "quota_value")) for entry in entries]
    infos = {
        str(metadata.get("quota_limit")): _limit(metadata.get("quota_limit_value")) for metadata in _infos(details)
    }
    for entry, limit in zip(entries, stated, strict=True):
        if limit is not None:
            bullets.take(_text(entry, "quotaMetric", "quota_metric"), limit)
    found = []
    for entry, limit in zip(entries, stated, strict=True):
        metric, quota_id = _text(entry, "quotaMetric", "quota_metric"), _text(entry, "quotaId", "quota_id")
        dimensions = _field(entry, "quotaDimensions", "quota_dimensions")
        model = dimensions.get("model") if isinstance(dimensions, dict) else None
        bullet = bullets.take(metric) if limit is None else None
        if limit is None:
            limit = infos.get(quota_id) if bullet is None else bullet[0]
        if not isinstance(model, str):
            model = bullets.model_of(metric) if bullet is None else bullet[1]
        described = " ".join(filter(None, (quota_id, _text(entry, "description"))))
        found.append(_violation(described, metric, "", limit, model))
    return found


class _Bullets:
    """The bullets of a message: (limit, model) by metric, in the order of the violations. Two quotas can share a metric."""

    def __init__(self, message: str) -> None:
        self._by_metric: dict[str, list[tuple[int | None, str | None]]] = {}
        for match in _BULLET.finditer(message):
            entry = (int(match[2]) if match[2] else None, match[3])
            self._by_metric.setdefault(match[1], []).append(entry)
        self._all = {metric: set(entries) for metric, entries in self._by_metric.items()}

    def take(self, metric: str, limit: int | None = None) -> tuple[int | None, str | None] | None:
        """The next bullet of a metric, or the bullet with that limit. Google may write fewer bullets than violations: if all
        bullets of a metric agree, they apply to the rest too."""
        left = self._by_metric.get(metric, [])
        fitting = [entry for entry in left if limit is None or entry[0] == limit]
        if fitting:
            left.remove(fitting[0])
            return fitting[0]
        every = self._all.get(metric, set())
        return next(iter(every)) if len(every) == 1 and limit is None else None

    def model_of(self, metric: str) -> str | None:
        models = {model for _, model in self._all.get(metric, set())}
        return models.pop() if len(models) == 1 else None


def _of_error_info(details: Sequence[JsonObject]) -> list[Violation]:
    found = []
    for metadata in _infos(details):
        quota_id, metric = str(metadata.get("quota_limit", "")), str(metadata.get("quota_metric", ""))
        unit, model = str(metadata.get("quota_unit", "")), metadata.get("model")
        limit = _limit(metadata.get("quota_limit_value"))
        found.append(_violation(quota_id, metric, unit, limit, model if isinstance(model, str) else None))
    return found


def _of_message(message: str) -> list[Violation]:
    found = [
        _violation("", match[1], "", int(match[2]) if match[2] else None, match[3])
        for match in _BULLET.finditer(message)
    ]
    return found or [
        _violation(match[2], match[1], "", int(match[3]) if match[3] else None, None)
        for match in _SENTENCE.finditer(message)
    ]


def _quota_entries(details: Sequence[JsonObject]) -> Iterator[JsonObject]:
    listed = (detail.get("violations") for detail in details if is_type(detail, "QuotaFailure", "violations"))
    entries = (entry for entries in listed if isinstance(entries, list) for entry in entries if isinstance(entry, dict))
    for entry, _ in zip(entries, range(MAX_VIOLATIONS), strict=False):
        yield entry


def _infos(details: Sequence[JsonObject]) -> Iterator[dict[str, Any]]:
    """The metadata of each ErrorInfo that names a quota."""
    for detail in details:
        metadata = detail.get("metadata")
        if (
            isinstance(metadata, dict)
            and is_type(detail, "ErrorInfo", "metadata")
            and (metadata.get("quota_limit") or metadata.get("quota_metric"))
        ):
            yield metadata


def _violation(quota_id: str, metric: str, unit: str, limit: int | None, model: str | None) -> Violation:
    quota_id, metric = quota_id[:MAX_NAME_CHARS], metric[:MAX_NAME_CHARS]
    model = None if model is None else model[:MAX_MODEL_CHARS]
    return Violation(_dimension(quota_id, metric), _period(quota_id, metric, unit), limit, model)


def _dimension(quota_id: str, metric: str) -> Dimension:
    name = f"{quota_id} {metric.rpartition('/')[2]}".lower()
    if _SPEND_NAME.search(name):
        return "spend"
    if "batchembedcontents" in name.replace("_", ""):
        # A separate quota that counts batches; each of their requests counts in another one.
        return "batches"
    if "token" in name:
        return "input_tokens" if "input" in name else "other"
    if "image" in name:
        return "images"
    return "requests" if "request" in name else "other"


def _period(quota_id: str, metric: str, unit: str) -> Period:
    """The period by the quota's name or unit (`1/min/{project}/{region}`), never by retryDelay: a daily quota often comes
    with a delay of seconds."""
    name = re.sub(r"[_\s-]", "", f"{quota_id} {metric}".lower())
    if "perday" in name or "daily" in name or unit.startswith("1/d"):
        return "day"
    return "minute" if "perminute" in name or unit.startswith("1/min") else "other"


def _limit(value: Any) -> int | None:
    """A limit given as a number or a string (an int64 is a string in JSON); None for other values such as -1."""
    if isinstance(value, str) and re.fullmatch(r"\s*\d{1,18}(?:\.0{1,9})?\s*", value):
        return int(value.partition(".")[0])
    if isinstance(value, float) and value.is_integer() and 0 <= value < 10**18:
        return int(value)
    return value if type(value) is int and 0 <= value < 10**18 else None


def _field(entry: JsonObject, name: str, other: str) -> Any:
    """The field in either spelling of protobuf's JSON."""
    return entry.get(name, entry.get(other))


def _text(entry: JsonObject, name: str, other: str = "") -> str:
    value = _field(entry, name, other)
    return value if isinstance(value, str) else ""
