"""What the gateway needs from the service behind an account: an `Upstream` for each kind of account, made at its first use."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol

from shared.generation import JsonObject
from shared.secret import Secret


@dataclass(frozen=True, slots=True)
class Exchange:
    """One request of the native API to one account's service. `verb` is `generateContent`, `countTokens`,
    `streamGenerateContent`, ...; `body` is JSON, and `message` the same parsed, if the caller has it; `credential` and `place`
    are the account's; `timeout_s` is for all of it, a stream's last frame included, and goes upstream as X-Server-Timeout.

    `before_write` is called when the connection is established and nothing has been written, and again if the process was
    suspended between that and the first byte. Its exception is raised unchanged, and nothing is sent. `after_write` is called
    when the last byte of the body was written, and not if the exchange ends before; it must not raise. Neither may block.
    A service that needs several requests for one exchange calls them for the one that generates."""

    credential: Secret
    model: str
    verb: str
    body: bytes = field(repr=False)
    timeout_s: float
    before_write: Callable[[], None] | None = None
    after_write: Callable[[], None] | None = None
    place: Mapping[str, str] = field(default_factory=dict)
    message: Mapping[str, Any] | None = field(default=None, repr=False)


class Upstream(Protocol):
    """One service with Gemini's models, for many accounts. Every answer is one of the native API. It never retries."""

    async def generate(self, exchange: Exchange) -> JsonObject:
        """The whole answer. Raises UpstreamFailure, or what `before_write` raised."""
        ...

    def stream(self, exchange: Exchange) -> AbstractAsyncContextManager[AsyncIterator[JsonObject]]:
        """Frames as they arrive. Entering waits for status and headers. Entering and iterating raise UpstreamFailure, also
        if the answer ends before every candidate has finished. Leaving early closes the connection at once."""
        ...

    async def aclose(self) -> None:
        """Closes every connection. The upstream cannot be used afterwards."""
        ...


class Upstreams(dict[str, Upstream]):
    """Kind of account -> its upstream, made when the first account of the kind is used: a deployment without such accounts
    loads nothing for them."""

    def __init__(self, made: Mapping[str, Upstream], makers: Mapping[str, Callable[[], Upstream]]) -> None:
        super().__init__(made)
        self._makers = makers

    def __missing__(self, kind: str) -> Upstream:
        upstream = self[kind] = self._makers[kind]()
        return upstream

    async def aclose(self) -> None:
        """Closes those that were made."""
        for upstream in self.values():
            await upstream.aclose()
