"""Settings of the account pool: encryption, how long an exhausted account rests, and where the kinds of account are served."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from shared.ledger.state import Exhaustion
from shared.secret import Secret
from shared.settings.environment import Environment

DATA_KEY_BYTES = 32
DEFAULT_ACCOUNTS_FILE = "business_gemini_session.json"
WHY_NO_SESSION_ACCOUNTS = (
    "An account of the kind enterprise_session works with the cookies of a browser: Google documents none of its requests, may "
    "change them without notice, and its terms may not permit this use. Set ALLOW_SESSION_ACCOUNTS=1 to use it all the same, or "
    "add an account of the kind enterprise."
)
_SWITCH = {"0": "0", "1": "1", "false": "0", "true": "1"}
_MAX_WAIT_S = 31 * 86_400.0


@dataclass(frozen=True, slots=True)
class AccountSettings:
    """Intervals are in seconds; URLs are origins without a trailing slash."""

    data_keys: tuple[Secret, ...]
    """ACCOUNTS_DATA_KEY: base64 of 32 bytes each. The first one encrypts, all decrypt. Empty if it is not set."""
    accounts_file: str | None
    """ACCOUNTS_FILE, which is imported once; None: ./business_gemini_session.json, if it exists."""
    allow_session_accounts: bool
    key_cooldown_s: float
    """An account rests for this long after each dispatch; 0: it does not."""
    exhausted_wait_s: float
    """How long an account is out after a 429 that names no delay."""
    fully_exhausted_wait_s: float
    max_exhausted_retries: int
    """So many rejections for an exhausted quota in a row make an account fully exhausted."""
    vertex_base_url: str | None
    """None: Google's host of the account's location."""
    oauth_token_url: str
    enterprise_base_url: str | None
    """None: Google's host of the account's location."""
    enterprise_session_base_url: str | None
    """None: Google's two hosts."""

    @property
    def exhaustion(self) -> Exhaustion:
        """The settings are for minutes; LEDGER_WINDOW_SECONDS, which only tests set, scales these times too."""
        return Exhaustion(self.exhausted_wait_s / 60, self.max_exhausted_retries, self.fully_exhausted_wait_s / 60)

    @classmethod
    def read(cls, env: Environment) -> AccountSettings:
        """Raises SettingsError."""
        return cls(
            data_keys=_data_keys(env),
            accounts_file=env.text("ACCOUNTS_FILE"),
            allow_session_accounts=env.choice("ALLOW_SESSION_ACCOUNTS", "0", _SWITCH) == "1",
            key_cooldown_s=env.number("KEY_COOLDOWN_SECONDS", 0.0, 0.0, 3600.0),
            exhausted_wait_s=env.number("EXHAUSTED_WAIT_SECONDS", 60.0, 1.0, _MAX_WAIT_S),
            fully_exhausted_wait_s=env.number("FULLY_EXHAUSTED_WAIT_SECONDS", 43_200.0, 1.0, _MAX_WAIT_S),
            max_exhausted_retries=env.integer("MAX_EXHAUSTED_RETRIES", 3, 1, 1_000),
            vertex_base_url=_origin(env, "VERTEX_BASE_URL"),
            oauth_token_url=_origin(env, "OAUTH_TOKEN_URL", path=True) or "https://oauth2.googleapis.com/token",
            enterprise_base_url=_origin(env, "ENTERPRISE_BASE_URL"),
            enterprise_session_base_url=_origin(env, "ENTERPRISE_SESSION_BASE_URL"),
        )


def file_to_import(settings: AccountSettings) -> Path | None:
    """The file of accounts that a process imports at its start: ACCOUNTS_FILE, even if it does not exist, else the default one
    if it does."""
    if settings.accounts_file is not None:
        return Path(settings.accounts_file)
    path = Path(DEFAULT_ACCOUNTS_FILE)
    return path if path.is_file() else None


def _data_keys(env: Environment) -> tuple[Secret, ...]:
    name = "ACCOUNTS_DATA_KEY"
    keys = []
    for item in env.items(name):
        try:
            raw = base64.b64decode(item, validate=True)
        except (binascii.Error, ValueError):
            raw = b""
        if len(raw) != DATA_KEY_BYTES:
            raise env.invalid(
                name,
                f"{DATA_KEY_BYTES} bytes in base64, like the output of `openssl rand -base64 {DATA_KEY_BYTES}`; "
                "two keys, separated by a comma, while one replaces the other",
                shown=False,
            )
        keys.append(Secret(item))
    return tuple(keys)


def _origin(env: Environment, name: str, *, path: bool = False) -> str | None:
    text = env.text(name)
    if text is None:
        return None
    allowed = (
        "a URL like https://host.example" + ("/token" if path else ", without a path") + ", credentials or a query"
    )
    try:
        parts = urlsplit(text)
        valid = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        valid = False
    if not valid or any(mark in text for mark in "@?# ") or (not path and parts.path.strip("/")):
        raise env.invalid(name, allowed, shown="@" not in text and "?" not in text)
    return text.rstrip("/")
