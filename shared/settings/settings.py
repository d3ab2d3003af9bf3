"""The environment as one frozen value. `Settings.from_environment` is its only reader; it refuses what is wrong."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType
from urllib.parse import unquote, urlsplit

from shared.errors import BadRequest
from shared.gemini.models import info_of
from shared.ledger.limits import TIERS, Limits
from shared.secret import Secret
from shared.settings.environment import Environment, SettingsError, limit_from
from shared.settings.images import ImageSettings
from shared.settings.proxy import ProxySettings
from shared.settings.upstream import read_base_url
from shared.stores.url import parse_store_url

__all__ = ["ServerKey", "Settings", "SettingsError"]

DISTRIBUTION = "gemini-concurrent-generation"
PLATFORM_BODY_BYTES = 32 * 1024 * 1024
"""Cloud Run and Cloud Functions refuse larger HTTP/1 requests (cloud.google.com/functions/quotas)."""

MAX_RATE_LIMIT = 10_000
MIN_ADMIN_KEY_CHARS = 16
"""A shorter key could be guessed: the right one is accepted at once, however many wrong ones came before."""

_TIER_NAMES = {**{name: name for name in TIERS}, "custom": "tier3"}
_LEVELS = {name: name.upper() for name in ("debug", "info", "warning", "error")}
_LIMIT_FIELDS = {
    "rpm": "requests",
    "tpm": "input_tokens",
    "ipm": "images",
    "rpd": "requests_per_day",
}
_MODEL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_PROJECT_ID = r"[A-Za-z0-9][A-Za-z0-9:._-]{0,99}"
_REPORTED = re.compile(rf"(GEMINI_API_KEY(?:_\d{{1,4}})?)=({_PROJECT_ID})")
_MIB = 1024 * 1024
_OTLP_HEADERS = "OTEL_EXPORTER_OTLP_HEADERS"


@dataclass(frozen=True, slots=True)
class ServerKey:
    """A Gemini key of the server's own. Keys of one `project` share its limits; `source` is the variable's name."""

    secret: Secret
    project: str
    source: str


@dataclass(frozen=True, slots=True)
class Tracing:
    """Where OpenTelemetry spans go, and of which share of the requests that arrive without a decision about it."""

    url: str
    """That OTLP's trace requests are posted to, without credentials."""
    headers: tuple[tuple[str, Secret], ...]
    service_name: str
    ratio: float


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that the environment decides. Made once per process; shown to nobody as it is (it holds secrets)."""

    admin_api_keys: tuple[Secret, ...]
    server_keys: tuple[ServerKey, ...]
    reported_projects: Mapping[str, str]
    """Account -> ledger id of its project: what GET /health reports in a function that holds no Gemini key."""
    concurrency_limit: int
    """At once, per Google project, over all its models."""
    tier: str
    """free, tier1, tier2 or tier3 (`custom` is read as tier3)."""
    limits: Limits
    model_limits: Mapping[str, Limits]
    """Whole limits of the models that GEMINI_LIMITS names; others have `limits`."""
    caller_limits: Limits
    """Of a key that a caller brought."""
    model_override: str | None
    """The model where a caller names none (chat, generate_text, stream, batch), without `models/`."""
    cancels: bool
    """GEMINI_CANCELS: Gemini stops working on a request when its connection is closed."""
    base_url: str
    """Gemini's origin, without a trailing slash and without a version."""
    proxies: ProxySettings
    request_timeout_s: float
    queue_timeout_s: float
    queue_timeout_given: bool
    """QUEUE_TIMEOUT_SECONDS is set: it then also holds for callers that state their patience."""
    max_connections: int
    rate_limit: int | None
    """Requests per minute of one caller, where that is limited; None: unlimited."""
    queue_max_bytes: int | None
    """Of all requests that a process holds at once; None: chosen by the memory it has."""
    max_body_bytes: int
    ledger_url: str
    lease_s: float | None
    """A lease's length; None: the ledger chooses."""
    window_s: float
    """A minute, except in tests."""
    images: ImageSettings
    cors_origins: tuple[str, ...]
    """`("*",)`, or the origins that may read answers."""
    caller_weights: Mapping[str, float]
    allow_anonymous: frozenset[str]
    deployed: bool
    """Behind Google's front end: X-Forwarded-For's last address is then the client's."""
    project: str | None
    log_level: str
    tracing: Tracing | None
    """None: no spans."""
    host: str
    port: int
    workers: int

    @classmethod
    def from_environment(cls, env: Mapping[str, str]) -> Settings:
        """Raises SettingsError: one sentence with the variable, what was given (never a secret) and what is allowed."""
        read = Environment(env)
        tier = read.choice("GEMINI_TIER", "tier1", _TIER_NAMES)
        limits = _limits(read, tier)
        deployed = read.text("K_SERVICE") is not None
        workers = read.integer("WORKERS", 1, 1, 64)
        return cls(
            admin_api_keys=_admin_keys(read, deployed),
            server_keys=_server_keys(read),
            reported_projects=_reported_projects(read),
            concurrency_limit=read.integer("GEMINI_CONCURRENCY_LIMIT", 15, 1, 10_000),
            tier=tier,
            limits=limits,
            model_limits=_model_limits(read, limits),
            caller_limits=_caller_limits(read, tier, limits),
            model_override=_model_override(read),
            cancels=read.choice("GEMINI_CANCELS", "0", {"0": "0", "1": "1"}) == "1",
            base_url=read_base_url(read),
            proxies=ProxySettings.read(read),
            request_timeout_s=read.number("REQUEST_TIMEOUT_SECONDS", 120.0, 0.1, 3600.0),
            queue_timeout_s=read.number("QUEUE_TIMEOUT_SECONDS", 30.0, 0.0, 3600.0),
            queue_timeout_given=read.text("QUEUE_TIMEOUT_SECONDS") is not None,
            max_connections=read.integer("MAX_CONNECTIONS", 100, 1, 10_000),
            rate_limit=_rate_limit(read),
            queue_max_bytes=read.integer("QUEUE_MAX_MB", 0, 1, 16_384) * _MIB or None,
            max_body_bytes=PLATFORM_BODY_BYTES,
            ledger_url=_ledger_url(read, deployed, workers),
            lease_s=read.number("LEDGER_LEASE_SECONDS", 0.0, 0.1, 600.0) or None,
            window_s=read.number("LEDGER_WINDOW_SECONDS", 60.0, 0.5, 60.0),
            images=ImageSettings.read(read, deployed),
            cors_origins=_cors_origins(read),
            caller_weights=_caller_weights(read),
            allow_anonymous=frozenset(name.replace("-", "_") for name in read.items("ALLOW_ANONYMOUS")),
            deployed=deployed,
            project=read.text("GOOGLE_CLOUD_PROJECT"),
            log_level=read.choice("LOG_LEVEL", "INFO", _LEVELS),
            tracing=_tracing(read),
            host=read.text("HOST") or "127.0.0.1",
            port=read.integer("PORT", 5004, 0, 65_535),
            workers=workers,
        )

    @property
    def version(self) -> str:
        return _version()

    @property
    def warning(self) -> str | None:
        """One sentence about a setting that is allowed here, but would be refused where the gateway is deployed."""
        if all(len(key.reveal()) >= MIN_ADMIN_KEY_CHARS for key in self.admin_api_keys):
            return None
        return f"{_SHORT_ADMIN_KEY} Deployed, the server refuses it."

    def limits_of(self, model: str) -> Limits:
        return self.model_limits.get(model, self.limits)

    def proxy_for(self, url: str) -> Secret | None:
        """The proxy that requests to `url` go through."""
        return self.proxies.proxy_for(url)


_SHORT_ADMIN_KEY = (
    f"ADMIN_API_KEY has a key of fewer than {MIN_ADMIN_KEY_CHARS} characters, which can be guessed; "
    "make a longer one, for example with `openssl rand -base64 24`."
)


def _admin_keys(read: Environment, deployed: bool) -> tuple[Secret, ...]:
    keys = tuple(read.secret("ADMIN_API_KEY", key, 1) for key in read.items("ADMIN_API_KEY"))
    if deployed and any(len(key.reveal()) < MIN_ADMIN_KEY_CHARS for key in keys):
        raise SettingsError(_SHORT_ADMIN_KEY)
    return keys


@cache
def _version() -> str:
    # Imported on demand: only /health shows the version, and the import is 20 ms of a cold start.
    from importlib.metadata import version

    return version(DISTRIBUTION)


def _limits(read: Environment, tier: str) -> Limits:
    if tier == "tier3":
        missing = [name for name in ("GEMINI_RPM", "GEMINI_TPM", "GEMINI_RPD") if read.text(name) is None]
        if missing:
            raise SettingsError(
                f"GEMINI_TIER is {read.text('GEMINI_TIER')!r}, which has no limits of its own: "
                f"{' and '.join(missing)} must be given, each as a whole number or `unlimited`."
            )
    base = TIERS[tier]
    return base._replace(
        requests=read.limit("GEMINI_RPM", base.requests),
        input_tokens=read.limit("GEMINI_TPM", base.input_tokens),
        images=read.limit("GEMINI_IPM", base.images),
        requests_per_day=read.limit("GEMINI_RPD", base.requests_per_day),
    )


def _model_limits(read: Environment, limits: Limits) -> Mapping[str, Limits]:
    name, example = "GEMINI_LIMITS", '{"gemini-3.8-flash": {"rpm": 100, "tpm": "unlimited"}}'
    result: dict[str, Limits] = {}
    for model, given in read.json_object(name, example).items():
        if not _MODEL_NAME.fullmatch(model) or not isinstance(given, dict):
            raise read.refuse(name, f"a JSON object of models and their limits like {example}")
        values = {}
        for key, value in given.items():
            if key not in _LIMIT_FIELDS:
                raise SettingsError(f"{name} gives {model} {key!r}; a limit must be one of {', '.join(_LIMIT_FIELDS)}.")
            try:
                values[_LIMIT_FIELDS[key]] = limit_from(value)
            except ValueError:
                raise SettingsError(
                    f"{name} gives {model} {key} = {str(value)[:40]!r}; it must be a whole number or `unlimited`."
                ) from None
        result[model] = limits._replace(**values)
    return MappingProxyType(result)


def _rate_limit(read: Environment) -> int | None:
    """A caller's requests of a minute are one document, which this bounds."""
    limit = read.limit("RATE_LIMIT_PER_MINUTE", 60)
    if limit is not None and not 1 <= limit <= MAX_RATE_LIMIT:
        raise read.refuse("RATE_LIMIT_PER_MINUTE", f"a whole number from 1 to {MAX_RATE_LIMIT}, or `unlimited`")
    return limit


def _caller_limits(read: Environment, tier: str, limits: Limits) -> Limits:
    """The same limits as the server's own keys, unless CALLER_KEY_TIER names another tier."""
    caller_tier = read.choice("CALLER_KEY_TIER", tier, _TIER_NAMES)
    return limits if caller_tier == tier else TIERS[caller_tier]


def _server_keys(read: Environment) -> tuple[ServerKey, ...]:
    numbers = sorted(
        int(match[1]) for name in read.names() if (match := re.fullmatch(r"GEMINI_API_KEY_(\d{1,4})", name))
    )
    single = "GEMINI_API_KEY" if read.text("GEMINI_API_KEY") else "GOOGLE_API_KEY"
    sources = [single, *(f"GEMINI_API_KEY_{number}" for number in numbers)]
    for name in read.names():
        if (match := re.fullmatch(r"(GEMINI_API_KEY_\d+)_PROJECT", name)) and not read.text(match[1]):
            raise SettingsError(f"{name} is set, but {match[1]}, whose project it names, is not.")
    keys: dict[Secret, ServerKey] = {}
    named: dict[Secret, str] = {}
    for source in sources:
        secret = read.gemini_key(source)
        if secret is None:
            continue
        project = _project(read, f"{source}_PROJECT")
        if project is not None and named.setdefault(secret, project) != project:
            raise SettingsError(
                f"{source} repeats the key of {keys[secret].source}, but for another project; give each key once."
            )
        first = keys.get(secret)
        keys[secret] = ServerKey(
            secret, named.get(secret) or f"k-{secret.fingerprint('project')}", first.source if first else source
        )
    return tuple(keys.values())


def _reported_projects(read: Environment) -> Mapping[str, str]:
    name, found = "GEMINI_PROJECTS", {}
    for item in read.items(name):
        match = _REPORTED.fullmatch(item)
        if match is None:
            raise read.refuse(name, "a list of keys' variables and their projects like GEMINI_API_KEY_1=my-project")
        found[account_id(match[1])] = match[2]
    return MappingProxyType(found)


def account_id(variable: str) -> str:
    """What an account is called where it may be seen, by the variable that holds its key."""
    return variable.lower().replace("_", "-")


def _project(read: Environment, name: str) -> str | None:
    text = read.text(name)
    if text is not None and not re.fullmatch(_PROJECT_ID, text):
        raise read.refuse(name, "a Google Cloud project's id")
    return text


def _model_override(read: Environment) -> str | None:
    text = read.text("GEMINI_MODEL_TYPE")
    if text is None:
        return None
    name = text.removeprefix("models/")
    try:
        info = info_of(name)
    except BadRequest:
        raise read.refuse("GEMINI_MODEL_TYPE", "a model's name like gemini-3.8-flash") from None
    if info is not None and info.answers_with != "text":
        raise read.refuse("GEMINI_MODEL_TYPE", "a model that answers with text, like gemini-3.8-flash")
    return name


def _tracing(read: Environment) -> Tracing | None:
    """The standard's names (opentelemetry.io/docs/specs/otel/protocol/exporter); the sampler is parentbased_traceidratio."""
    general = _otlp_url(read, "OTEL_EXPORTER_OTLP_ENDPOINT", "http://localhost:4318")
    traces = _otlp_url(read, "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://localhost:4318/v1/traces")
    headers = tuple(_otlp_header(read, item) for item in read.items(_OTLP_HEADERS))
    service_name = read.text("OTEL_SERVICE_NAME") or read.text("K_SERVICE") or DISTRIBUTION
    ratio = read.number("OTEL_TRACES_SAMPLER_ARG", 1.0, 0.0, 1.0)
    url = traces or (f"{general.rstrip('/')}/v1/traces" if general else None)
    return Tracing(url, headers, service_name, ratio) if url else None


def _otlp_url(read: Environment, name: str, example: str) -> str | None:
    text = read.text(name)
    if text is None:
        return None
    try:
        parts = urlsplit(text)
        known = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:  # Of a port, or of an IPv6 address.
        known = False
    if not known or any(mark in text for mark in "@?# "):
        allowed = f"a URL like {example}, without credentials or a query; those belong into {_OTLP_HEADERS}"
        raise read.refuse(name, allowed, shown=False)
    return text


def _otlp_header(read: Environment, item: str) -> tuple[str, Secret]:
    name, _, value = item.partition("=")
    name, value = name.strip(), unquote(value.strip())
    if not re.fullmatch(r"[A-Za-z0-9-]{1,100}", name) or not re.fullmatch(r"[\x20-\x7e]{1,4096}", value):
        raise read.refuse(
            _OTLP_HEADERS, "a list like api-key=abc,x-team=gateway, its values percent-encoded", shown=False
        )
    return name, Secret(value)


def _ledger_url(read: Environment, deployed: bool, workers: int) -> str:
    name = "LEDGER_URL"
    url = read.text(name)
    if url is None and deployed:
        name, project = "GOOGLE_CLOUD_PROJECT", read.text("GOOGLE_CLOUD_PROJECT")
        if project is None:
            raise SettingsError(
                f"Neither LEDGER_URL nor {name} is set; a deployed function must have one of them, "
                "so that all its instances share one ledger, like firestore://my-project/(default)."
            )
        url = f"firestore://{project}/(default)"
    url = url or "sqlite:///.local/ledger.db"
    try:
        location = parse_store_url(url)
    except ValueError as error:
        raise SettingsError(f"{name} is not valid; {error}.") from None
    if location.kind == "memory" and workers > 1:
        raise SettingsError(
            f"{name} is 'memory://' and WORKERS is {workers}; processes cannot share memory, "
            "so it must be sqlite:///path or firestore://project/database, or WORKERS must be 1."
        )
    return url


def _cors_origins(read: Environment) -> tuple[str, ...]:
    origins = read.items("CORS_ORIGIN") or ("*",)
    if origins == ("*",):
        return origins
    for origin in origins:
        parts = urlsplit(origin)
        if parts.scheme not in ("http", "https") or not parts.hostname or origin != f"{parts.scheme}://{parts.netloc}":
            raise read.refuse("CORS_ORIGIN", "`*`, or a list of origins like https://app.example,http://localhost:3000")
    return origins


def _caller_weights(read: Environment) -> Mapping[str, float]:
    name, example = "CALLER_WEIGHTS", '{"team-a": 3, "team-b": 0.5}'
    weights: dict[str, float] = {}
    for caller, weight in read.json_object(name, example).items():
        if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 < weight <= 1000:
            raise read.refuse(name, f"a JSON object of callers and weights over 0, at most 1000, like {example}")
        weights[caller] = float(weight)
    return MappingProxyType(weights)
