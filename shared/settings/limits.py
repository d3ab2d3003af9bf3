"""Tiers and limits: of the server's keys, of single models, and of callers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType

from shared.ledger.limits import TIERS, Limits
from shared.settings.environment import Environment, SettingsError, limit_from

MAX_RATE_LIMIT = 10_000
TIER_NAMES = {**{name: name for name in TIERS}, "custom": "tier3"}
_LIMIT_FIELDS = {
    "rpm": "requests",
    "tpm": "input_tokens",
    "ipm": "images",
    "rpd": "requests_per_day",
    "batches": "batches",
}
_MODEL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


def read_limits(read: Environment, tier: str) -> Limits:
    if tier == "tier3":
        missing = [name for name in ("GEMINI_RPM", "GEMINI_TPM", "GEMINI_RPD") if read.text(name) is None]
        if missing:
            raise SettingsError(
                f"GEMINI_TIER is {read.text('GEMINI_TIER')!r}, which has no default limits; "
                f"{' and '.join(missing)} must be set, each to a whole number or `unlimited`."
            )
    base = TIERS[tier]
    return base._replace(
        requests=read.limit("GEMINI_RPM", base.requests),
        input_tokens=read.limit("GEMINI_TPM", base.input_tokens),
        images=read.limit("GEMINI_IPM", base.images),
        requests_per_day=read.limit("GEMINI_RPD", base.requests_per_day),
    )


def read_model_limits(read: Environment, limits: Limits) -> Mapping[str, Limits]:
    name, example = "GEMINI_LIMITS", '{"gemini-3.8-flash": {"rpm": 100, "tpm": "unlimited"}}'
    result: dict[str, Limits] = {}
    for model, given in read.json_object(name, example).items():
        if not _MODEL_NAME.fullmatch(model) or not isinstance(given, dict):
            raise read.invalid(name, f"a JSON object of models and their limits like {example}")
        values = {}
        for key, value in given.items():
            if key not in _LIMIT_FIELDS:
                allowed = ", ".join(_LIMIT_FIELDS)
                raise SettingsError(f"{name} has the unknown limit {key!r} for {model}; use {allowed}.")
            try:
                limit = values[_LIMIT_FIELDS[key]] = limit_from(value)
                if limit is None and key == "batches":
                    raise ValueError("a default applies to what is not limited")
            except ValueError:
                may_be = "a whole number" if key == "batches" else "a whole number or `unlimited`"
                raise SettingsError(
                    f"{name} has {key} = {str(value)[:40]!r} for {model}; it must be {may_be}."
                ) from None
        result[model] = limits._replace(**values)
    return MappingProxyType(result)


def read_rate_limit(read: Environment) -> int | None:
    """Bounded, because the times of a caller's requests in the last minute are kept in one document."""
    limit = read.limit("RATE_LIMIT_PER_MINUTE", 60)
    if limit is not None and not 1 <= limit <= MAX_RATE_LIMIT:
        raise read.invalid("RATE_LIMIT_PER_MINUTE", f"a whole number from 1 to {MAX_RATE_LIMIT}, or `unlimited`")
    return limit


def read_caller_limits(read: Environment, tier: str, limits: Limits) -> Limits:
    """The limits of callers' own keys: those of the server's keys, unless CALLER_KEY_TIER names another tier."""
    caller_tier = read.choice("CALLER_KEY_TIER", tier, TIER_NAMES)
    return limits if caller_tier == tier else TIERS[caller_tier]
