"""Where the data key comes from: ACCOUNTS_DATA_KEY, else the system's keyring of the person who runs a local server."""

from __future__ import annotations

import base64
import binascii
import secrets
from collections.abc import Sequence
from importlib import import_module
from types import ModuleType

from shared.accounts.sealing import HOW_TO_SET, DataKeys, NoDataKey
from shared.secret import Secret

SERVICE, NAME = "gemini-concurrent-generation", "ACCOUNTS_DATA_KEY"
_KEY_BYTES = 32


def find_data_keys(configured: Sequence[Secret], *, deployed: bool) -> DataKeys:
    """The keys of the environment, else the one in the keyring, else none. May block: a keyring can ask its user. Never raises:
    what needs a key says that there is none."""
    if configured or deployed:
        return DataKeys(configured)
    try:
        kept = _kept()
    except NoDataKey:
        return DataKeys(())
    return DataKeys(() if kept is None else (kept,))


def need_data_keys(configured: Sequence[Secret], *, deployed: bool) -> DataKeys:
    """As `find_data_keys`; where the keyring has no key yet, one is made and kept there. Raises NoDataKey."""
    if configured or deployed:
        keys = DataKeys(configured)
        keys.require()
        return keys
    kept = _kept()
    if kept is None:
        kept = Secret(base64.b64encode(secrets.token_bytes(_KEY_BYTES)).decode())
        _keep(kept)
    return DataKeys((kept,))


def _kept() -> Secret | None:
    """The key in the keyring. Raises NoDataKey if there is no keyring, or if it has something else under this name."""
    keyring, failures = _keyring()
    try:
        text = keyring.get_password(SERVICE, NAME)
    except failures as error:
        raise _no_key(f"The system's keyring cannot be read ({type(error).__name__}).") from None
    if text is None:
        return None
    try:
        valid = len(base64.b64decode(text, validate=True)) == _KEY_BYTES
    except (binascii.Error, ValueError):
        valid = False
    if not valid:
        raise _no_key(f"The system's keyring has something else than a data key under {SERVICE}.")
    return Secret(text)


def _keep(key: Secret) -> None:
    keyring, failures = _keyring()
    try:
        keyring.set_password(SERVICE, NAME, key.reveal())
        written = keyring.get_password(SERVICE, NAME)
    except failures as error:
        raise _no_key(f"The system's keyring cannot be written ({type(error).__name__}).") from None
    if written != key.reveal():
        raise _no_key("The system's keyring did not keep the data key.")


def _keyring() -> tuple[ModuleType, tuple[type[Exception], ...]]:
    """The package `keyring`, and what its calls raise. It is optional, and a machine may have no keyring."""
    try:
        keyring, errors = import_module("keyring"), import_module("keyring.errors")
    except ImportError:
        raise _no_key(
            "ACCOUNTS_DATA_KEY is not set, and the package `keyring`, which could keep a key, is not installed."
        ) from None
    # A backend of the system raises errors of its own too, for example those of D-Bus.
    return keyring, (errors.KeyringError, OSError, RuntimeError, ValueError)


def _no_key(what: str) -> NoDataKey:
    return NoDataKey(f"{what} {HOW_TO_SET}")
