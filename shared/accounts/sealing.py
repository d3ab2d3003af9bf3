"""Encrypts the secrets of stored accounts (AES-256-GCM) with the data key, and exports with a passphrase (scrypt).

A sealed text is `<format>.<key>.<base64url of nonce and ciphertext>`; `<key>` identifies the data key and reveals nothing of it.
The account's id is authenticated with the secret: a sealed text that is copied to another account does not open there.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import secrets
from collections.abc import Sequence

from shared.errors import BadRequest
from shared.secret import Secret

MIN_PASSPHRASE_CHARS = 12
HOW_TO_SET = (
    "Set ACCOUNTS_DATA_KEY to the output of `openssl rand -base64 32`, the same value in every process, and keep a copy: "
    "without it, stored secrets cannot be read."
)

_FORMAT, _EXPORT_FORMAT = "1", "p1"
_NONCE_BYTES, _SALT_BYTES, _KEY_BYTES = 12, 16, 32
_SCRYPT_N, _SCRYPT_R, _SCRYPT_P = 1 << 16, 8, 1
"""64 MiB and about 0.2 s for each guess."""


class Unsealable(Exception):
    """A sealed text cannot be opened. The message says why and what to do; it contains nothing of the text."""


class NoDataKey(Unsealable):
    """There is no data key at all."""


class DataKeys:
    """The keys of ACCOUNTS_DATA_KEY: the first one seals, every one opens."""

    def __init__(self, keys: Sequence[Secret]) -> None:
        """Each key is 32 bytes in base64."""
        self._keys = {key.fingerprint("account data key")[:8]: key for key in keys}
        self._current = next(iter(self._keys), None)

    def __bool__(self) -> bool:
        return bool(self._keys)

    def require(self) -> str:
        """The name of the key that seals. Raises NoDataKey."""
        if self._current is None:
            raise NoDataKey(f"There is no key to encrypt secrets with. {HOW_TO_SET}")
        return self._current

    def seal(self, account_id: str, plain: bytes) -> str:
        """Raises NoDataKey."""
        name = self.require()
        sealed = _encrypt(_raw(self._keys[name]), plain, _purpose(account_id))
        return f"{_FORMAT}.{name}.{_text(sealed)}"

    def open(self, account_id: str, sealed: str) -> bytes:
        """Raises Unsealable."""
        if not self._keys:
            raise NoDataKey(f"This secret is encrypted, and there is no key to read it with. {HOW_TO_SET}")
        form, _, rest = sealed.partition(".")
        name, _, body = rest.partition(".")
        if form != _FORMAT or not body:
            raise Unsealable("This is not a secret that this version encrypted; add the account again.")
        key = self._keys.get(name)
        if key is None:
            raise Unsealable(
                "Sealed with another key: append the earlier key to ACCOUNTS_DATA_KEY, or replace the account's secret."
            )
        return _decrypt(_raw(key), _bytes(body), _purpose(account_id))

    def is_current(self, sealed: str) -> bool:
        """Whether `sealed` was made with the key that seals now."""
        return self._current is not None and sealed.startswith(f"{_FORMAT}.{self._current}.")


def seal_with_passphrase(plain: bytes, passphrase: Secret) -> str:
    """For an export. Takes about 0.2 s. Raises BadRequest for a short passphrase."""
    if len(passphrase.reveal()) < MIN_PASSPHRASE_CHARS:
        raise BadRequest(f"The passphrase is short; choose one of at least {MIN_PASSPHRASE_CHARS} characters.")
    salt = secrets.token_bytes(_SALT_BYTES)
    sealed = _encrypt(_stretched(passphrase, salt), plain, _purpose("export"))
    return f"{_EXPORT_FORMAT}.{_text(salt + sealed)}"


def open_with_passphrase(sealed: str, passphrase: Secret) -> bytes:
    """Takes about 0.2 s. Raises Unsealable."""
    form, _, body = sealed.partition(".")
    if form != _EXPORT_FORMAT or not body:
        raise Unsealable("This is not an encrypted export of this program.")
    raw = _bytes(body)
    try:
        return _decrypt(_stretched(passphrase, raw[:_SALT_BYTES]), raw[_SALT_BYTES:], _purpose("export"))
    except Unsealable:
        raise Unsealable("The passphrase is wrong, or the export was changed; try the passphrase again.") from None


def _encrypt(key: bytes, plain: bytes, purpose: bytes) -> bytes:
    # Imported on demand: a deployment without stored accounts never needs it.
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    nonce = secrets.token_bytes(_NONCE_BYTES)
    return nonce + AESGCM(key).encrypt(nonce, plain, purpose)


def _decrypt(key: bytes, sealed: bytes, purpose: bytes) -> bytes:
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    try:
        return AESGCM(key).decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], purpose)
    except (InvalidTag, ValueError):
        raise Unsealable(
            "The encrypted secret was changed, or belongs to another account; replace the account's secret."
        ) from None


def _stretched(passphrase: Secret, salt: bytes) -> bytes:
    return hashlib.scrypt(
        passphrase.reveal().encode("utf-8", "surrogatepass"),
        salt=salt,
        n=_SCRYPT_N,
        r=_SCRYPT_R,
        p=_SCRYPT_P,
        maxmem=2 * 128 * _SCRYPT_N * _SCRYPT_R,
        dklen=_KEY_BYTES,
    )


def _purpose(name: str) -> bytes:
    return f"gemini-concurrent-generation account {name}".encode()


def _raw(key: Secret) -> bytes:
    return base64.b64decode(key.reveal())


def _text(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def _bytes(text: str) -> bytes:
    """Raises Unsealable."""
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise Unsealable("The encrypted secret was changed; replace the account's secret.") from None
