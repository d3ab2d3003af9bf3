"""The server's own credentials: Gemini keys with their projects, and admin keys."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from shared.secret import Secret
from shared.settings.environment import Environment, SettingsError

MIN_ADMIN_KEY_CHARS = 16
"""A shorter key could be guessed: the right key is accepted at once, however many wrong keys came before."""
_PROJECT_ID = r"[A-Za-z0-9][A-Za-z0-9:._-]{0,99}"
_REPORTED_PROJECT = re.compile(rf"(GEMINI_API_KEY(?:_\d{{1,4}})?)=({_PROJECT_ID})")
SHORT_ADMIN_KEY = (
    f"ADMIN_API_KEY has a key of fewer than {MIN_ADMIN_KEY_CHARS} characters, which can be guessed; "
    "make a longer one, for example with `openssl rand -base64 24`."
)


@dataclass(frozen=True, slots=True)
class ServerKey:
    """A Gemini key of the server's own. Keys of one `project` share its limits; `source` is the variable's name."""

    secret: Secret
    project: str
    source: str


def read_admin_keys(read: Environment, deployed: bool) -> tuple[Secret, ...]:
    keys = tuple(read.secret("ADMIN_API_KEY", key, 1) for key in read.items("ADMIN_API_KEY"))
    if deployed and any(len(key.reveal()) < MIN_ADMIN_KEY_CHARS for key in keys):
        raise SettingsError(SHORT_ADMIN_KEY)
    return keys


def read_server_keys(read: Environment) -> tuple[ServerKey, ...]:
    numbers = sorted(
        int(match[1]) for name in read.names() if (match := re.fullmatch(r"GEMINI_API_KEY_(\d{1,4})", name))
    )
    single = "GEMINI_API_KEY" if read.text("GEMINI_API_KEY") else "GOOGLE_API_KEY"
    sources = [single, *(f"GEMINI_API_KEY_{number}" for number in numbers)]
    for name in read.names():
        if (match := re.fullmatch(r"(GEMINI_API_KEY_\d+)_PROJECT", name)) and not read.text(match[1]):
            raise SettingsError(f"{name} is set, but {match[1]}, whose project it names, is not; set both or neither.")
    keys: dict[Secret, ServerKey] = {}
    named: dict[Secret, str] = {}
    for source in sources:
        secret = read.gemini_key(source)
        if secret is None:
            continue
        project = _project(read, f"{source}_PROJECT")
        if project is not None and named.setdefault(secret, project) != project:
            raise SettingsError(
                f"{source} is the same key as {keys[secret].source}, but names another project; set each key only once."
            )
        first = keys.get(secret)
        keys[secret] = ServerKey(
            secret, named.get(secret) or f"k-{secret.fingerprint('project')}", first.source if first else source
        )
    return tuple(keys.values())


def read_reported_projects(read: Environment) -> Mapping[str, str]:
    name, found = "GEMINI_PROJECTS", {}
    for item in read.items(name):
        match = _REPORTED_PROJECT.fullmatch(item)
        if match is None:
            raise read.invalid(name, "a list of key variables and their projects, like GEMINI_API_KEY_1=my-project")
        found[account_id(match[1])] = match[2]
    return MappingProxyType(found)


def project_of(read: Environment, source: str, secret: Secret) -> str:
    """The project of the key in the variable `source`: the one that `<source>_PROJECT` names, else one of its own. Raises
    SettingsError."""
    return _project(read, f"{source}_PROJECT") or f"k-{secret.fingerprint('project')}"


def account_id(variable: str) -> str:
    """The public id of an account, made from the variable that holds its key."""
    return variable.lower().replace("_", "-")


def _project(read: Environment, name: str) -> str | None:
    text = read.text(name)
    if text is not None and not re.fullmatch(_PROJECT_ID, text):
        raise read.invalid(name, "a Google Cloud project id")
    return text
