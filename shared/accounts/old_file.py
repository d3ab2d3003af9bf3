"""The old program's file, business_gemini_session.json: read strictly, and written in the same shape. Pure.

    {"proxy": "http://127.0.0.1:7890", "proxy_enabled": false,
     "accounts": [{"team_id", "secure_c_ses", "host_c_oses", "csesidx", "user_agent", "available", ...}],
     "models": [{"id", "name", "description", "context_length", "max_tokens", "price_per_1k_tokens", "enabled",
                 "account_index", ...}], ...}

Fields that are not listed here are kept, in the file, in an account and in a model, and are written back; what may be a secret
by its name is kept with the secrets. A file is read as a whole or not at all; every problem is one sentence with the path of
its field, and none repeats a value.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, get_args
from urllib.parse import urlsplit

import orjson

from shared.accounts.account import Kind
from shared.accounts.json_fields import MAX_NAME_CHARS, FieldReader
from shared.bounds.json_structure import TooManyValues, check_values
from shared.errors import json_type
from shared.secret import Secret

MAX_FILE_BYTES = 1_000_000
MAX_FILE_VALUES = 50_000
MAX_FILE_DEPTH = 20
MAX_FILE_ACCOUNTS = 1_000
MAX_FILE_MODELS = 1_000
MAX_PROBLEMS = 20

ENCRYPTED: Final = "encrypted_secrets"
"""Only in an export that asked for secrets: all of them, encrypted with a passphrase. Elsewhere they are empty texts."""
OTHER_ACCOUNTS: Final = "other_accounts"
"""The accounts of other kinds, which the old program does not read."""

_USER_AGENT_CHARS, _TEXT_CHARS = 500, 2_000
_MAX_SECRET_CHARS = 12_000
_MAX_UNKNOWN_FIELDS = 99
_ACCOUNT_FIELDS = ("team_id", "secure_c_ses", "host_c_oses", "csesidx", "user_agent", "available")
_FILE_FIELDS = ("proxy", "proxy_enabled", "accounts", "models", ENCRYPTED, OTHER_ACCOUNTS)
_SECRET_NAME = re.compile(
    r"secret|token|pass|pwd|cookie|key|jwt|auth|credential|session|cert|hash|bearer", re.IGNORECASE
)
_SECRET_VALUE = re.compile(r"\b(?:AIza|AQ\.|ya29\.|eyJ|sk-|CSE\.|COS\.)|-----BEGIN|://[^/\s]*@")
_MODEL_TEXTS = {"name": MAX_NAME_CHARS, "description": _TEXT_CHARS}
_MODEL_FIELDS = ("id", "name", "description", "enabled", "account_index")
_MODEL_NUMBERS = ("context_length", "max_tokens", "price_per_1k_tokens")


class InvalidOldFile(ValueError):
    """`problems` are sentences for the operator, at most MAX_PROBLEMS. They contain no value of the file."""

    def __init__(self, *problems: str) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


@dataclass(frozen=True, slots=True)
class OldAccount:
    """`secrets` is a JSON object of `secure_c_ses`, `host_c_oses` and the unknown fields that may be secrets; None if the file
    leaves them out."""

    team_id: str
    csesidx: str
    user_agent: str
    available: bool
    secrets: Secret | None = None
    unknown: Mapping[str, Any] = field(default_factory=dict)

    @property
    def id(self) -> str:
        """The same for every file that names this seat."""
        return "session-" + Secret(f"{self.team_id}/{self.csesidx}").fingerprint("account")[:12]


@dataclass(frozen=True, slots=True)
class OtherAccount:
    """An account of another kind than enterprise_session, as an export writes it; without its secret."""

    id: str
    kind: Kind
    label: str = ""
    project: str | None = None
    place: Mapping[str, str] = field(default_factory=dict)
    enabled: bool = True


@dataclass(frozen=True, slots=True)
class OldFile:
    proxy: Secret | None = None
    """It may hold a password. None: an empty text in the file."""
    proxy_enabled: bool = False
    accounts: tuple[OldAccount, ...] = ()
    models: tuple[Mapping[str, Any], ...] = ()
    """As in the file; `account_index` is the place of an account in `accounts`."""
    other_accounts: tuple[OtherAccount, ...] = ()
    encrypted: str | None = None
    unknown: Mapping[str, Any] = field(default_factory=dict)
    secrets: Secret | None = None
    """A JSON object of the unknown fields of the file, and of its models, that may be secrets."""


# -- reading -----------------------------------------------------------------------------------------------------------


def read_old_file(data: bytes) -> OldFile:
    """Raises InvalidOldFile."""
    document = _parsed(data)
    problems: list[str] = []
    file = FieldReader("", document, problems)
    enabled = file.switch("proxy_enabled", default=False)
    accounts = [
        _account(reader, problems)
        for reader in file.objects("accounts", MAX_FILE_ACCOUNTS, required=ENCRYPTED not in document)
    ]
    models: list[dict[str, Any]] = []
    of_models: dict[str, dict[str, Any]] = {}
    for reader in file.objects("models", MAX_FILE_MODELS):
        model, secret_fields = _model(reader, len(accounts))
        models.append(model)
        of_models |= {str(model["id"]): secret_fields} if secret_fields else {}
    others = [_other(reader) for reader in file.objects(OTHER_ACCOUNTS, MAX_FILE_ACCOUNTS)]
    unknown, private = split_secrets(file.rest(_FILE_FIELDS))
    found = OldFile(
        _proxy(file, enabled),
        enabled,
        tuple(accounts),
        tuple(models),
        tuple(others),
        file.text(ENCRYPTED, MAX_FILE_BYTES, required=False) or None,
        unknown,
        as_secret({**private, **({"models": of_models} if of_models else {})}),
    )
    _check_unique([account.id for account in accounts], "accounts", "team_id and csesidx", problems)
    _check_unique([account.id for account in others], OTHER_ACCOUNTS, "id", problems)
    _check_unique([str(model["id"]) for model in models], "models", "id", problems)
    if problems:
        raise InvalidOldFile(*problems[:MAX_PROBLEMS])
    return found


def _parsed(data: bytes) -> dict[str, Any]:
    if len(data) > MAX_FILE_BYTES:
        raise InvalidOldFile(f"The file has {len(data):,} bytes; at most {MAX_FILE_BYTES:,} are allowed.")
    try:
        check_values(data, MAX_FILE_VALUES)
        document = orjson.loads(data.removeprefix(b"\xef\xbb\xbf"))
    except TooManyValues as error:
        raise InvalidOldFile(f"The file has {error}; remove what is not needed.") from None
    except orjson.JSONDecodeError as error:
        raise InvalidOldFile(f"The file is not JSON: {error.msg} (line {error.lineno}).") from None
    if not isinstance(document, dict):
        raise InvalidOldFile(f"The file is {json_type(document)}; it must be an object with the field accounts.")
    if _is_deep(document):
        raise InvalidOldFile(f"The file is nested deeper than {MAX_FILE_DEPTH} levels; remove the deep field.")
    return document


def _is_deep(document: object) -> bool:
    level = [document]
    for _ in range(MAX_FILE_DEPTH):
        level = [
            inner
            for value in level
            if isinstance(value, dict | list)
            for inner in (value.values() if isinstance(value, dict) else value)
        ]
    return any(isinstance(value, dict | list) for value in level)


def _account(reader: FieldReader, problems: list[str]) -> OldAccount:
    known = len(problems)
    secure, host = reader.cookie("secure_c_ses"), reader.cookie("host_c_oses")
    if bool(secure) != bool(host) and known == len(problems):
        missing = "host_c_oses" if secure else "secure_c_ses"
        reader.wrong(missing, "is empty, and the other cookie is not", "set too, or both must be empty")
    csesidx = reader.fields.get("csesidx")
    if isinstance(csesidx, int) and not isinstance(csesidx, bool):
        reader = FieldReader(reader.path, {**reader.fields, "csesidx": str(csesidx)}, problems)
    unknown, private = split_secrets(reader.rest(_ACCOUNT_FIELDS))
    cookies = {"secure_c_ses": secure, "host_c_oses": host} if secure and host else {}
    secrets = as_secret({**private, **cookies})
    if len(unknown) > _MAX_UNKNOWN_FIELDS or (secrets and len(secrets.reveal()) > _MAX_SECRET_CHARS):
        path = reader.path.rstrip(".")
        problems.append(f"{path} has too many unknown fields, or too long ones; remove what is not needed.")
    return OldAccount(
        reader.name("team_id"),
        reader.name("csesidx"),
        _user_agent(reader),
        reader.switch("available", default=True),
        secrets,
        unknown,
    )


def _user_agent(reader: FieldReader) -> str:
    text = reader.text("user_agent", _USER_AGENT_CHARS, required=False).strip()
    if text.isascii():
        return text
    reader.wrong("user_agent", "has characters that a header cannot have", "printable ASCII")
    return ""


def split_secrets(fields: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """`fields` that may be stored and shown, and those that may be secrets by their name or that of a field inside."""
    private = {name: value for name, value in fields.items() if _may_be_secret(name, value)}
    return {name: value for name, value in fields.items() if name not in private}, private


def _may_be_secret(name: str, value: object) -> bool:
    if isinstance(value, dict):
        return any(_may_be_secret(f"{name}.{inner}", content) for inner, content in value.items())
    if isinstance(value, list):
        return any(_may_be_secret(name, item) for item in value)
    if not isinstance(value, str) or not value:
        return False
    return bool(_SECRET_NAME.search(name) or _SECRET_VALUE.search(value))


def as_secret(fields: Mapping[str, Any]) -> Secret | None:
    return Secret(orjson.dumps(fields).decode()) if fields else None


def _other(reader: FieldReader) -> OtherAccount:
    kinds: list[Kind] = [kind for kind in get_args(Kind) if kind != "enterprise_session"]
    given = reader.fields.get("kind")
    kind = next((kind for kind in kinds if kind == given), None)
    if kind is None:
        reader.wrong("kind", "is missing" if given is None else "is not known", f"one of {', '.join(kinds)}")
    place = reader.fields.get("place", {})
    if not isinstance(place, dict) or not all(isinstance(value, str) for value in place.values()):
        reader.wrong("place", "is not valid", "an object of texts")
        place = {}
    project = reader.fields.get("project")
    for name in reader.rest(("id", "kind", "label", "project", "place", "enabled")):
        reader.wrong(name if name.isidentifier() else "a field", "is not known", "removed")
    return OtherAccount(
        reader.name("id"),
        kind or "api_key",
        reader.text("label", MAX_NAME_CHARS, required=False),
        None if project is None else reader.name("project"),
        place,
        reader.switch("enabled", default=True),
    )


def _model(reader: FieldReader, accounts: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """The model's fields, and those that may be secrets."""
    reader.text("id", MAX_NAME_CHARS, required=True)
    for name, maximum in _MODEL_TEXTS.items():
        reader.text(name, maximum, required=False, lines=True)
    for name in _MODEL_NUMBERS:
        reader.number(name)
    reader.switch("enabled", default=True)
    index = reader.fields.get("account_index")
    if index is not None and not (isinstance(index, int) and not isinstance(index, bool) and 0 <= index < accounts):
        reader.wrong(
            "account_index", "names no account of this file", f"null, or a number from 0 to {max(0, accounts - 1)}"
        )
    _, private = split_secrets(reader.rest((*_MODEL_FIELDS, *_MODEL_NUMBERS)))
    return {"id": "", **{name: value for name, value in reader.fields.items() if name not in private}}, private


def _proxy(file: FieldReader, enabled: bool) -> Secret | None:
    text = file.text("proxy", _TEXT_CHARS, required=False).strip()
    if not text:
        if enabled and isinstance(file.fields.get("proxy", ""), str | None):
            file.wrong("proxy_enabled", "is true without a proxy", "false, or proxy must be a URL")
        return None
    url = text if "://" in text else f"http://{text}"
    try:
        parts = urlsplit(url)
        valid = parts.scheme == "http" and parts.hostname and parts.port != 0 and parts.path in ("", "/")
        valid = valid and not re.search(r"[?#\s]", url)
    except ValueError:  # The port is not a number, or an IPv6 address lacks its bracket.
        valid = False
    if valid:
        return Secret(url)
    file.wrong("proxy", "is not valid", "empty, or a URL like http://proxy.example:3128 (SOCKS is not supported)")
    return None


def _check_unique(names: list[str], where: str, by: str, problems: list[str]) -> None:
    first: dict[str, int] = {}
    for index, name in enumerate(names):
        if first.setdefault(name, index) != index and not problems:
            problems.append(f"{where}[{index}] has the same {by} as {where}[{first[name]}]; remove one of them.")


# -- writing -----------------------------------------------------------------------------------------------------------


def write_old_file(file: OldFile) -> bytes:
    """The file as indented JSON, without a secret: cookies are empty, and the proxy's URL is without user and password."""
    document: dict[str, Any] = {
        **file.unknown,
        "proxy": public_url(file.proxy) if file.proxy else "",
        "proxy_enabled": file.proxy_enabled,
        "accounts": [_written(account) for account in file.accounts],
        "models": [dict(model) for model in file.models],
    }
    if file.other_accounts:
        document[OTHER_ACCOUNTS] = list(file.other_accounts)
    if file.encrypted is not None:
        document[ENCRYPTED] = file.encrypted
    return orjson.dumps(document, option=orjson.OPT_INDENT_2) + b"\n"


def _written(account: OldAccount) -> dict[str, Any]:
    return {
        **account.unknown,
        "team_id": account.team_id,
        "secure_c_ses": "",
        "host_c_oses": "",
        "csesidx": account.csesidx,
        "user_agent": account.user_agent,
        "available": account.available,
    }


def public_url(url: Secret) -> str:
    """`url` without user and password."""
    parts = urlsplit(url.reveal())
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def credential_in(url: Secret) -> Secret | None:
    """The `user:password` of `url`, as it is written there."""
    user_info = urlsplit(url.reveal()).netloc.rpartition("@")[0]
    return Secret(user_info) if user_info else None


# -- the secrets of a file ---------------------------------------------------------------------------------------------


def secrets_of(file: OldFile, others: Mapping[str, Secret]) -> bytes:
    """The secrets of `file` and of its other accounts (id -> credential) as one JSON text, which the caller encrypts."""
    own = {account.id: account.secrets for account in file.accounts if account.secrets}
    return orjson.dumps(
        {
            "proxy": file.proxy.reveal() if file.proxy else "",
            "accounts": {name: secret.reveal() for name, secret in {**own, **others}.items()},
            "file": file.secrets.reveal() if file.secrets else "",
        }
    )


def with_secrets(file: OldFile, decrypted: bytes) -> tuple[OldFile, dict[str, Secret]]:
    """`file` with the secrets that `secrets_of` wrote, and the credentials of its other accounts. Raises InvalidOldFile."""
    try:
        found = orjson.loads(decrypted)
        by_id = {str(name): Secret(str(text)) for name, text in found["accounts"].items()}
        proxy, private = str(found["proxy"]), str(found["file"])
    except (orjson.JSONDecodeError, AttributeError, KeyError, TypeError):
        raise InvalidOldFile(f"{ENCRYPTED} does not contain what an export writes; export again.") from None
    accounts = tuple(replace(account, secrets=by_id.pop(account.id, account.secrets)) for account in file.accounts)
    restored = replace(
        file,
        accounts=accounts,
        proxy=Secret(proxy) if proxy else file.proxy,
        encrypted=None,
        secrets=Secret(private) if private else file.secrets,
    )
    return restored, by_id
