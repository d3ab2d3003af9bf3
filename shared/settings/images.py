"""Settings of images: where they are stored, for how long, and how they are linked to."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

from shared.errors import StorageUnavailable
from shared.media.location import parse_storage_url
from shared.settings.environment import Environment, SettingsError

LOCAL_STORAGE = "file://.local/storage"
_SWITCH = {"0": "0", "1": "1", "false": "0", "true": "1"}
_MAX_TTL_DAYS = 3650
_DAY_S = 86_400
_MAX_FILE_TTL_S = 30 * _DAY_S


@dataclass(frozen=True, slots=True)
class ImageSettings:
    storage_url: str | None
    """Where images are stored; None if the gateway is deployed without STORAGE_URL."""
    public_base_url: str | None
    """The start of image links, without a trailing slash; None: the address that the request was sent to."""
    ttl_days: int | None
    """None: images do not expire."""
    signed: bool
    """GET /image/<name> returns a signed URL of the bucket instead of the bytes."""
    keep_prompts: bool

    @property
    def file_ttl_s(self) -> int:
        """The longest lifetime of a stored file."""
        return _MAX_FILE_TTL_S if self.ttl_days is None else min(_MAX_FILE_TTL_S, self.ttl_days * _DAY_S)

    def required_url(self) -> str:
        """Raises StorageUnavailable where there is no storage."""
        if self.storage_url is None:
            raise StorageUnavailable(
                "Storage is not configured. The server's operator must set STORAGE_URL to a bucket."
            )
        return self.storage_url

    @classmethod
    def read(cls, env: Environment, deployed: bool) -> ImageSettings:
        """Raises SettingsError."""
        storage_url = _storage_url(env, deployed)
        return cls(
            storage_url=storage_url,
            public_base_url=_public_base_url(env),
            ttl_days=_ttl_days(env),
            signed=_signed(env, storage_url),
            keep_prompts=env.choice("IMAGE_KEEP_PROMPTS", "0", _SWITCH) == "1",
        )


def _storage_url(env: Environment, deployed: bool) -> str | None:
    name = "STORAGE_URL"
    url = env.text(name)
    if url is None:
        return None if deployed else LOCAL_STORAGE
    try:
        location = parse_storage_url(url)
    except ValueError as wrong:
        raise SettingsError(f"{name} is not valid; {wrong}.") from None
    if deployed and location.kind == "file":
        raise SettingsError(
            f"{name} names a folder, which is lost when a deployed instance ends; it must be a bucket, like gs://my-bucket."
        )
    return url


def _signed(env: Environment, storage_url: str | None) -> bool:
    name = "IMAGE_URLS"
    signed = env.choice(name, "proxied", {"proxied": "proxied", "signed": "signed"}) == "signed"
    if signed and storage_url is not None and storage_url.startswith("file://"):
        raise SettingsError(
            f"{name} is 'signed', but STORAGE_URL names a folder, which cannot sign URLs; "
            "it must be `proxied`, or STORAGE_URL must be gs:// or s3://."
        )
    return signed


def _ttl_days(env: Environment) -> int | None:
    name = "IMAGE_TTL_DAYS"
    if (env.text(name) or "").lower() == "unlimited":
        return None
    try:
        return env.integer(name, 30, 1, _MAX_TTL_DAYS)
    except SettingsError:
        raise env.invalid(name, f"a whole number of days from 1 to {_MAX_TTL_DAYS}, or `unlimited`") from None


def _public_base_url(env: Environment) -> str | None:
    name = "PUBLIC_BASE_URL"
    text = env.text(name)
    if text is None:
        return None
    try:
        parts = urlsplit(text)
        allowed = parts.scheme in ("http", "https") and parts.hostname and "@" not in parts.netloc
    except ValueError:
        allowed = False
    if not allowed or "?" in text or "#" in text or not (text.isascii() and text.isprintable()) or " " in text:
        example = "a URL like https://images.example, without credentials or a query"
        raise env.invalid(name, example, shown="@" not in text and "?" not in text)
    return text.rstrip("/")
