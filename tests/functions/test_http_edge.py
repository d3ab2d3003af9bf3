"""What strangers send below the level of requests, to the local server and to one function under functions-framework."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from shared.emulator import EmulatorConfig, running
from tests.support.processes import ADMIN_KEY, Running, framework, request, served, started
from tests.support.raw_http import chunked, connected, exchanged, request_bytes, status_of

HOST = "Host: 127.0.0.1"
JSON = "Content-Type: application/json"
KEY = f"Admin-API-Key: {ADMIN_KEY}"
BODY = b'{"prompt": "Hello"}'
LENGTH = f"Content-Length: {len(BODY)}"
MIB = 1024 * 1024


@asynccontextmanager
async def chat_server(kind: str) -> AsyncIterator[Running]:
    async with AsyncExitStack() as stack:
        gemini = await stack.enter_async_context(running(EmulatorConfig()))
        env = {"GEMINI_BASE_URL": gemini.url, "GEMINI_API_KEY": "AQ.key-of-the-server"}
        server = served(env) if kind == "serve" else framework("chat", "functions/chat/main.py", env)
        yield await stack.enter_async_context(server)


BOTH = pytest.mark.parametrize("kind", ["serve", "framework"])


def repeated(before: bytes, piece: bytes, size_bytes: int = 16 * MIB) -> Iterator[bytes]:
    yield before
    block = piece * (MIB // len(piece))
    for _ in range(size_bytes // MIB):
        yield block


def peak_mb(server: Running) -> int:
    """The most that any of its processes has had in memory."""
    pids = [str(server.process.pid)]
    for pid in pids:
        pids += Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    texts = [Path(f"/proc/{pid}/status").read_text() for pid in pids]
    return max(int(text.partition("VmHWM:")[2].split()[0]) // 1024 for text in texts)


class TestHead:
    @BOTH
    async def test_an_endless_head_or_trailer_is_rejected(self, kind: str) -> None:
        begun = request_bytes(HOST, JSON, "Transfer-Encoding: chunked").removesuffix(b"\r\n")
        async with chat_server(kind) as server:
            await exchanged(server.url, request_bytes(HOST, method="GET", path="/health"))
            before_mb = peak_mb(server)
            for before, piece in (
                (begun, b"a: b\r\n"),
                (begun + b"X-Long: ", b"a"),
                (b"GET /", b"a"),
                (begun + b"\r\n1\r\n{\r\n0\r\n", b"a: b\r\n"),
                (begun + b"\r\n1\r\n{\r\n0\r\nX-Long: ", b"a"),
                (begun + b"\r\n1;x=", b"a"),
            ):
                answer = await exchanged(server.url, repeated(before, piece))
                assert status_of(answer) in (0, 431), (before, piece)
            assert peak_mb(server) - before_mb < 16
            status, _, _ = await request("GET", f"{server.url}/health")
            assert status == 200

    @BOTH
    async def test_an_ambiguous_request_is_rejected(self, kind: str) -> None:
        te, ten = "Transfer-Encoding: chunked", {"version": "1.0"}
        cases: list[tuple[bytes, int]] = [
            (request_bytes(HOST, JSON, KEY, LENGTH, body=BODY), 200),
            (request_bytes(HOST, JSON, KEY, te, body=chunked(BODY)), 200),
            (request_bytes(HOST, JSON, KEY, LENGTH, body=BODY, **ten), 200),
            (request_bytes(JSON, KEY, LENGTH, body=BODY, **ten), 200),
            (request_bytes(HOST, JSON, f"{KEY} \t", LENGTH, body=BODY), 200),
            (request_bytes(HOST, JSON, KEY, te, body=chunked(BODY), **ten), 400),
            (request_bytes(HOST, JSON, KEY, "Transfer-Encoding: gzip, chunked", body=chunked(BODY)), 501),
            (request_bytes(HOST, JSON, KEY, "Transfer-Encoding: gzip", te, body=chunked(BODY)), 501),
            (request_bytes(JSON, KEY, LENGTH, body=BODY), 400),
            (request_bytes(HOST, HOST, JSON, KEY, LENGTH, body=BODY), 400),
            (request_bytes(HOST, "host: other", JSON, KEY, LENGTH, body=BODY), 400),
        ]
        async with chat_server(kind) as server:
            for sent, status in cases:
                assert status_of(await exchanged(server.url, sent)) == status, sent

    @BOTH
    async def test_a_trailer_is_not_a_header(self, kind: str) -> None:
        head = request_bytes(HOST, JSON, "Transfer-Encoding: chunked")
        async with chat_server(kind) as server:
            assert status_of(await exchanged(server.url, head + chunked(BODY, KEY))) == 401
            # Nor is it one of the next request's on the same connection.
            async with connected(server.url) as (reader, writer):
                follows = request_bytes(HOST, JSON, LENGTH, body=BODY)
                writer.write(head + chunked(BODY, KEY) + follows)
                for _ in range(2):
                    answer = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 30)
                    assert status_of(answer) == 401
                    await reader.readexactly(int(answer.lower().partition(b"content-length: ")[2].split()[0]))

    @BOTH
    async def test_a_body_behind_an_upgrade_is_no_request(self, kind: str) -> None:
        smuggled = request_bytes(HOST, JSON, KEY, LENGTH, body=BODY)
        upgrade = ("Connection: Upgrade", "Upgrade: h2c", f"Content-Length: {len(smuggled)}")
        async with chat_server(kind) as server, connected(server.url) as (reader, writer):
            writer.write(request_bytes(HOST, JSON, *upgrade))
            await writer.drain()
            await asyncio.sleep(0.2)
            writer.write(smuggled)
            answer = await asyncio.wait_for(reader.read(), 30)
            assert (status_of(answer), answer.count(b"x-request-id: ")) == (400, 1)


async def test_idle_connections_do_not_keep_others_out() -> None:
    command = f"ulimit -n 128; exec {sys.executable} -m functions.serve"
    env = {"PORT": "0", "LEDGER_URL": "memory://", "ADMIN_API_KEY": ADMIN_KEY}
    async with (
        started(["/bin/bash", "-c", command], env, ready=r"^Serving on (\S+)") as server,
        AsyncExitStack() as stack,
    ):
        for number in range(160):
            _, writer = await stack.enter_async_context(connected(server.url))
            writer.write(b"GET / HTTP/1.1\r\nHo"[: 18 * (number % 2)])
        get = request_bytes(HOST, "Connection: close", method="GET", path="/health")
        statuses = []
        for _ in range(100):
            statuses.append(status_of(await exchanged(server.url, get)))
            if statuses[-1] == 200:
                break
            await asyncio.sleep(0.1)
        assert statuses[-1] == 200
        await server.line("client connections are open")


async def test_forwarded_addresses_are_not_believed() -> None:
    env = {
        "ALLOW_ANONYMOUS": "generate",
        "RATE_LIMIT_PER_MINUTE": "2",
        "GEMINI_BASE_URL": "http://127.0.0.1:9",
        "GEMINI_API_KEY": "AQ.key-of-the-server",
    }
    async with framework("generate", "functions/generate/main.py", env) as server:
        statuses = []
        for number in range(3):
            headers = {"X-Forwarded-For": f"203.0.113.{number}", "X-Forwarded-Proto": "https"}
            statuses.append((await request("POST", server.url, json={"prompt": "x"}, headers=headers))[0])
    assert statuses == [502, 502, 429]


@BOTH
async def test_a_response_does_not_name_its_server(kind: str) -> None:
    async with chat_server(kind) as server:
        _, headers, _ = await request("GET", f"{server.url}/health")
        assert "server" not in headers
        assert (headers["x-content-type-options"], headers["cache-control"]) == ("nosniff", "no-store")


class TestForeignPages:
    @asynccontextmanager
    async def served(self, **env: str) -> AsyncIterator[str]:
        async with served({"ALLOW_ANONYMOUS": "generate_text", "RATE_LIMIT_PER_MINUTE": "unlimited", **env}) as server:
            yield server.url

    async def post(self, url: str, headers: dict[str, str], **rest: Any) -> tuple[int, dict[str, Any]]:
        if not rest:
            rest = {"json": {"prompt": "Hello"}}
        status, _, body = await request("POST", f"{url}/generate_text", headers=headers, **rest)
        return status, body

    async def test_they_spend_nothing_without_a_credential(self) -> None:
        async with self.served() as url:
            port = url.rpartition(":")[2]
            for headers, status in (
                ({}, 200),
                ({"Origin": url}, 200),
                ({"Origin": f"http://localhost:{port}"}, 200),
                ({"Host": f"localhost:{port}"}, 200),
                ({"Host": f"[::1]:{port}"}, 200),
                ({"Sec-Fetch-Site": "same-origin"}, 200),
                ({"Origin": "https://evil.example"}, 403),
                ({"Origin": "null"}, 403),
                ({"Origin": "http://127.0.0.1:1"}, 403),
                ({"Sec-Fetch-Site": "cross-site"}, 403),
                ({"Host": f"evil.example:{port}"}, 403),
                ({"Host": f"evil.example:{port}", "Origin": f"http://evil.example:{port}"}, 403),
                ({"Host": f"127.0.0.1.evil.example:{port}"}, 403),
                ({"Origin": "https://evil.example", "Admin-API-Key": ADMIN_KEY}, 200),
                ({"Host": f"gateway:{port}", "Admin-API-Key": ADMIN_KEY}, 200),
            ):
                got, body = await self.post(url, headers)
                assert got == status, headers
                assert status != 403 or body["error"]["code"] == "forbidden"

    async def test_a_body_without_a_type_is_not_read(self) -> None:
        async with self.served() as url:
            untyped: dict[str, Any] = {"data": b'{"prompt": "x"}', "skip_auto_headers": ["Content-Type"]}
            assert (await self.post(url, {}, **untyped))[0] == 415
            assert (await self.post(url, {"Admin-API-Key": ADMIN_KEY}, **untyped))[0] == 200

            async def chunks() -> AsyncIterator[bytes]:
                yield b'{"prompt": "x"}'

            untyped["data"] = chunks()
            assert (await self.post(url, {}, **untyped))[0] == 415

    async def test_a_named_origin_may_call(self) -> None:
        async with self.served(CORS_ORIGIN="https://app.example") as url:
            assert (await self.post(url, {"Origin": "https://app.example"}))[0] == 200
            assert (await self.post(url, {"Origin": "https://evil.example"}))[0] == 403

    async def test_the_error_can_be_read_by_the_page(self) -> None:
        async with self.served() as url, aiohttp.ClientSession() as session:
            given = {"Origin": "https://evil.example"}
            async with session.post(f"{url}/generate_text", json={"prompt": "x"}, headers=given) as response:
                assert response.status == 403
                assert response.headers["access-control-allow-origin"] == "*"
                assert "CORS_ORIGIN" in (await response.json())["error"]["message"]
