"""A streamed exchange: frames at once, an end that is certain, and a socket that closes when nobody listens."""

from __future__ import annotations

import asyncio
import time

import orjson
import pytest

from shared.gemini import client as client_module
from shared.gemini import reading
from shared.gemini.backend import DeveloperApi
from shared.gemini.client import GeminiClient
from shared.gemini.errors import UpstreamFailure
from shared.gemini.sse import SseParser


def frame(text: str = "", finish: str | None = None, index: int = 0) -> dict:
    candidate: dict = {"content": {"parts": [{"text": text}], "role": "model"}, "index": index}
    return {"candidates": [candidate | ({"finishReason": finish} if finish else {})]}


async def texts(client, exchange) -> list[str]:
    async with client.stream(exchange) as frames:
        return [f["candidates"][0]["content"]["parts"][0]["text"] async for f in frames]


async def failure_of(client, exchange) -> tuple[int, UpstreamFailure]:
    """How many frames came before it, and the failure."""
    seen = 0
    with pytest.raises(UpstreamFailure) as caught:
        async with client.stream(exchange) as frames:
            async for _ in frames:
                seen += 1
    return seen, caught.value


async def test_asks_for_server_sent_events(client, upstream, hear, exchange):
    @hear
    async def one(connection, request):
        await connection.begin_stream()
        await connection.frame(frame("a", "STOP"))
        await connection.end_stream()

    assert await texts(client, exchange("streamGenerateContent")) == ["a"]
    assert upstream.requests[0].line.split()[1] == "/v1beta/models/gemini-3.8-flash:streamGenerateContent?alt=sse"


async def test_each_frame_is_there_before_the_next_is_sent(client, hear, exchange):
    seen = asyncio.Queue()

    @hear
    async def in_step(connection, request):
        await connection.begin_stream()
        for text in "abc":
            await connection.frame(frame(text))
            assert await seen.get() == text
        await connection.frame(frame("", "STOP"))
        await connection.end_stream()

    async with asyncio.timeout(3):
        async with client.stream(exchange("streamGenerateContent")) as frames:
            async for got in frames:
                seen.put_nowait(got["candidates"][0]["content"]["parts"][0]["text"])


async def test_frames_are_whole_however_they_are_split(client, hear, exchange):
    data = b"".join(b"data: " + orjson.dumps(frame(text)) + b"\r\n\r\n" for text in ("Grüße ", "日本 ", "🌍"))
    data += b"data: " + orjson.dumps(frame("", "STOP")) + b"\r\n\r\n"

    @hear
    async def bytewise(connection, request):
        await connection.begin_stream()
        for n in range(0, len(data), 7):
            await connection.chunk(data[n : n + 7])
            await asyncio.sleep(0)
        await connection.end_stream()

    assert await texts(client, exchange("streamGenerateContent")) == ["Grüße ", "日本 ", "🌍", ""]


async def test_a_finished_stream_gives_its_connection_back(client, upstream, hear, exchange):
    @hear
    async def one(connection, request):
        await connection.begin_stream()
        await connection.frame(frame("a", "STOP"))
        await connection.end_stream()

    for _ in range(3):
        await texts(client, exchange("streamGenerateContent"))
    assert upstream.connections == 1


class TestFailingBeforeTheFirstFrame:
    @pytest.mark.parametrize("content_type", ["text/event-stream", "application/json; charset=UTF-8"])
    async def test_entering_raises_the_error_in_googles_words(self, client, upstream, hear, exchange, content_type):
        body = b'{\n  "error": {\n    "code": 404,\n    "message": "models/x is not found",\n    "status": "NOT_FOUND"\n  }\n}\n'

        @hear
        async def missing(connection, request):
            await connection.answer(404, body, content_type)

        for _ in range(2):
            with pytest.raises(UpstreamFailure) as caught:
                async with client.stream(exchange("streamGenerateContent")):
                    pytest.fail("the stream was entered")
            assert (caught.value.kind, caught.value.status, caught.value.message) == (
                "not_found",
                404,
                "models/x is not found",
            )
        assert upstream.connections == 1

    async def test_endless_error_body_closes_the_connection(self, client, upstream, hear, exchange):
        @hear
        async def endless(connection, request):
            await connection.send(b"HTTP/1.1 500 Oh\r\nTransfer-Encoding: chunked\r\n\r\n")
            while True:
                await connection.chunk(b" " * 10_000)

        _, failure = await failure_of(client, exchange("streamGenerateContent", timeout_s=60))
        assert (failure.kind, failure.status) == ("server", 500)
        await asyncio.wait_for(upstream.gone.wait(), 30)

    async def test_entering_waits_no_longer_than_the_deadline(self, client, upstream, hear, exchange):
        @hear
        async def silent(connection, request):
            await connection.reader.read()
            upstream.gone.set()

        seen, failure = await failure_of(client, exchange("streamGenerateContent", timeout_s=2))
        assert (seen, failure.kind, failure.written) == (0, "timeout", True)
        await asyncio.wait_for(upstream.gone.wait(), 30)


class TestEndingTooSoon:
    async def test_a_stream_that_ends_without_a_finish_reason_is_cut(self, client, hear, exchange):
        @hear
        async def unfinished(connection, request):
            await connection.begin_stream()
            await connection.frame(frame("a"))
            await connection.end_stream()

        seen, failure = await failure_of(client, exchange("streamGenerateContent"))
        assert (seen, failure.kind, failure.written, failure.status) == (1, "cut", True, 200)

    async def test_a_stream_without_any_frame_is_cut(self, client, hear, exchange):
        @hear
        async def empty(connection, request):
            await connection.begin_stream()
            await connection.end_stream()

        seen, failure = await failure_of(client, exchange("streamGenerateContent"))
        assert (seen, failure.kind) == (0, "cut")

    @pytest.mark.parametrize("how", ["close", "reset", "half a frame"])
    async def test_a_connection_that_breaks_is_a_cut(self, client, hear, exchange, how):
        @hear
        async def broken(connection, request):
            await connection.begin_stream()
            await connection.frame(frame("a"))
            if how == "half a frame":
                await connection.chunk(b'data: {"candidates": [{"finishReason": "STOP"')
            await asyncio.sleep(0.05)
            connection.reset() if how == "reset" else connection.writer.close()

        seen, failure = await failure_of(client, exchange("streamGenerateContent"))
        assert (seen, failure.kind, failure.written) == (1, "cut", True)

    async def test_one_candidate_of_two_is_not_the_whole_answer(self, client, hear, exchange):
        @hear
        async def one_of_two(connection, request):
            await connection.begin_stream()
            await connection.frame(frame("a", index=0))
            await connection.frame(frame("b", "STOP", index=1))
            await connection.end_stream()

        seen, failure = await failure_of(client, exchange("streamGenerateContent"))
        assert (seen, failure.kind) == (2, "cut")

    async def test_complete_answer_ignores_the_connections_end(self, client, hear, exchange):
        @hear
        async def abrupt(connection, request):
            await connection.begin_stream()
            await connection.frame(frame("a", "MAX_TOKENS"))
            connection.writer.close()

        assert await texts(client, exchange("streamGenerateContent")) == ["a"]

    async def test_a_blocked_prompt_is_a_complete_answer(self, client, hear, exchange):
        @hear
        async def blocked(connection, request):
            await connection.begin_stream()
            await connection.frame({"promptFeedback": {"blockReason": "SAFETY"}})
            await connection.end_stream()

        async with client.stream(exchange("streamGenerateContent")) as frames:
            assert [f["promptFeedback"]["blockReason"] async for f in frames] == ["SAFETY"]

    async def test_an_error_frame_is_that_error(self, client, hear, exchange):
        @hear
        async def overloaded(connection, request):
            await connection.begin_stream()
            await connection.frame(frame("a"))
            await connection.frame(
                {"error": {"code": 503, "message": "The model is overloaded.", "status": "UNAVAILABLE"}}
            )
            await connection.end_stream()

        seen, failure = await failure_of(client, exchange("streamGenerateContent"))
        assert (seen, failure.kind, failure.status) == (1, "overloaded", 503)

    @pytest.mark.parametrize("payload", [b"not json", b"[1]", b"[DONE]"])
    async def test_frame_must_be_a_json_object(self, client, hear, exchange, payload):
        @hear
        async def odd(connection, request):
            await connection.begin_stream()
            await connection.chunk(b"data: " + payload + b"\r\n\r\n")
            await connection.end_stream()

        _, failure = await failure_of(client, exchange("streamGenerateContent"))
        assert failure.kind == "malformed"

    async def test_odd_candidates_do_not_confuse_it(self, client, hear, exchange):
        @hear
        async def odd(connection, request):
            await connection.begin_stream()
            await connection.frame({"candidates": None})
            await connection.frame({"candidates": [None, {"index": [], "finishReason": "STOP"}]})
            await connection.end_stream()

        async with client.stream(exchange("streamGenerateContent")) as frames:
            assert len([f async for f in frames]) == 2

    async def test_an_event_over_the_bound_ends_the_stream(self, client, upstream, hear, exchange, monkeypatch):
        monkeypatch.setattr(reading, "SseParser", lambda: SseParser(max_event_bytes=50_000))

        @hear
        async def endless(connection, request):
            await connection.begin_stream()
            await connection.chunk(b"data: ")
            while True:
                await connection.chunk(b"x" * 10_000)

        seen, failure = await failure_of(client, exchange("streamGenerateContent"))
        assert (seen, failure.kind) == (0, "malformed")
        await asyncio.wait_for(upstream.gone.wait(), 30)

    async def test_a_stream_over_the_bound_ends(self, client, upstream, hear, exchange, monkeypatch):
        monkeypatch.setattr(client_module, "MAX_STREAM_BYTES", 100_000)

        @hear
        async def endless(connection, request):
            await connection.begin_stream()
            while True:
                await connection.frame(frame("x" * 10_000))

        seen, failure = await failure_of(client, exchange("streamGenerateContent"))
        assert failure.kind == "malformed"
        assert seen < 12
        await asyncio.wait_for(upstream.gone.wait(), 30)


class TestNobodyListens:
    async def endless(self, connection, request):
        await connection.begin_stream()
        while True:
            await connection.frame(frame("a"))
            await asyncio.sleep(0.01)

    async def test_leaving_early_closes_the_socket_at_once(self, client, upstream, hear, exchange):
        hear(self.endless)
        async with client.stream(exchange("streamGenerateContent", timeout_s=60)) as frames:
            async for _ in frames:
                break
        await asyncio.wait_for(upstream.gone.wait(), 30)

    async def test_an_error_of_the_reader_closes_the_socket_at_once(self, client, upstream, hear, exchange):
        hear(self.endless)
        with pytest.raises(LookupError):
            async with client.stream(exchange("streamGenerateContent", timeout_s=60)) as frames:
                async for _ in frames:
                    raise LookupError
        await asyncio.wait_for(upstream.gone.wait(), 30)

    async def test_a_cancelled_reader_closes_the_socket_at_once(self, client, upstream, hear, exchange):
        hear(self.endless)
        reading = asyncio.Event()

        async def read():
            async with client.stream(exchange("streamGenerateContent", timeout_s=60)) as frames:
                async for _ in frames:
                    reading.set()

        task = asyncio.create_task(read())
        await reading.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.wait_for(upstream.gone.wait(), 30)

    async def test_deadline_closes_the_socket_of_a_busy_reader(self, client, upstream, hear, exchange):
        hear(self.endless)
        async with client.stream(exchange("streamGenerateContent", timeout_s=2)) as frames:
            await anext(frames)
            await asyncio.wait_for(upstream.gone.wait(), 30)
            with pytest.raises(UpstreamFailure) as caught:
                while True:
                    await anext(frames)
        assert (caught.value.kind, caught.value.remedy) == ("timeout", "none")

    async def test_the_deadline_ends_a_stream_that_stalls(self, client, hear, exchange):
        @hear
        async def stall(connection, request):
            await connection.begin_stream()
            await connection.frame(frame("a"))
            await connection.reader.read()

        started = time.monotonic()
        seen, failure = await failure_of(client, exchange("streamGenerateContent", timeout_s=2))
        assert (seen, failure.kind) == (1, "timeout")
        assert time.monotonic() - started < 30

    async def test_a_pool_of_one_is_free_again_after_each(self, upstream, hear, exchange):
        hear(self.endless)
        client = GeminiClient(DeveloperApi(upstream.url), max_connections=1)
        for _ in range(5):
            async with client.stream(exchange("streamGenerateContent", timeout_s=3)) as frames:
                await anext(frames)
        await client.aclose()
        assert upstream.connections == 5
