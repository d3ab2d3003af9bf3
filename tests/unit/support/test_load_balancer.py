"""The load balancer of the system tests: each request goes to the next server, and comes back unchanged."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import aiohttp
import pytest
from aiohttp import web

from tests.support.load_balancer import load_balancer, served

CLOSED_PORT = "http://127.0.0.1:9"


class Server:
    """It answers with its name and what it received; a request for /hang is never answered."""

    def __init__(self, name: str) -> None:
        self.name, self.url = name, ""
        self.hanging, self.cancelled = asyncio.Event(), asyncio.Event()

    async def handle(self, request: web.Request) -> web.Response:
        if request.path == "/hang":
            self.hanging.set()
            try:
                await asyncio.Event().wait()
            finally:
                self.cancelled.set()
        body = f"{self.name} {request.method} {request.path_qs} {request.headers.get('x-caller-id')} {await request.text()}"
        return web.Response(status=429 if request.path == "/limited" else 200, headers={"Retry-After": "7"}, text=body)


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


@pytest.fixture
async def servers() -> AsyncIterator[list[Server]]:
    async with AsyncExitStack() as stack:
        servers = [Server("a"), Server("b")]
        for server in servers:
            server.url = await stack.enter_async_context(served(server.handle))
        yield servers


async def test_requests_go_to_each_server_in_turn(servers: list[Server], session: aiohttp.ClientSession) -> None:
    async with load_balancer([server.url for server in servers]) as balancer:
        names = []
        for _ in range(5):
            async with session.post(balancer.url + "/chat") as response:
                names.append((await response.text()).split()[0])
    assert names == ["a", "b", "a", "b", "a"]
    assert balancer.answered == {0: 3, 1: 2}


async def test_requests_and_responses_are_unchanged(servers: list[Server], session: aiohttp.ClientSession) -> None:
    async with (
        load_balancer([servers[0].url]) as balancer,
        session.post(balancer.url + "/limited?a=%20b", data="body", headers={"x-caller-id": "c"}) as response,
    ):
        assert await response.text() == "a POST /limited?a=%20b c body"
        assert (response.status, response.headers["retry-after"]) == (429, "7")
    assert not balancer.answered.total()


async def test_a_server_that_is_gone_gives_a_502(session: aiohttp.ClientSession) -> None:
    async with load_balancer([CLOSED_PORT]) as balancer, session.get(balancer.url) as response:
        assert (response.status, (await response.json())["error"]["code"]) == (502, "no_response")


async def test_a_disconnect_reaches_the_server(servers: list[Server], session: aiohttp.ClientSession) -> None:
    async with load_balancer([servers[0].url]) as balancer:
        request = asyncio.create_task(session.get(balancer.url + "/hang"))
        async with asyncio.timeout(20):
            await servers[0].hanging.wait()
            request.cancel()
            await servers[0].cancelled.wait()
