"""A gRPC server between a client and Firestore (or its emulator) that forwards everything, and fails where a test says."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import uniform
from typing import Any

import grpc
from grpc import aio

_KEPT = ("authorization", "google-cloud-resource-prefix", "x-goog-request-params")


class FirestoreProxy(grpc.GenericRpcHandler):
    """`async with FirestoreProxy(upstream) as proxy`: clients connect to `proxy.host`.

    Each code in the lists fails one call. If `hold` is an Event, every call waits for it, and `held` is the number of waiting
    calls. `delay_s` is the range of the delay added to each call."""

    def __init__(self, upstream: str, port: int = 0) -> None:
        self._upstream_host, self._port = upstream, port
        self.host = ""
        self.commits = self.reads = 0
        self.fail_reads: list[grpc.StatusCode] = []
        self.fail_commits_before: list[grpc.StatusCode] = []
        self.fail_commits_after: list[grpc.StatusCode] = []
        self.hold: asyncio.Event | None = None
        self.held = 0
        self.delay_s = (0.0, 0.0)
        self.metadata: dict[str, str] = {}

    async def __aenter__(self) -> FirestoreProxy:
        self._channel = aio.insecure_channel(self._upstream_host)
        await self._listen()
        return self

    async def _listen(self) -> None:
        self._server = aio.server(options=[("grpc.so_reuseport", 0)])
        self._server.add_generic_rpc_handlers((self,))
        self._port = self._server.add_insecure_port(f"127.0.0.1:{self._port}")
        self.host = f"127.0.0.1:{self._port}"
        await self._server.start()

    @asynccontextmanager
    async def gone(self) -> AsyncIterator[None]:
        """Connections are closed, and new ones refused, until the end of the block."""
        await self._server.stop(None)
        try:
            yield
        finally:
            await self._listen()

    async def __aexit__(self, *_exc: object) -> None:
        await self._server.stop(None)
        await self._channel.close()

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        method = handler_call_details.method
        if method.endswith("/Commit"):
            return grpc.unary_unary_rpc_method_handler(self._commit)  # type: ignore[no-untyped-call]

        async def stream(request: bytes, context: Any) -> AsyncIterator[bytes]:
            async for reply in self._stream(method, request, context):
                yield reply

        return grpc.unary_stream_rpc_method_handler(stream)  # type: ignore[no-untyped-call]

    async def _commit(self, request: bytes, context: Any) -> bytes:
        self.commits += 1
        await self._begin(context, self.fail_commits_before)
        call: Any = self._channel.unary_unary("/google.firestore.v1.Firestore/Commit")
        try:
            reply: bytes = await call(request, metadata=self._passed_on(context))
        except aio.AioRpcError as error:
            await context.abort(error.code(), error.details())
        if self.fail_commits_after:
            await context.abort(self.fail_commits_after.pop(0), "injected after the commit")
        return reply

    async def _stream(self, method: str, request: bytes, context: Any) -> AsyncIterator[bytes]:
        self.reads += 1
        await self._begin(context, self.fail_reads)
        call: Any = self._channel.unary_stream(method)
        async for reply in call(request, metadata=self._passed_on(context)):
            yield reply

    async def _begin(self, context: Any, failures: list[grpc.StatusCode]) -> None:
        if self.hold is not None:
            self.held += 1
            try:
                await self.hold.wait()
            finally:
                self.held -= 1
        if any(self.delay_s):
            await asyncio.sleep(uniform(*self.delay_s))
        if failures:
            await context.abort(failures.pop(0), "injected before anything was done")

    def _passed_on(self, context: Any) -> list[tuple[str, str]]:
        self.metadata = dict(context.invocation_metadata())
        return [(key, value) for key, value in self.metadata.items() if key in _KEPT]
