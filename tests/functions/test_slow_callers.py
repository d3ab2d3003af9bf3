"""Streams whose caller reads slowly, not at all, or disconnects: when Gemini's connection is closed, and what stays held."""

from __future__ import annotations

import asyncio
import re
import socket

import orjson
import pytest

from tests.support.edge import ADMIN_KEY
from tests.support.whole_path import WholePath, eventually, text_of, whole_path

SHORT = "[[words:40000]] [[frames:100]]"
"""200 KB: more than the sockets and the server take, less than a stream reads ahead."""
SLOW = "[[fault:slow@0.2]] [[words:500]]"
LIMIT_BYTES = 20_000
GONE_S = 1.0
"""Maximum time from the caller's disconnect until the connection to Gemini is closed."""

ways = pytest.mark.parametrize("way", ["/chat", "/v1/chat/completions"])


def asked(way: str, prompt: str, timeout_s: float = 5.0) -> bytes:
    """A request for a stream. The way is its path."""
    body = {"prompt": prompt} if way == "/chat" else {"messages": [{"role": "user", "content": prompt}]}
    content = orjson.dumps({**body, "stream": True})
    head = (
        f"POST {way} HTTP/1.1\r\nHost: gateway\r\nAdmin-API-Key: {ADMIN_KEY}\r\nContent-Type: application/json\r\n"
        f"X-Request-Timeout: {timeout_s}\r\nContent-Length: {len(content)}\r\n\r\n"
    )
    return head.encode() + content


async def received(caller: socket.socket) -> bytes:
    """The rest of a chunked response, without the sizes of the chunks."""
    loop, data = asyncio.get_running_loop(), b""
    while not data.endswith(b"\r\n0\r\n\r\n"):
        data += await asyncio.wait_for(loop.sock_recv(caller, 65536), 10)
    return re.sub(rb"\r\n[0-9a-f]+\r\n", b"", data).removesuffix(b"\r\n")


@pytest.fixture
def short_buffer(monkeypatch: pytest.MonkeyPatch) -> None:
    """The maximum that a stream reads ahead, as if SHORT were a long answer."""
    monkeypatch.setattr("shared.http.read_ahead.MAX_WAITING_BYTES", LIMIT_BYTES)


async def streams(path: WholePath, caller: socket.socket) -> None:
    """The first bytes of the answer have arrived."""
    assert await asyncio.wait_for(asyncio.get_running_loop().sock_recv(caller, 16), 10)


async def is_full(path: WholePath) -> None:
    """The upstream is not read any more, since the caller does not read."""
    await eventually(lambda: path.services.byte_budget.used_bytes >= LIMIT_BYTES)


@ways
async def test_a_short_answer_frees_its_slot(way: str) -> None:
    """The next request is served while the caller has not read anything yet. Later it reads the whole answer."""
    async with whole_path(GEMINI_CONCURRENCY_LIMIT=1) as path:
        async with path.deaf_caller(asked(way, SHORT)) as caller:
            await eventually(lambda: path.sent == 1 and path.exchanges == 0)
            assert text_of(await path.ask())
            assert path.busy
            assert path.services.byte_budget.used_bytes > 0, "all of it fitted into the buffers between"
            answer = await received(caller)
        assert answer.count(b" ") > 39_000
        assert answer.endswith(b"data: [DONE]\n\n" if way.startswith("/v1") else b"}\n\n")
        await path.quiet()


@ways
@pytest.mark.usefixtures("short_buffer")
async def test_a_long_answer_waits_for_its_caller(way: str) -> None:
    async with whole_path(GEMINI_CONCURRENCY_LIMIT=1) as path:
        async with path.deaf_caller(asked(way, SHORT)) as caller:
            await is_full(path)
            await asyncio.sleep(0.2)
            assert (path.exchanges, path.busy) == (1, True)
            assert path.services.byte_budget.used_bytes < 2 * LIMIT_BYTES
            answer = await received(caller)
        assert answer.count(b" ") > 39_000
        await path.quiet()


@ways
@pytest.mark.usefixtures("short_buffer")
async def test_a_full_stream_ends_at_its_deadline(way: str) -> None:
    async with whole_path(GEMINI_CONCURRENCY_LIMIT=1) as path, path.deaf_caller(asked(way, SHORT, timeout_s=1)):
        await is_full(path)
        assert path.exchanges == 1
        await eventually(lambda: path.exchanges == 0)
        assert path.busy, "the last event was not tried to be sent"
        await path.quiet()
        assert text_of(await path.ask())


@ways
async def test_a_stream_past_its_deadline_ends_with_an_error(way: str) -> None:
    async with (
        whole_path(GEMINI_CONCURRENCY_LIMIT=1) as path,
        path.deaf_caller(asked(way, SLOW, timeout_s=1)) as caller,
    ):
        last = (await received(caller)).rstrip().rpartition(b"data: ")[2]
        assert orjson.loads(last)["error"]
        await path.quiet(within_s=2)
        assert text_of(await path.ask())


@ways
async def test_one_that_leaves_the_queue_costs_nothing(way: str) -> None:
    async with whole_path(GEMINI_CONCURRENCY_LIMIT=1) as path:
        async with path.asking("[[fault:hang]]"):
            await eventually(lambda: path.open_upstream == 1)
            async with path.deaf_caller(asked(way, "Hello")):
                await eventually(lambda: path.waiting == 1)
            await eventually(lambda: path.waiting == 0, GONE_S)
        await path.quiet()
        assert path.sent == 1


@ways
@pytest.mark.usefixtures("short_buffer")
@pytest.mark.parametrize("moment", ["before the first frame", "between frames", "while it is full"])
async def test_gemini_is_left_when_the_caller_leaves(way: str, moment: str, capsys: pytest.CaptureFixture[str]) -> None:
    prompt = {"before the first frame": "[[fault:hang]]", "between frames": SLOW, "while it is full": SHORT}[moment]
    async with whole_path(GEMINI_CONCURRENCY_LIMIT=1) as path:
        async with path.deaf_caller(asked(way, prompt)) as caller:
            await eventually(lambda: path.sent == 1)
            if moment == "between frames":
                await streams(path, caller)
            elif moment == "while it is full":
                await is_full(path)
            assert path.exchanges == 1
        await eventually(lambda: path.exchanges == 0, GONE_S)
        await eventually(lambda: path.open_upstream == 0, GONE_S)
        await path.quiet()
        assert text_of(await path.ask())
    record = next(orjson.loads(line) for line in capsys.readouterr().out.splitlines() if '"httpRequest"' in line)
    labels = record["logging.googleapis.com/labels"]
    assert labels["outcome"] == "caller_gone"
    assert ("output_tokens" in labels) == (moment != "before the first frame"), "what was counted is to be settled"


async def test_waiting_events_leave_room_for_requests() -> None:
    """Callers that read nothing hold at most the bytes that one caller may have; the others are served."""
    async with whole_path(GEMINI_CONCURRENCY_LIMIT=8, QUEUE_MAX_MB=1) as path:
        request = asked("/chat", SHORT, timeout_s=2)
        async with path.deaf_caller(request), path.deaf_caller(request), path.deaf_caller(request):
            await eventually(lambda: path.sent == 3)
            await asyncio.sleep(0.2)
            assert path.services.byte_budget.used_bytes <= path.services.byte_budget.total_bytes // 4
            answers = [await path.ask(), await path.ask(key="AQ.a-key-of-the-caller")]
            assert all(map(text_of, answers))
        await path.quiet()
