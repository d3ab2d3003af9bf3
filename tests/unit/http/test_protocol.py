"""A connection's bounds: what is rejected, when it ends, and what is not touched. Over loopback, with short times."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import orjson
import pytest
import uvicorn
from starlette.requests import Request
from starlette.responses import Response
from uvicorn.server import ServerState

from shared.chat.chat import chat_events
from shared.http import protocol as http_protocol
from shared.http.endpoint import Call, EndpointApp
from shared.http.head import MAX_HEAD_BYTES, MAX_HEADERS, head_fault
from shared.http.manifest import Manifest
from shared.http.protocol import MAX_CLIENTS, MIN_CLIENTS, BoundedProtocol, client_limit
from tests.support.edge import ADMIN_KEY, FakeGateway, FakeServices, native
from tests.support.raw_http import chunked, connected, exchanged, request_bytes, status_of
from tests.support.whole_path import eventually

HOST = "Host: a"
GET = request_bytes(HOST, method="GET")
LARGE = request_bytes(HOST, method="GET", path="/large")
END = b"\r\n\r\n"


class Site:
    """An application that says what it received; `run` is replaced by tests that need another one."""

    def __init__(self) -> None:
        self.url = ""
        self.state = ServerState()
        self.scopes: list[Any] = []
        self.gone = 0
        self.go_on = asyncio.Event()

    async def app(self, scope: Any, receive: Any, send: Any) -> None:
        self.scopes.append(scope)
        path = scope["path"]
        body = b""
        while path != "/early":
            message = await receive()
            if message["type"] == "http.disconnect":
                self.gone += 1
                return
            body += message["body"]
            if not message["more_body"]:
                break
        if path == "/slow":
            await self.go_on.wait()
        if path == "/large":
            body = b"x" * 32 * 2**20
        await Response(body or b"ok")(scope, receive, send)


@asynccontextmanager
async def site(*, app: Any = None, keep_alive_s: float = 75, **bounds: float) -> AsyncIterator[Site]:
    made = Site()
    protocol = type("Short", (BoundedProtocol,), bounds)
    config = uvicorn.Config(
        app or made.app,
        http=protocol,
        ws="none",
        lifespan="off",
        interface="asgi3",
        log_config=None,
        proxy_headers=False,
        timeout_keep_alive=keep_alive_s,  # type: ignore[arg-type]
    )
    config.load()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: protocol(config=config, server_state=made.state, app_state={}), "127.0.0.1", 0
    )
    made.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield made
    finally:
        server.close()
        for connection in list(made.state.connections):
            connection.transport.abort()
        for task in list(made.state.tasks):
            task.cancel()
        await asyncio.gather(*made.state.tasks, return_exceptions=True)
        await eventually(lambda: not made.state.connections)


async def read(reader: asyncio.StreamReader) -> bytes:
    """One response with a Content-Length."""
    head = await asyncio.wait_for(reader.readuntil(END), 30)
    length = int(head.lower().partition(b"content-length: ")[2].split()[0])
    return head + await asyncio.wait_for(reader.readexactly(length), 30)


async def ended(reader: asyncio.StreamReader) -> bytes:
    """What comes until the server closes the connection."""
    try:
        return await asyncio.wait_for(reader.read(), 30)
    except ConnectionResetError:
        return b""


def headers(count: int, size_bytes: int = 1) -> list[str]:
    return [f"x: {'a' * size_bytes}"] * count


class TestHead:
    @pytest.mark.parametrize(
        ("lines", "status"),
        [
            (headers(MAX_HEADERS - 1), 200),
            (headers(MAX_HEADERS), 431),
            (headers(1, MAX_HEAD_BYTES - 100), 200),
            (headers(1, MAX_HEAD_BYTES), 431),
            (headers(9, MAX_HEAD_BYTES // 9), 431),
        ],
        ids=["most", "too many", "longest", "too long", "together too long"],
    )
    @pytest.mark.parametrize("piece_bytes", [1 << 20, 5000])
    async def test_size_is_bounded(self, lines: list[str], status: int, piece_bytes: int) -> None:
        sent = request_bytes(HOST, *lines, method="GET")
        pieces = [sent[at : at + piece_bytes] for at in range(0, len(sent), piece_bytes)]
        async with site() as made:
            assert status_of(await exchanged(made.url, pieces)) == status
            assert len(made.scopes) == (status == 200)

    async def test_long_target_is_rejected(self) -> None:
        async with site() as made:
            sent = request_bytes(HOST, method="GET", path="/" + "a" * MAX_HEAD_BYTES)
            assert status_of(await exchanged(made.url, sent)) == 431

    async def test_rejection_is_in_the_error_format(self) -> None:
        async with site() as made:
            answer = await exchanged(made.url, request_bytes(method="GET"))
        head, _, body = answer.partition(END)
        error = orjson.loads(body)["error"]
        assert (error["status"], error["code"]) == (400, "invalid_request")
        assert f"x-request-id: {error['request_id']}".encode() in head
        assert b"connection: close" in head

    @pytest.mark.parametrize(
        ("version", "given", "status"),
        [
            ("1.1", [(b"host", b"a")], None),
            ("1.0", [], None),
            ("1.1", [(b"host", b"a"), (b"transfer-encoding", b"Chunked")], None),
            ("1.1", [], 400),
            ("1.0", [(b"host", b"a"), (b"host", b"a")], 400),
            ("1.0", [(b"transfer-encoding", b"chunked")], 400),
            ("1.1", [(b"host", b"a"), (b"transfer-encoding", b"gzip, chunked")], 501),
            ("1.1", [(b"host", b"a"), (b"transfer-encoding", b"chunked, chunked")], 501),
            ("1.1", [(b"host", b"a"), *[(b"transfer-encoding", b"chunked")] * 2], 501),
            ("1.1", [(b"host", b"a"), (b"transfer-encoding", b"identity")], 501),
        ],
    )
    def test_fault(self, version: str, given: list[tuple[bytes, bytes]], status: int | None) -> None:
        fault = head_fault(version, given)
        assert (fault and fault.status) == status

    @pytest.mark.parametrize(
        ("path", "status"), [("/a%0Ab", 404), ("/a%0a", 404), ("/a%0D%00", 200), ("/a?b=%0A", 200)]
    )
    async def test_path_with_a_line_break_is_not_found(self, path: str, status: int) -> None:
        """Starlette's routes match no path with one."""
        async with site() as made:
            assert status_of(await exchanged(made.url, request_bytes(HOST, method="GET", path=path))) == status

    async def test_values_have_no_white_space_around_them(self) -> None:
        async with site() as made:
            await exchanged(made.url, request_bytes(HOST, "a:  b\t ", "c:", "d: \t", method="GET"))
        assert made.scopes[0]["headers"][1:] == [(b"a", b"b"), (b"c", b""), (b"d", b"")]

    @pytest.mark.parametrize("piece_bytes", [1 << 20, 1])
    async def test_trailers_are_ignored(self, piece_bytes: int) -> None:
        sent = request_bytes(HOST, "Transfer-Encoding: chunked") + chunked(b"body", "host: b", "x: 1") + GET
        async with site() as made, connected(made.url) as (reader, writer):
            for at in range(0, len(sent), piece_bytes):
                writer.write(sent[at : at + piece_bytes])
                await asyncio.sleep(0)
            assert (await read(reader)).endswith(END + b"body")
            assert (await read(reader)).endswith(END + b"ok")
        assert [scope["headers"][0] for scope in made.scopes] == [(b"host", b"a")] * 2
        assert [len(scope["headers"]) for scope in made.scopes] == [2, 1]

    async def test_pipelined_requests_are_answered_in_order(self) -> None:
        many = 500
        sent = b"".join(
            request_bytes(HOST, f"Content-Length: {len(b'%d' % n)}", body=b"%d" % n) for n in range(many)
        )  # fmt: skip
        async with site() as made, connected(made.url) as (reader, writer):
            writer.write(sent)
            for number in range(many):
                assert (await read(reader)).endswith(END + b"%d" % number)

    @pytest.mark.parametrize("broken", [b"NOT HTTP\r\n\r\n", request_bytes(method="GET")], ids=["syntax", "no host"])
    async def test_what_follows_a_request_does_not_cost_its_response(self, broken: bytes) -> None:
        async with site() as made, connected(made.url) as (reader, writer):
            writer.write(request_bytes(HOST, method="GET", path="/slow"))
            await eventually(lambda: len(made.scopes) == 1)
            writer.write(GET + broken)
            await asyncio.sleep(0.05)
            made.go_on.set()
            assert (await ended(reader)).count(b"HTTP/1.1 200") == 2

    async def test_broken_pipelined_body_keeps_earlier_responses(self) -> None:
        async with site() as made, connected(made.url) as (reader, writer):
            writer.write(request_bytes(HOST, method="GET", path="/slow"))
            await eventually(lambda: len(made.scopes) == 1)
            writer.write(request_bytes(HOST, "Transfer-Encoding: chunked", body=b"zzz\r\n"))
            await asyncio.sleep(0.05)
            made.go_on.set()
            answer = await ended(reader)
        assert (status_of(answer), answer.count(b"HTTP/1.1 "), len(made.scopes)) == (200, 1, 1)

    async def test_a_broken_body_is_rejected_and_its_handler_ends(self) -> None:
        async with site() as made:
            answer = await exchanged(made.url, request_bytes(HOST, "Transfer-Encoding: chunked", body=b"zzz\r\n"))
            assert status_of(answer) == 400
            await eventually(lambda: made.gone == 1)


class TestTime:
    async def test_a_silent_connection_ends(self) -> None:
        async with site(HEAD_S=0.2) as made, connected(made.url) as (reader, _):
            assert await ended(reader) == b""

    @pytest.mark.parametrize("served_before", [False, True])
    async def test_a_slow_head_ends(self, served_before: bool) -> None:
        async with site(HEAD_S=0.3) as made, connected(made.url) as (reader, writer):
            if served_before:
                writer.write(GET)
                await read(reader)

            async def drip() -> None:
                for byte in request_bytes(HOST, *headers(200), method="GET"):
                    writer.write(bytes([byte]))
                    await asyncio.sleep(0.05)

            dripping = asyncio.create_task(drip())
            assert status_of(await ended(reader)) == 408
            dripping.cancel()

    async def test_empty_lines_do_not_hold_a_connection(self) -> None:
        async with site(HEAD_S=0.3) as made, connected(made.url) as (reader, writer):

            async def drip() -> None:
                while True:
                    writer.write(b"\r\n")
                    await asyncio.sleep(0.05)

            dripping = asyncio.create_task(drip())
            assert await ended(reader) == b""
            dripping.cancel()

    async def test_an_answer_may_take_longer(self) -> None:
        async with site(HEAD_S=0.1) as made, connected(made.url) as (reader, writer):
            writer.write(request_bytes(HOST, "Content-Length: 2", path="/slow"))
            await asyncio.sleep(0.3)
            writer.write(b"ok")
            await asyncio.sleep(0.3)
            made.go_on.set()
            assert status_of(await read(reader)) == 200

    async def test_an_idle_connection_ends(self) -> None:
        async with site(keep_alive_s=0.2) as made, connected(made.url) as (reader, writer):
            writer.write(GET)
            assert status_of(await read(reader)) == 200
            assert await ended(reader) == b""

    async def test_the_rest_of_an_answered_body_has_an_end(self) -> None:
        async with site(HEAD_S=0.3) as made, connected(made.url) as (reader, writer):
            writer.write(request_bytes(HOST, "Content-Length: 1000", path="/early"))
            assert status_of(await read(reader)) == 200

            async def drip() -> None:
                while True:
                    writer.write(b"a")
                    await asyncio.sleep(0.05)

            dripping = asyncio.create_task(drip())
            assert await ended(reader) == b""
            dripping.cancel()

    async def test_after_the_rest_of_a_body_the_connection_goes_on(self) -> None:
        async with site(HEAD_S=5) as made, connected(made.url) as (reader, writer):
            writer.write(request_bytes(HOST, "Content-Length: 4", path="/early"))
            assert status_of(await read(reader)) == 200
            writer.write(b"abcd" + GET)
            assert status_of(await read(reader)) == 200


class TestReading:
    @asynccontextmanager
    async def reading_nothing(self, made: Site, sent: bytes) -> AsyncIterator[socket.socket]:
        with socket.socket() as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.setblocking(False)
            host, _, port = made.url.removeprefix("http://").partition(":")
            loop = asyncio.get_running_loop()
            await loop.sock_connect(client, (host, int(port)))
            await loop.sock_sendall(client, sent)
            yield client

    async def test_a_client_that_reads_nothing_is_dropped(self) -> None:
        async with site(STALL_S=0.3) as made, self.reading_nothing(made, LARGE):
            await eventually(lambda: len(made.scopes) == 1)
            await eventually(lambda: not made.state.connections, within_s=20)

    async def test_a_client_that_reads_slowly_is_not(self) -> None:
        async with site(STALL_S=2.0) as made, self.reading_nothing(made, LARGE) as client:
            loop, size_bytes = asyncio.get_running_loop(), 0
            for _ in range(20):
                await asyncio.sleep(0.15)
                size_bytes += len(await loop.sock_recv(client, 2**20))
            while size_bytes < 32 * 2**20:
                part = await asyncio.wait_for(loop.sock_recv(client, 2**20), 30)
                assert part
                size_bytes += len(part)

    async def test_unread_stream_returns_its_slot(self) -> None:
        gateway = FakeGateway([native("x" * 2**20)] * 40)

        async def streaming(call: Call) -> Response:
            return call.stream("m", await call.json(), partial(chat_events, request_id=call.request_id))

        services = FakeServices(gateway)
        edge = EndpointApp(
            streaming,
            Manifest("thing", "A thing.", {"/chat": ("POST",)}, "credential", 512, 1, 80, 60, ()),
            services=lambda: services,
        )

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await (await edge.answer(Request(scope, receive, send)))(scope, receive, send)

        body = b'{"prompt": "x"}'
        sent = request_bytes(HOST, f"Admin-API-Key: {ADMIN_KEY}", f"Content-Length: {len(body)}", body=body)
        async with site(app=app, STALL_S=0.3) as made, self.reading_nothing(made, sent):
            await eventually(gateway.began.is_set)
            assert gateway.closed == 0
            await eventually(lambda: gateway.closed == 1, within_s=20)


class TestPlaces:
    @pytest.mark.parametrize(
        ("files", "clients"), [(-1, MAX_CLIENTS), (1 << 20, MAX_CLIENTS), (1024, 512), (256, 128), (8, MIN_CLIENTS)]
    )
    def test_limit_follows_the_descriptors(self, files: int, clients: int) -> None:
        assert client_limit(files) == clients

    @pytest.fixture
    def limited(self, monkeypatch: pytest.MonkeyPatch) -> Callable[[float], Awaitable[None]]:
        monkeypatch.setattr(http_protocol, "_client_limit", lambda: 8)
        monkeypatch.setattr(BoundedProtocol, "_warn_again_s", float("-inf"))
        monkeypatch.setattr(BoundedProtocol, "_look_again_s", float("-inf"))
        return lambda idle_s: monkeypatch.setattr(http_protocol, "MIN_IDLE_S", idle_s)  # type: ignore[return-value]

    async def test_idle_connections_make_room(self, limited: Any, capsys: pytest.CaptureFixture[str]) -> None:
        limited(0.0)
        async with site() as made:
            held = [await asyncio.open_connection(*made.url.removeprefix("http://").split(":")) for _ in range(8)]
            await eventually(lambda: len(made.state.connections) == 8)
            assert [status_of(await exchanged(made.url, GET)) for _ in range(3)] == [200] * 3
            # The oldest has gone, the youngest has not.
            assert await ended(held[0][0]) == b""
            held[-1][1].write(GET)
            assert status_of(await read(held[-1][0])) == 200
            for _, writer in held:
                writer.close()
        (line,) = capsys.readouterr().out.splitlines()
        assert "8 client connections are open" in line

    async def test_requests_under_way_do_not(self, limited: Any) -> None:
        limited(0.0)
        async with site() as made:
            held = [await asyncio.open_connection(*made.url.removeprefix("http://").split(":")) for _ in range(8)]
            for _, writer in held:
                writer.write(request_bytes(HOST, method="GET", path="/slow"))
            await eventually(lambda: len(made.scopes) == 8)
            assert status_of(await exchanged(made.url, GET)) == 503
            made.go_on.set()
            for reader, writer in held:
                assert status_of(await read(reader)) == 200
                writer.close()

    async def test_a_flood_is_closed_without_a_word(self, limited: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        limited(60.0)
        monkeypatch.setattr(http_protocol, "MAX_LINGERING", 2)
        async with site() as made:
            opened = [await asyncio.open_connection(*made.url.removeprefix("http://").split(":")) for _ in range(20)]
            await eventually(lambda: len(made.state.connections) <= 10)
            answers = [await ended(reader) for reader, _ in opened[8:]]
            assert [status_of(answer) for answer in answers] == [503] * 2 + [0] * 10
            for _, writer in opened:
                writer.close()
