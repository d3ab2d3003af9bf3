"""A proxy between the gateway and a fake object store: adds what the fake lacks. A test sets which calls fail."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
from aiohttp import web
from yarl import URL

from tests.support.google_xml import GoogleXml

_OF_ONE_CONNECTION = {"host", "connection", "transfer-encoding", "keep-alive", "date", "server"}


class StoreProxy:
    """`cut_upload_after` and `cut_download_after` (bytes) break the connection in the middle of a body, `down` at
    once; `silent` keeps it open and sends nothing."""

    def __init__(self, target: str, session: aiohttp.ClientSession, *, put_query: str = "") -> None:
        self._target = target
        self._session = session
        self._put_query = put_query
        self.google = GoogleXml(target, session, put_query) if put_query else None
        self.url = ""
        self.down = False
        self.silent = False
        self.cut_upload_after: int | None = None
        self.cut_download_after: int | None = None

    async def handle(self, request: web.Request) -> web.StreamResponse:
        try:
            return await self._handle(request)
        except ConnectionError:
            # The caller disconnected: it has what it needs, or was cancelled.
            return _broken(request)

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        if self.silent:
            await asyncio.Event().wait()
        body = await self._body(request)
        if body is None:
            return _broken(request)
        if self.google is not None and (added := await self.google.answer(request, body)) is not None:
            return added
        path = request.raw_path
        if request.method == "PUT" and self._put_query:
            path += ("&" if "?" in path else "?") + self._put_query
        headers = {name: value for name, value in request.headers.items() if name.lower() not in _OF_ONE_CONNECTION}
        url = URL(self._target + path, encoded=True)
        async with self._session.request(
            request.method, url, headers=headers, data=body, skip_auto_headers=["content-type"], allow_redirects=False
        ) as answer:
            return await self._answer(request, answer)

    async def _body(self, request: web.Request) -> bytes | None:
        received = b""
        limit = self.cut_upload_after if request.method == "PUT" else None
        while not self.down:
            if limit is not None and len(received) >= limit:
                return None
            chunk = await request.content.readany()
            if not chunk:
                return received
            received += chunk
        return None

    async def _answer(self, request: web.Request, answer: aiohttp.ClientResponse) -> web.StreamResponse:
        kept = {name: value for name, value in answer.headers.items() if name.lower() not in _OF_ONE_CONNECTION}
        response = web.StreamResponse(status=answer.status, reason=answer.reason, headers=kept)
        if request.method == "PUT" and answer.status == 200:
            # Google's XML API returns it with every upload; fake-gcs-server only in the JSON of its own API.
            response.headers.setdefault("etag", '"of-the-upload"')
        body = await answer.read()
        await response.prepare(request)
        if request.method != "HEAD":
            limit = self.cut_download_after if request.method == "GET" else None
            await response.write(body[:limit])
            if limit is not None:
                return _broken(request, response)
        await response.write_eof()
        return response


def _broken(request: web.Request, response: web.StreamResponse | None = None) -> web.StreamResponse:
    if request.transport is not None:
        request.transport.abort()
    return response or web.Response(status=500)


@asynccontextmanager
async def store_proxy(target: str, *, put_query: str = "") -> AsyncIterator[StoreProxy]:
    """A proxy for the store at `target` (an origin), on a free port. `put_query` is added to every upload."""
    async with aiohttp.ClientSession(auto_decompress=False) as session:
        proxy = StoreProxy(target, session, put_query=put_query)
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", proxy.handle)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        assert runner.addresses
        proxy.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        try:
            yield proxy
        finally:
            await runner.cleanup()
