"""Lists the models that a key may use: a call without quota or cost, which shows whether Gemini accepts the key."""

from __future__ import annotations

import aiohttp
from aiohttp import hdrs

from shared.clock import unix_s
from shared.gemini.backend import API_VERSION
from shared.gemini.client import CONNECT_TIMEOUT_S
from shared.gemini.errors import MAX_ERROR_BYTES, UpstreamFailure, read_failure
from shared.secret import Secret

TEST_TIMEOUT_S = 15.0


class ModelLister:
    """One pool of connections for many keys. Bound to the event loop of its first call."""

    def __init__(self, base_url: str, proxy: Secret | None = None, max_connections: int = 10) -> None:
        self._url = f"{base_url.rstrip('/')}/{API_VERSION}/models?pageSize=1"
        self._proxy = proxy
        self._max_connections = max_connections
        self._session: aiohttp.ClientSession | None = None

    async def check(self, key: Secret) -> None:
        """Returns if Gemini accepts the key. Raises UpstreamFailure."""
        session = self._session or self._open()
        failure: UpstreamFailure | None = None
        try:
            async with session.get(
                self._url, headers={"x-goog-api-key": key.reveal()}, allow_redirects=False
            ) as response:
                body = await response.content.read(MAX_ERROR_BYTES)
                if response.status != 200:
                    failure = read_failure(response.status, body, response.headers, secret=key, now_s=unix_s())
                elif not body.lstrip().startswith(b"{"):
                    failure = UpstreamFailure("malformed", "The answer is not Gemini's; check the proxies.", status=200)
        except TimeoutError:
            failure = UpstreamFailure("timeout", f"Gemini did not answer within {TEST_TIMEOUT_S:g} s.")
        except (aiohttp.ClientError, OSError) as error:
            # The error's text is not used: it can contain addresses and headers.
            failure = UpstreamFailure("connect", f"Gemini could not be reached ({type(error).__name__}).")
        if failure is not None:
            raise failure

    async def aclose(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    def _open(self) -> aiohttp.ClientSession:
        session = self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=self._max_connections),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={hdrs.USER_AGENT: "gemini-concurrent-generation"},
            timeout=aiohttp.ClientTimeout(total=TEST_TIMEOUT_S, sock_connect=CONNECT_TIMEOUT_S),
            proxy=self._proxy.reveal() if self._proxy is not None else None,
        )
        return session
