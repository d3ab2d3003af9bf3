"""Makes the upstream of each kind of account at its first use: a deployment does not load what its accounts do not need."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from shared.bounds.large_work import LargeWork
from shared.gemini.backend import Backend, DeveloperApi
from shared.gemini.client import GeminiClient
from shared.gemini.upstream import NotAllowed, Upstream, Upstreams
from shared.secret import Secret

if TYPE_CHECKING:
    from shared.gemini.file_uploads import FileUploads
    from shared.gemini.oauth import AccessTokens


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where the services are. None: Google's hosts of an account's location."""

    developer_api: str
    vertex: str | None
    oauth_token: str
    enterprise: str | None
    enterprise_session: str | None


class Kinds:
    """The upstreams of one process. `proxy_for` returns the proxy for requests to a URL, by the settings of the time of the
    call."""

    def __init__(
        self,
        addresses: Addresses,
        *,
        max_connections: int,
        proxy_for: Callable[[str], Secret | None],
        large_work: LargeWork,
        why_no_sessions: str | None,
    ) -> None:
        """`why_no_sessions`: why accounts of a browser's session are not used; None if they are."""
        self._addresses, self._max_connections = addresses, max_connections
        self._proxy_for, self._large_work, self._why_no_sessions = proxy_for, large_work, why_no_sessions
        self._clients: list[tuple[GeminiClient, str]] = []
        """Each with the address by which its proxy is chosen."""
        developer_api = self._client_of(DeveloperApi(addresses.developer_api), addresses.developer_api)
        self.upstreams = Upstreams(
            {"api_key": developer_api},
            {
                "vertex": self._vertex,
                "enterprise": self._enterprise,
                "enterprise_session": self._enterprise_session,
            },
        )

    def reconfigure(self, max_connections: int) -> None:
        """Requests that begin from now on use the proxies of the current settings."""
        self._max_connections = max_connections
        for client, base_url in self._clients:
            client.reconfigure(self._proxy(base_url), max_connections)

    async def aclose(self) -> None:
        await self.upstreams.aclose()
        if "access_tokens" in self.__dict__:
            await self.access_tokens.aclose()
        if "file_uploads" in self.__dict__:
            await self.file_uploads.aclose()

    @cached_property
    def file_uploads(self) -> FileUploads:
        """Gemini's Files API, which accounts with an API key have."""
        from shared.gemini.file_uploads import FileUploads

        return FileUploads(self._addresses.developer_api, self._large_work, self._proxy_for)

    @cached_property
    def access_tokens(self) -> AccessTokens:
        """Of service accounts, for every kind of account that has one."""
        from shared.gemini.minting import Mint
        from shared.gemini.oauth import AccessTokens

        return AccessTokens(Mint(self._addresses.oauth_token, self._proxy_for))

    def _vertex(self) -> Upstream:
        from shared.gemini.vertex import Vertex, host

        base_url = self._addresses.vertex
        return self._client_of(Vertex(self.access_tokens, self._large_work, base_url), base_url or host("global"))

    def _enterprise(self) -> Upstream:
        from shared.gemini.assistant import Assistant
        from shared.gemini.enterprise import Enterprise, host
        from shared.gemini.side_requests import SideRequests

        base_url = self._addresses.enterprise
        url = base_url or host("global")
        service = Enterprise(self.access_tokens, SideRequests(self._large_work, self._proxy_for), base_url)
        return Assistant(service, lambda backend: self._client_of(backend, url))

    def _enterprise_session(self) -> Upstream:
        if self._why_no_sessions is not None:
            return NotAllowed(self._why_no_sessions)
        from shared.gemini.assistant import Assistant
        from shared.gemini.enterprise_session import EnterpriseSession
        from shared.gemini.oauth import AccessTokens
        from shared.gemini.session_token import API, SessionMint
        from shared.gemini.side_requests import SideRequests

        base_url = self._addresses.enterprise_session
        url = base_url or API
        tokens = AccessTokens(SessionMint(base_url, self._proxy_for))
        service = EnterpriseSession(tokens, SideRequests(self._large_work, self._proxy_for), base_url)
        return Assistant(service, lambda backend: self._client_of(backend, url))

    def _client_of(self, backend: Backend, base_url: str) -> GeminiClient:
        client = GeminiClient(
            backend,
            max_connections=self._max_connections,
            proxy=self._proxy(base_url),
            large_work=self._large_work,
        )
        self._clients.append((client, base_url))
        return client

    def _proxy(self, url: str) -> str | None:
        """With its credential."""
        proxy = self._proxy_for(url)
        return proxy.reveal() if proxy else None
