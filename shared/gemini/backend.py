"""How an exchange is addressed and authenticated: the part of the client that differs between Google's backends."""

from __future__ import annotations

import re
from typing import NamedTuple, Protocol
from urllib.parse import urlsplit

from yarl import URL

from shared.gemini.errors import UpstreamFailure
from shared.gemini.reading import Translate
from shared.gemini.upstream import Exchange
from shared.secret import Secret

API_VERSION = "v1beta"
_MAX_URLS = 1024
_PATH_SEGMENT = re.compile(r"[A-Za-z0-9._-]{1,100}")


class Prepared(NamedTuple):
    """An exchange as HTTP. `secret` is the credential in `headers`, to be removed from what is shown. `translate` makes native
    frames of the answer; None where it has them already."""

    url: URL
    headers: dict[str, str]
    body: bytes
    secret: Secret
    translate: Translate | None = None

    def __repr__(self) -> str:
        return f"Prepared({self.url})"


class Backend(Protocol):
    """One of Google's services with Gemini's models. Every exchange is prepared once, right before its connection is taken."""

    async def prepare(self, exchange: Exchange) -> Prepared:
        """Raises UpstreamFailure if the exchange cannot be sent: `written` is False."""
        ...

    def failure(self, failure: UpstreamFailure, exchange: Exchange, secret: Secret) -> UpstreamFailure:
        """What a response other than 200 means on this backend; `failure` itself, if that is what it means everywhere."""
        ...


def checked_base_url(base_url: str) -> str:
    """Without a trailing slash. Raises ValueError."""
    parts = urlsplit(base_url)
    if parts.scheme not in ("http", "https") or not parts.hostname or any(mark in base_url for mark in "@?# "):
        raise ValueError("the upstream's base URL must be http(s)://host[:port][/prefix], without user or query")
    return base_url.rstrip("/")


class Urls:
    """The URLs of the models' methods below one prefix, each made once."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self._urls: dict[tuple[str, str], URL] = {}

    def of(self, model: str, verb: str) -> URL:
        """Raises ValueError."""
        url = self._urls.get((model, verb))
        if url is None:
            if not _PATH_SEGMENT.fullmatch(model) or not _PATH_SEGMENT.fullmatch(verb):
                raise ValueError("not a model id and a verb")
            if len(self._urls) >= _MAX_URLS:
                self._urls.clear()
            query = "?alt=sse" if verb.startswith("stream") else ""
            url = self._urls[model, verb] = URL(f"{self._prefix}{model}:{verb}{query}", encoded=True)
        return url


def header_key(credential: Secret) -> str:
    """An API key as the value of a header. Raises UpstreamFailure."""
    key = credential.reveal()
    if not key.isascii() or not key.isprintable():
        raise UpstreamFailure("key_invalid", "The API key has characters that are not allowed in a key.", written=False)
    return key


class DeveloperApi:
    """The Gemini API (generativelanguage.googleapis.com): one URL for all accounts, and API keys."""

    def __init__(self, base_url: str) -> None:
        """`base_url` is the origin, with or without a path prefix; `/v1beta` is appended. Raises ValueError."""
        self._urls = Urls(f"{checked_base_url(base_url)}/{API_VERSION}/models/")

    async def prepare(self, exchange: Exchange) -> Prepared:
        key = header_key(exchange.credential)
        url = self._urls.of(exchange.model, exchange.verb)
        return Prepared(url, {"x-goog-api-key": key}, exchange.body, exchange.credential)

    def failure(self, failure: UpstreamFailure, exchange: Exchange, secret: Secret) -> UpstreamFailure:
        return failure
