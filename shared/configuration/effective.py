"""The settings that hold: the environment's, and below them the stored configuration's. Pure.

What the environment sets wins. A stored value only replaces a default; where a variable is set, the stored field is locked.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import orjson

from shared.configuration.document import Configuration
from shared.errors import BadRequest
from shared.gemini.models import OVERRIDDEN
from shared.secret import Secret
from shared.settings.environment import SettingsError
from shared.settings.settings import Settings

PROXY_NAMES = ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY")
_VARIABLES: Mapping[str, tuple[str, ...]] = {
    "concurrency": ("GEMINI_CONCURRENCY_LIMIT",),
    "tier": ("GEMINI_TIER",),
    "limits.rpm": ("GEMINI_RPM",),
    "limits.tpm": ("GEMINI_TPM",),
    "limits.ipm": ("GEMINI_IPM",),
    "limits.rpd": ("GEMINI_RPD",),
    "model_limits": ("GEMINI_LIMITS",),
    **{f"models.{purpose}": ("GEMINI_MODEL_TYPE",) for purpose in sorted(OVERRIDDEN)},
    "proxy": (*PROXY_NAMES, *(name.lower() for name in PROXY_NAMES)),
    "cors_origins": ("CORS_ORIGIN",),
    "caller_weights": ("CALLER_WEIGHTS",),
}
"""Field of the configuration -> the variables that win over it."""


def effective(
    settings: Settings, configuration: Configuration, proxy: Secret | None = None
) -> tuple[Settings, Mapping[str, str]]:
    """`settings` (as the environment gave them) with the stored values where the environment sets none; and each field that
    the environment locks, with the variable that does. `proxy`: the stored proxy's URL with its credential, None if there is
    none. Raises BadRequest if both together are not valid."""
    locked = locked_fields(settings.environment)
    stored = {
        name: value
        for name, (field, value) in _as_variables(configuration, proxy).items()
        if field not in locked and value is not None
    }
    if stored:
        # The rules of the settings apply to a stored value as to a variable: defaults of a tier, limits of a model and so on.
        try:
            merged = Settings.from_environment({**settings.environment, **stored})
        except SettingsError as error:
            raise BadRequest(f"The configuration does not fit the environment: {error}") from None
        settings = replace(merged, environment=settings.environment)
    return replace(settings, models=configuration.table), locked


def locked_fields(environment: Mapping[str, str]) -> Mapping[str, str]:
    """Field -> the variable that is set."""
    found = {}
    for field, names in _VARIABLES.items():
        given = next((name for name in names if environment.get(name, "").strip()), None)
        if given is not None:
            found[field] = given
    return found


def _as_variables(configuration: Configuration, proxy: Secret | None) -> dict[str, tuple[str, str | None]]:
    """Variable -> (field, the value that the variable would have)."""
    limits = configuration.limits
    named = {name: value for name in ("rpm", "tpm", "ipm", "rpd") if (value := limits.get(name)) is not None}
    url = proxy.reveal() if proxy is not None else None
    return {
        "GEMINI_CONCURRENCY_LIMIT": ("concurrency", _text(configuration.concurrency)),
        "GEMINI_TIER": ("tier", configuration.tier),
        **{f"GEMINI_{name.upper()}": (f"limits.{name}", str(value)) for name, value in named.items()},
        "GEMINI_LIMITS": ("model_limits", _json(configuration.model_limits)),
        "HTTP_PROXY": ("proxy", url),
        "HTTPS_PROXY": ("proxy", url),
        "CORS_ORIGIN": ("cors_origins", ",".join(configuration.cors_origins or ()) or None),
        "CALLER_WEIGHTS": ("caller_weights", _json(configuration.caller_weights)),
    }


def _text(number: int | None) -> str | None:
    return None if number is None else str(number)


def _json(entries: Mapping[str, object]) -> str | None:
    return orjson.dumps(entries).decode() if entries else None
