"""The keys that a list of environment variables names, as accounts. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from shared.accounts.account import Account
from shared.secret import Secret
from shared.settings.environment import Environment, SettingsError
from shared.settings.keys import ServerKey, project_of
from shared.settings.settings import Settings


class Keys(NamedTuple):
    found: Mapping[str, ServerKey]
    """By the variable's name."""
    failed: Mapping[str, str]
    """Why the variable's value cannot be a key, by its name: one sentence, without the value."""

    def accounts(self, settings: Settings) -> list[Account]:
        # Loaded with the first prompt.
        from shared.engine import account_of

        return [account_of(key, settings) for key in self.found.values()]


def read_keys(names: Sequence[str], environment: Mapping[str, str]) -> Keys:
    """A variable that is not set is left out."""
    read = Environment(environment)
    found: dict[str, ServerKey] = {}
    failed: dict[str, str] = {}
    for name in names:
        try:
            secret = read.gemini_key(name)
            if secret is not None:
                found[name] = ServerKey(secret, project_of(read, name, secret), name)
        except SettingsError as error:
            failed[name] = str(error)
    return Keys(found, failed)


def admin_key(environment: Mapping[str, str]) -> Secret | None:
    """The first key of ADMIN_API_KEY, for a gateway."""
    keys = Environment(environment).items("ADMIN_API_KEY")
    return Secret(keys[0]) if keys else None
