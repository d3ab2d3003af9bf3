"""Data keys and stored accounts for tests."""

from __future__ import annotations

import base64

from shared.accounts.sealing import DataKeys
from shared.secret import Secret


def data_key(letter: str = "k") -> Secret:
    """A valid value of ACCOUNTS_DATA_KEY, the same for the same letter."""
    return Secret(base64.b64encode(letter.encode() * 32).decode())


def data_keys(*letters: str) -> DataKeys:
    return DataKeys([data_key(letter) for letter in letters or ("k",)])
