"""Streams that are silent, over the whole path: what the caller receives meanwhile, and what is settled."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import orjson
import pytest

from tests.support.edge import Answer
from tests.support.whole_path import SERVER_KEY, WholePath, eventually, text_of, told, whole_path

COMMENT = b": keep-alive\n\n"


@pytest.fixture(autouse=True)
def short_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shared.http.call.SILENCE_S", 0.2)


@asynccontextmanager
async def streaming(path: WholePath, prompt: str) -> AsyncIterator[Answer]:
    """A stream under way, as far as it has come."""
    answer = Answer()
    async with path.asking(prompt, way="stream", into=answer):
        yield answer


async def test_the_headers_come_before_a_late_first_frame() -> None:
    async with whole_path() as path:
        answer = await path.ask("[[latency:1500]] Hello", way="stream")
        assert text_of(answer)
        assert answer.body.startswith(COMMENT)
        assert answer.headers["x-request-id"]


async def test_comments_come_between_late_frames() -> None:
    async with whole_path(REQUEST_TIMEOUT_SECONDS=20) as path:
        answer = await path.ask("[[fault:slow@0.6]] [[words:10]]", way="stream")
        assert text_of(answer)
        assert COMMENT in answer.body.partition(b"data: ")[2]


async def test_a_fast_stream_has_no_comment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shared.http.call.SILENCE_S", 15.0)
    async with whole_path() as path:
        assert COMMENT not in (await path.ask("Hello", way="stream")).body


async def test_nothing_is_sent_while_it_waits_for_a_permit() -> None:
    """So the refusal has its status and Retry-After."""
    async with whole_path(GEMINI_CONCURRENCY_LIMIT=1, QUEUE_TIMEOUT_SECONDS=1) as path:
        async with path.asking("[[fault:hang]]"):
            await eventually(lambda: path.open_upstream == 1)
            answer = await path.ask("Hello", way="stream")
            assert told(answer) == (429, "queue_timeout")
            assert int(answer.headers["retry-after"]) >= 1
        await path.quiet()


async def test_a_failure_after_the_headers_is_an_event_and_logged(capsys: pytest.CaptureFixture[str]) -> None:
    """Gemini fails every try; the record has the status that was sent, and the outcome."""
    async with whole_path(REQUEST_TIMEOUT_SECONDS=2) as path:
        answer = await path.ask("[[latency:600]] [[fault:503]]", way="stream")
        assert answer.status == 200
        ((name, data),) = answer.events()
        assert (name, data["error"]["request_id"]) == ("error", answer.headers["x-request-id"])
        assert data["error"]["status"] >= 500
    (record,) = (orjson.loads(line) for line in capsys.readouterr().out.splitlines() if '"httpRequest"' in line)
    outcome = record["logging.googleapis.com/labels"]["outcome"]
    assert (record["httpRequest"]["status"], outcome) == (200, data["error"]["code"])
    assert record["severity"] == "ERROR"


async def test_a_hanging_upstream_ends_at_the_deadline() -> None:
    async with whole_path(REQUEST_TIMEOUT_SECONDS=1.5) as path:
        answer = await path.ask("[[fault:hang]]", way="stream")
        assert [name for name, _ in answer.events()] == ["error"]
        assert answer.body.count(COMMENT) >= 2
        await path.quiet()


async def test_a_caller_that_goes_during_silence_frees_the_slot() -> None:
    async with whole_path(GEMINI_CONCURRENCY_LIMIT=1) as path:
        async with streaming(path, "[[fault:hang]]") as answer:
            await asyncio.wait_for(answer.arrived.wait(), 20)
        await path.quiet()
        assert text_of(await path.ask("Hello", timeout_s=2))


async def test_a_stream_is_tried_again_after_its_headers() -> None:
    async with whole_path() as path:
        answer = await path.ask("[[latency:600]] [[fault:503x1]] Hello", way="stream")
        assert text_of(answer)
        assert answer.body.startswith(COMMENT)
        assert path.sent == 2


async def test_a_client_with_a_short_read_timeout_is_served(monkeypatch: pytest.MonkeyPatch) -> None:
    """openai-python with a read timeout of 2 s, and a model that thinks for 4."""
    monkeypatch.setattr("shared.http.call.SILENCE_S", 15.0)
    async with whole_path(REQUEST_TIMEOUT_SECONDS=30) as path:
        body = orjson.dumps({"prompt": "[[latency:4000]] Hello", "stream": True})
        timeout = aiohttp.ClientTimeout(sock_read=2)
        async with aiohttp.ClientSession(timeout=timeout) as session:
            headers = {
                "x-goog-api-key": SERVER_KEY,
                "x-stainless-read-timeout": "2",
                "content-type": "application/json",
            }
            url = f"http://127.0.0.1:{path.port}/chat"
            async with session.post(url, data=body, headers=headers) as response:
                received = await response.read()
        assert b'"done":true' in received
