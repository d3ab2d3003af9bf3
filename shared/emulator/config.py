"""The configuration of an offline Gemini: the project of each key, and the limits of each project."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal, cast

import orjson

Tier = Literal["free", "paid"]

# Google's inline request limit since January 2026.
MAX_BODY_BYTES = 100 * 1024 * 1024


class ConfigError(ValueError):
    """An invalid setting. The message is one sentence."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Per minute requests, input tokens and images, and requests per Pacific day. None is unlimited, 0 is "limit: 0"."""

    rpm: int | None = None
    tpm: int | None = None
    rpd: int | None = None
    ipm: int | None = None


@dataclass(frozen=True, slots=True)
class Project:
    """A Google project: `limits` apply to each model separately, `concurrency` to all its models together."""

    tier: Tier = "paid"
    limits: Limits = Limits()
    models: Mapping[str, Limits] = field(default_factory=dict)
    concurrency: int | None = None
    batches: int | None = 150
    """Calls of batchEmbedContents per minute, to all models together."""

    def limits_for(self, model: str) -> Limits:
        return self.models.get(model, self.limits)


@dataclass(frozen=True, slots=True)
class EmulatorConfig:
    """`keys` maps an API key to a project's name; any other key is a project of its own, which `label` names.

    `window_s` is the length of Google's minute. `latency_s` passes before the first byte, `chunk_delay_s` between frames.
    """

    projects: Mapping[str, Project] = field(default_factory=dict)
    keys: Mapping[str, str] = field(default_factory=dict)
    default_project: Project = Project()
    # Ids that the table does not list, each with the model that answers for it and is metered.
    aliases: Mapping[str, str] = field(default_factory=dict)
    window_s: float = 60.0
    latency_s: float = 0.0
    chunk_delay_s: float = 0.0
    cancels: bool = True
    """Whether work on a request ends when its client disconnects. If not, it keeps its slot until it would have been answered."""
    max_body_bytes: int = MAX_BODY_BYTES
    arrivals_kept: int = 200_000
    service_accounts: Mapping[str, str] = field(default_factory=dict)
    """The address of each service account that Google knows -> its RSA key in PEM, public or private."""
    token_lifetime_s: float = 3600.0
    # Gemini refuses a function call that is sent back without its signature, which a translating gateway must survive.
    require_thought_signatures: bool = True

    def project(self, name: str) -> Project:
        return self.projects.get(name, self.default_project)


def from_env(environ: Mapping[str, str], *, latency_ms: float = 0.0, chunk_delay_ms: float = 0.0) -> EmulatorConfig:
    """Reads EMULATOR_* and LEDGER_WINDOW_SECONDS; the two arguments are the defaults of EMULATOR_LATENCY_MS and
    EMULATOR_CHUNK_DELAY_MS. Raises ConfigError.

    EMULATOR_KEYS is a JSON object {key: project}; EMULATOR_ALIASES is {id: the model that it is metered as};
    EMULATOR_SERVICE_ACCOUNTS is {address: RSA key in PEM};
    EMULATOR_PROJECTS is {project: {"tier", "concurrency", "batches", "rpm", "tpm", "rpd", "ipm", "models": {model:
    {"rpm", ...}}}}.
    """
    default = Project(
        tier=_tier(environ.get("EMULATOR_TIER") or "paid", "EMULATOR_TIER"),
        limits=Limits(**{name: _whole(environ, f"EMULATOR_{name.upper()}") for name in _LIMIT_NAMES}),
        concurrency=_whole(environ, "EMULATOR_CONCURRENCY"),
        batches=_whole(environ, "EMULATOR_BATCHES") if environ.get("EMULATOR_BATCHES", "").strip() else 150,
    )
    keys = _json_object(environ, "EMULATOR_KEYS")
    if not all(isinstance(project, str) for project in keys.values()):
        raise ConfigError("EMULATOR_KEYS must map each key to the name of a project.")
    aliases = _json_object(environ, "EMULATOR_ALIASES")
    if not all(isinstance(model, str) for model in aliases.values()):
        raise ConfigError("EMULATOR_ALIASES must map each id to a model's id.")
    service_accounts = _json_object(environ, "EMULATOR_SERVICE_ACCOUNTS")
    if not all(isinstance(pem, str) for pem in service_accounts.values()):
        raise ConfigError("EMULATOR_SERVICE_ACCOUNTS must map each address to an RSA key in PEM.")
    window_s = _number(environ, "LEDGER_WINDOW_SECONDS", 60.0)
    if window_s <= 0:
        raise ConfigError("LEDGER_WINDOW_SECONDS must be more than 0.")
    return EmulatorConfig(
        projects={name: _project(name, value) for name, value in _json_object(environ, "EMULATOR_PROJECTS").items()},
        keys=keys,
        aliases=aliases,
        default_project=default,
        window_s=window_s,
        latency_s=_number(environ, "EMULATOR_LATENCY_MS", latency_ms) / 1000,
        chunk_delay_s=_number(environ, "EMULATOR_CHUNK_DELAY_MS", chunk_delay_ms) / 1000,
        cancels=_number(environ, "EMULATOR_CANCELS", 1.0) != 0,
        service_accounts=service_accounts,
        token_lifetime_s=_number(environ, "EMULATOR_TOKEN_LIFETIME_S", 3600.0),
    )


_LIMIT_NAMES = tuple(f.name for f in fields(Limits))


def _project(name: str, value: Any) -> Project:
    where = f"EMULATOR_PROJECTS[{name!r}]"
    if not isinstance(value, dict):
        raise ConfigError(f"{where} must be an object.")
    unknown = set(value) - {"tier", "concurrency", "batches", "models", *_LIMIT_NAMES}
    if unknown:
        raise ConfigError(f"{where} has unknown fields: {', '.join(sorted(unknown))}.")
    models = value.get("models", {})
    if not isinstance(models, dict):
        raise ConfigError(f"{where}.models must map a model to its limits.")
    return Project(
        tier=_tier(value.get("tier", "paid"), f"{where}.tier"),
        limits=_limits(value, where),
        models={model: _limits(limits, f"{where}.models[{model!r}]") for model, limits in models.items()},
        concurrency=_limit(value.get("concurrency"), f"{where}.concurrency"),
        batches=_limit(value.get("batches", 150), f"{where}.batches"),
    )


def _limits(value: Any, where: str) -> Limits:
    if not isinstance(value, dict):
        raise ConfigError(f"{where} must be an object.")
    return Limits(**{name: _limit(value.get(name), f"{where}.{name}") for name in _LIMIT_NAMES})


def _limit(value: Any, where: str) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ConfigError(f"{where} must be a whole number of 0 or more.")
    return value


def _tier(value: Any, where: str) -> Tier:
    if value not in ("free", "paid"):
        raise ConfigError(f"{where} must be free or paid.")
    return cast("Tier", value)


def _whole(environ: Mapping[str, str], name: str) -> int | None:
    text = environ.get(name, "").strip()
    if text in ("", "unlimited"):
        return None
    if not text.isdecimal():
        raise ConfigError(f"{name} must be a whole number or unlimited.")
    return int(text)


def _number(environ: Mapping[str, str], name: str, default: float) -> float:
    text = environ.get(name, "").strip()
    if not text:
        return default
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value) or value < 0:
        raise ConfigError(f"{name} must be a number of 0 or more.")
    return value


def _json_object(environ: Mapping[str, str], name: str) -> dict[str, Any]:
    text = environ.get(name, "").strip()
    if not text:
        return {}
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        value = None
    if not isinstance(value, dict):
        raise ConfigError(f"{name} must be a JSON object.")
    return value
