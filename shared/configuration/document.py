"""The stored configuration as one value: what it may contain, its JSON, and what differs between two versions. Pure.

A configuration that is not valid cannot exist: its construction raises BadRequest with the field's path.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar, Literal
from urllib.parse import urlsplit

import orjson

from shared.accounts.records import AccountRecord, check_text
from shared.bounds.json_structure import TooManyValues, check_values
from shared.errors import BadRequest, StaleConfiguration
from shared.gemini.models import ID_PATTERN, TABLE, ModelInfo, ModelTable, Purpose

if TYPE_CHECKING:
    from pydantic import TypeAdapter

MAX_DOCUMENT_BYTES = 900_000
"""Below the stores' limit for an entry (`stores.port.MAX_VALUE_BYTES`)."""
MAX_ACCOUNTS = 1_000
MAX_ENTRIES = 1_000
"""Of each mapping and list except the accounts."""
_MAX_VALUES = 200_000
_MAX_LOGGED_VERSIONS = 50
_MAX_LOGGED_NAMES = 10
_MAX_IMPORTS = 50
_MODEL = re.compile(ID_PATTERN)
_ORIGIN = re.compile(r"https?://[A-Za-z0-9.-]{1,253}(:[0-9]{1,5})?|https?://\[[0-9A-Fa-f:.]{2,45}\](:[0-9]{1,5})?")
_CALLER = re.compile(r"[\x20-\x7e]{1,200}")
_SHA256 = re.compile(r"[0-9a-f]{64}")

Tier = Literal["free", "tier1", "tier2", "tier3"]
LimitName = Literal["rpm", "tpm", "ipm", "rpd"]
ModelLimitName = Literal["rpm", "tpm", "ipm", "rpd", "batches"]
LimitValue = int | Literal["unlimited"]

_STRICT: Mapping[str, Any] = {"extra": "forbid", "strict": True}


@dataclass(frozen=True, slots=True)
class Proxy:
    """An outbound HTTP proxy. `url` has no credential; `sealed` is `user:password`, if the proxy needs one."""

    __pydantic_config__: ClassVar[Mapping[str, Any]] = _STRICT

    url: str
    sealed: str = field(default="", repr=False)
    enabled: bool = True

    def __post_init__(self) -> None:
        check_text("proxy.sealed", self.sealed, 5_000)
        try:
            parts = urlsplit(self.url)
            valid = parts.scheme == "http" and parts.hostname and parts.port != 0 and parts.path in ("", "/")
        except ValueError:  # The port is not a number, or an IPv6 address lacks its bracket.
            valid = False
        if not valid or len(self.url) > 500 or re.search(r"[@?#\s]", self.url):
            # The URL is not repeated: it may contain a password.
            raise BadRequest(
                "proxy.url must be like http://proxy.example:3128, without a path or a credential (SOCKS is not supported).",
                field="proxy.url",
            )


@dataclass(frozen=True, slots=True)
class LoggedChange:
    """A version of the configuration, and the fields in which it differs from the one before it."""

    __pydantic_config__: ClassVar[Mapping[str, Any]] = _STRICT

    version: int
    at_ms: int
    changed: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Configuration:
    """Each field but the accounts replaces a default of the settings, where the environment does not set it. None or empty: the
    default stays."""

    __pydantic_config__: ClassVar[Mapping[str, Any]] = _STRICT

    version: int = 0
    """Increases by one with each change. 0: nothing was ever stored."""
    format: Literal[1] = 1
    accounts: tuple[AccountRecord, ...] = ()
    concurrency: int | None = None
    tier: Tier | None = None
    limits: Mapping[LimitName, LimitValue] = field(default_factory=dict)
    model_limits: Mapping[str, Mapping[ModelLimitName, LimitValue]] = field(default_factory=dict)
    models: Mapping[Purpose, str] = field(default_factory=dict)
    """The default model of a purpose."""
    aliases: Mapping[str, str] = field(default_factory=dict)
    """A name that callers may use -> the model that serves it."""
    proxy: Proxy | None = None
    cors_origins: tuple[str, ...] | None = None
    caller_weights: Mapping[str, float] = field(default_factory=dict)
    imported: tuple[str, ...] = ()
    """The SHA-256 of each file that was imported, so that a start does not import it again."""
    unknown: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """Fields of an imported file that have no meaning here. An export returns them."""
    log: tuple[LoggedChange, ...] = ()

    def __post_init__(self) -> None:
        if self.version < 0:
            raise BadRequest("version must be 0 or more.", field="version")
        _check_accounts(self.accounts)
        _check_sizes(self)
        if self.concurrency is not None and not 1 <= self.concurrency <= 10_000:
            raise BadRequest("concurrency must be a whole number from 1 to 10000.", field="concurrency")
        _check_limits("limits", self.limits)
        for model, limits in self.model_limits.items():
            _check_model("model_limits", model)
            _check_limits(f"model_limits.{model}", limits)
        _ = self.table
        for origin in self.cors_origins or ():
            if not _ORIGIN.fullmatch(origin) and self.cors_origins != ("*",):
                raise BadRequest(
                    "cors_origins must be `*` alone, or origins like https://app.example.", field="cors_origins"
                )
        for caller, weight in self.caller_weights.items():
            if not _CALLER.fullmatch(caller) or not 0 < weight <= 1000:
                raise BadRequest(
                    "caller_weights must have callers of 1 to 200 printable ASCII characters, and weights over 0, at most 1000.",
                    field="caller_weights",
                )
        if not all(_SHA256.fullmatch(digest) for digest in self.imported):
            raise BadRequest("imported must have SHA-256 digests of 64 hex digits.", field="imported")

    @property
    def table(self) -> ModelTable:
        """The built-in table of models with the default models and aliases over it. Raises BadRequest."""
        if not self.models and not self.aliases:
            return TABLE
        for purpose, model in self.models.items():
            _check_model(f"models.{purpose}", model)
        for alias, model in self.aliases.items():
            _check_model("aliases", alias)
            _check_model(f"aliases.{alias}", model)
        named = dict.fromkeys((*self.models.values(), *self.aliases.values()))
        added = [_assumed(name) for name in named if not TABLE.resolve(name).known and name not in self.aliases]
        try:
            return TABLE.changed(models=added, successors=self.aliases, defaults=self.models)
        except ValueError as error:
            raise BadRequest(f"aliases: {error}; change the alias.", field="aliases") from None

    def account(self, account_id: str) -> AccountRecord | None:
        return next((record for record in self.accounts if record.id == account_id), None)

    def following(self, changed: Configuration, now_ms: int) -> Configuration:
        """`changed` as the version after this one, with its entry in the log."""
        names = tuple(differences(self, changed))
        if len(names) > _MAX_LOGGED_NAMES:
            names = (*names[:_MAX_LOGGED_NAMES], f"{len(names) - _MAX_LOGGED_NAMES} more")
        version = self.version + 1
        log = (*self.log, LoggedChange(version, now_ms, names))[-_MAX_LOGGED_VERSIONS:]
        return replace(changed, version=version, imported=changed.imported[-_MAX_IMPORTS:], log=log)

    def stale(self, version: int) -> StaleConfiguration:
        """The error for a change that was made on `version`: what has changed since."""
        since = [logged for logged in self.log if logged.version > version]
        names = list(dict.fromkeys(name for logged in since for name in logged.changed))
        if version > self.version or len(since) < self.version - version:
            names = ["more than is recorded"]
        shown = ", ".join(names[:_MAX_LOGGED_NAMES]) + (", and more" if len(names) > _MAX_LOGGED_NAMES else "")
        return StaleConfiguration(
            f"The configuration is at version {self.version}, not {version}. Changed since: {shown}. "
            "Read it again, and repeat your change.",
            details={"version": self.version, "changed": names},
        )


def differences(before: Configuration, after: Configuration) -> Iterator[str]:
    """The path of each field that differs, like `limits.rpm`, `concurrency` or `accounts.a-1f3c`."""
    for each in fields(Configuration):
        old, new = getattr(before, each.name), getattr(after, each.name)
        if each.name in ("version", "log") or old == new:
            continue
        if each.name == "accounts":
            old, new = ({record.id: record for record in records} for records in (old, new))
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            names = [name for name in {**old, **new} if old.get(name) != new.get(name)]
            yield from (f"{each.name}.{name}" for name in names or ["order"])
        else:
            yield each.name


def parse(text: bytes) -> Configuration:
    """The configuration that `text` (JSON) describes. Raises BadRequest with the field's path; no value is repeated."""
    if len(text) > MAX_DOCUMENT_BYTES:
        raise BadRequest(f"The configuration has {len(text):,} bytes; it may have at most {MAX_DOCUMENT_BYTES:,}.")
    try:
        check_values(text, _MAX_VALUES)
    except TooManyValues as error:
        raise BadRequest(f"The configuration has {error}; remove some.") from None
    # Imported on demand: where nothing is stored, nothing is parsed.
    from pydantic import ValidationError

    try:
        return _adapter().validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        path = "".join(char for char in ".".join(map(str, first["loc"])) if char.isprintable())[:200] or None
        what = "is not a field of the configuration" if first["type"] == "unexpected_keyword_argument" else first["msg"]
        raise BadRequest(f"{path or 'The configuration'}: {what}.", field=path) from None


def dump(configuration: Configuration) -> bytes:
    """The JSON of `configuration`. Raises BadRequest if it is too large."""
    try:
        text = orjson.dumps(configuration, option=orjson.OPT_SORT_KEYS)
    except orjson.JSONEncodeError:
        raise BadRequest(
            "unknown is nested too deeply, or has a value that JSON cannot hold.", field="unknown"
        ) from None
    if len(text) > MAX_DOCUMENT_BYTES:
        raise BadRequest(
            f"The configuration would have {len(text):,} bytes; it may have at most {MAX_DOCUMENT_BYTES:,}. "
            "Remove accounts that are not used."
        )
    return text


@cache
def _adapter() -> TypeAdapter[Configuration]:
    from pydantic import TypeAdapter

    return TypeAdapter(Configuration)


def _check_accounts(accounts: Sequence[AccountRecord]) -> None:
    if len(accounts) > MAX_ACCOUNTS:
        raise BadRequest(f"accounts has {len(accounts)} entries; it may have at most {MAX_ACCOUNTS}.", field="accounts")
    seen: set[str] = set()
    for record in accounts:
        if record.id in seen:
            raise BadRequest(f"accounts has {record.id} twice; each account needs its own id.", field="accounts")
        seen.add(record.id)


def _check_sizes(configuration: Configuration) -> None:
    for name in ("model_limits", "aliases", "caller_weights", "cors_origins", "unknown", "imported", "log"):
        if len(getattr(configuration, name) or ()) > MAX_ENTRIES:
            raise BadRequest(f"{name} has more than {MAX_ENTRIES} entries; remove some.", field=name)


def _check_limits(path: str, limits: Mapping[LimitName, LimitValue] | Mapping[ModelLimitName, LimitValue]) -> None:
    for name, value in limits.items():
        if (name, value) == ("batches", "unlimited"):
            raise BadRequest(f"{path}.batches must be a number.", field=f"{path}.batches")
        if value != "unlimited" and not 0 <= value < 1 << 53:
            raise BadRequest(f"{path}.{name} must be 0 or more, or `unlimited`.", field=f"{path}.{name}")


def _assumed(model: str) -> ModelInfo:
    """A model that the table does not know yet: what it answers with is taken from its name, as Google names its models."""
    return ModelInfo(model, "image" if "image" in model else "flash", thinking_levels=())


def _check_model(path: str, model: str) -> None:
    if not _MODEL.fullmatch(model):
        raise BadRequest(
            f"{path} must name a model by 1 to 100 characters a-z, 0-9, '.', '_' and '-', like gemini-3.8-flash.",
            field=path,
        )
