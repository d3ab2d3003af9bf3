"""A load balancer on this machine: one address, behind which each request goes to the next of several servers."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

import aiohttp
from aiohttp import web

_OF_ONE_CONNECTION = {"host", "connection", "transfer-encoding", "keep-alive", "content-length", "content-encoding"}


class LoadBalancer:
    """Round robin: request n goes to server n modulo their number, whether or not that server is busy."""

    def __init__(self, servers: Sequence[str], session: aiohttp.ClientSession) -> None:
        self._servers, self._session = servers, session
        self._next = 0
        self.url = ""
        self.answered: Counter[int] = Counter()
        """Responses with status 200, by server."""

    async def handle(self, request: web.Request) -> web.Response:
        """The server's response, or 502 if it closed the connection without one."""
        server, self._next = self._next, (self._next + 1) % len(self._servers)
        headers = {name: value for name, value in request.headers.items() if name.lower() not in _OF_ONE_CONNECTION}
        body = await request.read()
        try:
            async with self._session.request(
                request.method, self._servers[server] + request.path_qs, data=body, headers=headers
            ) as response:
                answer = await response.read()
        except aiohttp.ClientError as error:
            return web.json_response({"error": {"code": "no_response", "message": str(error)}}, status=502)
        self.answered[server] += response.status == 200
        kept = {name: value for name, value in response.headers.items() if name.lower() not in _OF_ONE_CONNECTION}
        return web.Response(status=response.status, headers=kept, body=answer)


@asynccontextmanager
async def served(handle: Callable[[web.Request], Awaitable[web.Response]]) -> AsyncIterator[str]:
    """The address at which `handle` answers every request. A disconnecting caller cancels it."""
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handle)
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@asynccontextmanager
async def load_balancer(servers: Sequence[str]) -> AsyncIterator[LoadBalancer]:
    """Where a caller disconnects, its request's connection to the server is closed as well."""
    # A server may close an idle connection at the moment at which the next request is sent: no connection is used twice.
    connector = aiohttp.TCPConnector(limit=0, force_close=True)
    timeout = aiohttp.ClientTimeout(total=None)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
        balancer = LoadBalancer(servers, session)
        async with served(balancer.handle) as balancer.url:
            yield balancer
