"""The stored outbound proxy: its URL, and its credential in sealed form. Pure."""

from __future__ import annotations

from shared.accounts.old_file import credential_in, public_url
from shared.accounts.sealing import DataKeys, Unsealable
from shared.configuration.document import Proxy
from shared.secret import Secret

PROXY_CREDENTIAL = "proxy:credential"
"""What the sealed credential belongs to. No account can have this id."""


def stored(url: Secret, keys: DataKeys, known: Proxy | None = None, *, enabled: bool = True) -> Proxy:
    """The proxy of `url`. A URL without a credential keeps that of `known`, if it is the same proxy. Raises NoDataKey, and
    BadRequest for what is no proxy's URL."""
    public, credential = public_url(url), credential_in(url)
    sealed = known.sealed if known is not None and known.url == public else ""
    if credential is not None and (not sealed or _opened(keys, sealed) != credential):
        sealed = keys.seal(PROXY_CREDENTIAL, credential.reveal().encode())
    return Proxy(public, sealed, enabled)


def url_of(proxy: Proxy, keys: DataKeys) -> Secret:
    """With its credential. Raises Unsealable."""
    if not proxy.sealed:
        return Secret(proxy.url)
    credential = keys.open(PROXY_CREDENTIAL, proxy.sealed).decode()
    return Secret(proxy.url.replace("://", f"://{credential}@", 1))


def readable_url(proxy: Proxy, keys: DataKeys | None) -> Secret:
    """With its credential, if `keys` open it."""
    try:
        return Secret(proxy.url) if keys is None else url_of(proxy, keys)
    except Unsealable:
        return Secret(proxy.url)


def _opened(keys: DataKeys, sealed: str) -> Secret | None:
    try:
        return Secret(keys.open(PROXY_CREDENTIAL, sealed).decode())
    except Unsealable:
        return None
