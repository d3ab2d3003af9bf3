"""The environment as one frozen value. `Settings.from_environment` reads it and rejects wrong values. Each area has a module."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from types import MappingProxyType
from urllib.parse import urlsplit

from shared.errors import BadRequest
from shared.gemini.models import TABLE, ModelTable, info_of
from shared.ledger.limits import Limits
from shared.secret import Secret
from shared.settings.accounts import AccountSettings
from shared.settings.environment import Environment, SettingsError
from shared.settings.images import ImageSettings
from shared.settings.keys import (
    MIN_ADMIN_KEY_CHARS,
    SHORT_ADMIN_KEY,
    ServerKey,
    read_admin_keys,
    read_reported_projects,
    read_server_keys,
)
from shared.settings.limits import TIER_NAMES, read_caller_limits, read_limits, read_model_limits, read_rate_limit
from shared.settings.proxy import ProxySettings
from shared.settings.tracing import Tracing, read_tracing
from shared.settings.upstream import read_base_url
from shared.stores.url import parse_store_url

__all__ = ["Settings", "SettingsError"]

DISTRIBUTION = "gemini-concurrent-generation"
PLATFORM_BODY_BYTES = 32 * 1024 * 1024
"""Cloud Run and Cloud Functions refuse larger HTTP/1 requests (cloud.google.com/functions/quotas)."""


_LEVELS = {name: name.upper() for name in ("debug", "info", "warning", "error")}
_MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that the environment decides, created once per process. It holds secrets: never show it as a whole."""

    admin_api_keys: tuple[Secret, ...]
    server_keys: tuple[ServerKey, ...]
    reported_projects: Mapping[str, str]
    """Account -> ledger id of its project, for GET /health in a function that holds no Gemini key."""
    concurrency_limit: int
    """Concurrent requests per Google project, over all its models."""
    tier: str
    """free, tier1, tier2 or tier3 (`custom` is read as tier3)."""
    limits: Limits
    model_limits: Mapping[str, Limits]
    """The complete limits of each model that GEMINI_LIMITS names; other models have `limits`."""
    caller_limits: Limits
    """The limits of a caller's own key."""
    model_override: str | None
    """The model of a request that names none (chat, generate_text, stream, batch), without `models/`."""
    cancels: bool
    """GEMINI_CANCELS: Gemini stops working on a request when its connection is closed."""
    base_url: str
    """Gemini's origin, without a trailing slash and without a version."""
    proxies: ProxySettings
    request_timeout_s: float
    queue_timeout_s: float
    queue_timeout_given: bool
    """QUEUE_TIMEOUT_SECONDS is set; it then also limits requests that state a timeout."""
    max_connections: int
    rate_limit: int | None
    """Requests per minute and caller, where rates apply; None: unlimited."""
    queue_max_bytes: int | None
    """Bytes of all requests of one process together; None: chosen by its memory."""
    max_body_bytes: int
    max_upload_bytes: int
    """Maximum size of an uploaded file, or of all files of one form together."""
    ledger_url: str
    lease_s: float | None
    """How long an instance may hold reservations; None: the ledger chooses."""
    window_s: float
    """The window of the limits: one minute, shorter only in tests."""
    session_ttl_hours: int
    """How long what belongs to a conversation is kept, after its last turn."""
    stream_grace_s: float
    """STREAM_GRACE_SECONDS: how long a session's answer is completed for a reader who has left and may return."""
    images: ImageSettings
    accounts: AccountSettings
    cors_origins: tuple[str, ...]
    """`("*",)`, or the origins whose pages may read responses."""
    caller_weights: Mapping[str, float]
    allow_anonymous: frozenset[str]
    deployed: bool
    client_address_from_end: int
    """Place of the caller's address in X-Forwarded-For, counted from its end; used when deployed, behind Google's front end."""
    project: str | None
    log_level: str
    tracing: Tracing | None
    """None: no spans."""
    host: str
    port: int
    workers: int
    models: ModelTable = TABLE
    stored_accounts: int = 0
    """Accounts of the stored configuration that may serve, besides `server_keys`."""
    environment: Mapping[str, str] = field(default_factory=dict, repr=False, compare=False)
    """What these settings were read from, so that stored defaults can be put below it (`configuration.effective`)."""

    @classmethod
    def from_environment(cls, env: Mapping[str, str]) -> Settings:
        """Raises SettingsError: one sentence with the variable, what was given (never a secret) and what is allowed."""
        read = Environment(env)
        tier = read.choice("GEMINI_TIER", "tier1", TIER_NAMES)
        limits = read_limits(read, tier)
        deployed = read.text("K_SERVICE") is not None
        workers = read.integer("WORKERS", 1, 1, 64)
        server_keys, concurrency = read_server_keys(read), read.integer("GEMINI_CONCURRENCY_LIMIT", 15, 1, 10_000)
        return cls(
            admin_api_keys=read_admin_keys(read, deployed),
            server_keys=server_keys,
            reported_projects=read_reported_projects(read),
            concurrency_limit=concurrency,
            tier=tier,
            limits=limits,
            model_limits=read_model_limits(read, limits),
            caller_limits=read_caller_limits(read, tier, limits),
            model_override=_model_override(read),
            cancels=read.choice("GEMINI_CANCELS", "0", {"0": "0", "1": "1"}) == "1",
            base_url=read_base_url(read),
            proxies=ProxySettings.read(read),
            request_timeout_s=read.number("REQUEST_TIMEOUT_SECONDS", 120.0, 0.1, 3600.0),
            queue_timeout_s=read.number("QUEUE_TIMEOUT_SECONDS", 30.0, 0.0, 3600.0),
            queue_timeout_given=read.text("QUEUE_TIMEOUT_SECONDS") is not None,
            max_connections=read.integer("MAX_CONNECTIONS", _connections(concurrency * len(server_keys)), 1, 10_000),
            rate_limit=read_rate_limit(read),
            queue_max_bytes=read.integer("QUEUE_MAX_MB", 0, 1, 16_384) * _MIB or None,
            max_body_bytes=PLATFORM_BODY_BYTES,
            max_upload_bytes=read.integer("MAX_UPLOAD_MB", 100, 1, 2_048) * _MIB,
            ledger_url=_ledger_url(read, deployed, workers),
            lease_s=read.number("LEDGER_LEASE_SECONDS", 0.0, 0.1, 600.0) or None,
            window_s=read.number("LEDGER_WINDOW_SECONDS", 60.0, 0.5, 60.0),
            session_ttl_hours=read.integer("SESSION_TTL_HOURS", 24, 1, 8760),
            stream_grace_s=read.number("STREAM_GRACE_SECONDS", 0.0 if deployed else 30.0, 0.0, 3600.0),
            images=ImageSettings.read(read, deployed),
            accounts=AccountSettings.read(read),
            cors_origins=_cors_origins(read),
            caller_weights=_caller_weights(read),
            allow_anonymous=frozenset(name.replace("-", "_") for name in read.items("ALLOW_ANONYMOUS")),
            deployed=deployed,
            client_address_from_end=read.integer("CLIENT_ADDRESS_FROM_END", 1, 1, 10),
            project=read.text("GOOGLE_CLOUD_PROJECT"),
            log_level=read.choice("LOG_LEVEL", "INFO", _LEVELS),
            tracing=read_tracing(read, DISTRIBUTION),
            host=read.text("HOST") or "127.0.0.1",
            port=read.integer("PORT", 5004, 0, 65_535),
            workers=workers,
            environment=MappingProxyType(dict(env)),
        )

    @property
    def version(self) -> str:
        return _version()

    @property
    def warning(self) -> str | None:
        """One sentence about a setting that is accepted locally and would be rejected when deployed; None if there is none."""
        if all(len(key.reveal()) >= MIN_ADMIN_KEY_CHARS for key in self.admin_api_keys):
            return None
        return f"{SHORT_ADMIN_KEY} A deployed server rejects it."

    @property
    def max_form_bytes(self) -> int:
        """Maximum size of all files of one form: the platform limits a whole body, and a form has more than its files."""
        return min(self.max_upload_bytes, PLATFORM_BODY_BYTES - _MIB) if self.deployed else self.max_upload_bytes

    @property
    def has_accounts(self) -> bool:
        """Whether the server has accounts of its own."""
        return bool(self.server_keys) or self.stored_accounts > 0

    def with_stored_accounts(self, count: int) -> Settings:
        """These settings, with connections for `count` stored accounts too where MAX_CONNECTIONS is not set."""
        connections = self.max_connections
        if not self.environment.get("MAX_CONNECTIONS", "").strip():
            connections = _connections(self.concurrency_limit * (len(self.server_keys) + count))
        return replace(self, stored_accounts=count, max_connections=connections)

    def limits_of(self, model: str) -> Limits:
        return self.model_limits.get(model, self.limits)

    def proxy_for(self, url: str) -> Secret | None:
        """The proxy that requests to `url` go through."""
        return self.proxies.proxy_for(url)


@cache
def _version() -> str:
    # Imported on demand: only /health shows the version, and the import takes 20 ms of a cold start.
    from importlib.metadata import version

    return version(DISTRIBUTION)


def _connections(concurrency: int) -> int:
    """Enough for one process to use the whole concurrency of the server's keys."""
    return min(max(100, concurrency), 1_000)


def _model_override(read: Environment) -> str | None:
    text = read.text("GEMINI_MODEL_TYPE")
    if text is None:
        return None
    name = text.removeprefix("models/")
    try:
        info = info_of(name)
    except BadRequest:
        raise read.invalid("GEMINI_MODEL_TYPE", "a model id like gemini-3.8-flash") from None
    if info is not None and info.answers_with != "text":
        raise read.invalid("GEMINI_MODEL_TYPE", "a model that returns text, like gemini-3.8-flash")
    return name


def _ledger_url(read: Environment, deployed: bool, workers: int) -> str:
    name = "LEDGER_URL"
    url = read.text(name)
    if url is None and deployed:
        name, project = "GOOGLE_CLOUD_PROJECT", read.text("GOOGLE_CLOUD_PROJECT")
        if project is None:
            raise SettingsError(
                f"Neither LEDGER_URL nor {name} is set, so a deployed function's instances cannot share one ledger; "
                "set LEDGER_URL, like firestore://my-project/(default)."
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
            raise read.invalid(
                "CORS_ORIGIN", "`*`, or a list of origins like https://app.example,http://localhost:3000"
            )
    return origins


def _caller_weights(read: Environment) -> Mapping[str, float]:
    name, example = "CALLER_WEIGHTS", '{"team-a": 3, "team-b": 0.5}'
    weights: dict[str, float] = {}
    for caller, weight in read.json_object(name, example).items():
        if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 < weight <= 1000:
            raise read.invalid(name, f"a JSON object of callers and weights over 0, at most 1000, like {example}")
        weights[caller] = float(weight)
    return MappingProxyType(weights)
