"""Odd answers over a socket: which of them are whole, and so never requested again."""

from __future__ import annotations

import gzip
from typing import Any

import brotli
import orjson
import pytest

from shared.gemini import wire
from shared.gemini.counting import count_input_tokens
from shared.gemini.errors import UpstreamFailure
from shared.gemini.upstream import Exchange
from shared.secret import Secret

KEY = "odd-key-without-a-shape"
WHOLE = (
    b'{"candidates": [{"content": {"parts": [{"text": "a"}]}, "finishReason": "STOP"}], '
    b'"usageMetadata": {"promptTokenCount": 7}}'
)
REFUSED = b'{"error": {"code": 429, "message": "Resource has been exhausted.", "status": "RESOURCE_EXHAUSTED"}}'
VERBS = pytest.mark.parametrize("verb", ["generateContent", "streamGenerateContent"])


async def texts(client: Any, exchange: Any) -> list[str]:
    if exchange.verb == "generateContent":
        return [wire.text_of(await client.generate(exchange))]
    async with client.stream(exchange) as frames:
        return [wire.text_of(frame) async for frame in frames]


async def failure_of(client: Any, exchange: Any) -> UpstreamFailure:
    with pytest.raises(UpstreamFailure) as caught:
        await texts(client, exchange)
    return caught.value


class TestTruncation:
    """A body that has its announced length is whole, whatever is in it."""

    @pytest.mark.parametrize(
        "body",
        [WHOLE[:-20], b"[" + WHOLE[:30], b"data: " + WHOLE[:30], gzip.compress(WHOLE)[:30]],
        ids=["cut", "array", "event", "gzip"],
    )
    async def test_a_unary_answer_of_its_length_is_whole(self, client, hear, exchange, body):
        @hear
        async def framed(connection, request):
            await connection.answer(200, body)

        failure = await failure_of(client, exchange())
        assert (failure.kind, failure.status, failure.remedy) == ("malformed", 200, "none")

    @VERBS
    @pytest.mark.parametrize("body", [WHOLE[:-20], b"[" + WHOLE[:30], b"data: " + WHOLE[:30], b""])
    async def test_an_answer_of_no_announced_length_was_cut(self, client, hear, exchange, body, verb):
        @hear
        async def unframed(connection, request):
            await connection.send(b"HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n\r\n" + body)
            connection.writer.close()

        failure = await failure_of(client, exchange(verb))
        assert (failure.kind, failure.status, failure.remedy) == ("cut", 200, "same_account")

    @VERBS
    @pytest.mark.parametrize(
        "body", [WHOLE, b"data: " + WHOLE, b"[" + WHOLE, b"\xef\xbb\xbf" + WHOLE, WHOLE + b"\n<!--"]
    )
    async def test_a_whole_text_of_no_announced_length_is_read(self, client, hear, exchange, body, verb):
        @hear
        async def unframed(connection, request):
            await connection.send(b"HTTP/1.0 200 OK\r\n\r\n" + body)
            connection.writer.close()

        assert "".join(await texts(client, exchange(verb))) == "a"

    async def test_a_reset_after_the_last_event_spoils_nothing(self, client, hear, exchange):
        """Even if the blank line was still to come."""

        @hear
        async def abrupt(connection, request):
            await connection.begin_stream()
            await connection.chunk(b"data: " + WHOLE)
            connection.writer.close()

        assert await texts(client, exchange("streamGenerateContent")) == ["a"]

    async def test_a_cut_inside_a_frame_after_a_finish_is_a_cut(self, client, hear, exchange):
        @hear
        async def cut(connection, request):
            await connection.begin_stream()
            await connection.chunk(b"data: " + WHOLE + b"\r\n\r\ndata: " + WHOLE[:60])
            connection.writer.close()

        failure = await failure_of(client, exchange("streamGenerateContent"))
        assert (failure.kind, failure.remedy) == ("cut", "same_account")


class TestErrors:
    @VERBS
    @pytest.mark.parametrize("body", [b"[" + REFUSED + b"]", b"data: " + REFUSED + b"\n\n", b"\xef\xbb\xbf" + REFUSED])
    async def test_a_429_under_status_200_is_a_429(self, client, hear, exchange, body, verb):
        @hear
        async def disguised(connection, request):
            await connection.answer(200, body)

        failure = await failure_of(client, exchange(verb))
        assert (failure.kind, failure.status, failure.message) == ("pressure", 429, "Resource has been exhausted.")

    @VERBS
    @pytest.mark.parametrize(
        ("body", "headers"),
        [
            (brotli.compress(REFUSED), ["Content-Encoding: br"]),
            (gzip.compress(REFUSED), ["Content-Encoding: gzip"]),
            (b"\xef\xbb\xbf" + REFUSED, []),
            (REFUSED.replace(b"Resource", rb"Resource\ud83d"), []),
        ],
    )
    async def test_an_error_status_is_read_in_any_wrapping(self, client, hear, exchange, body, headers, verb):
        @hear
        async def refused(connection, request):
            await connection.answer(429, body, "application/json", *headers)

        failure = await failure_of(client, exchange(verb))
        assert (failure.kind, failure.status) == ("pressure", 429)
        assert "has been exhausted" in failure.message

    @VERBS
    async def test_null_error_is_ignored(self, client, hear, exchange, verb):
        @hear
        async def nulls(connection, request):
            frames = [{"error": None, "usageMetadata": {"promptTokenCount": 7}}, {**orjson.loads(WHOLE), "error": None}]
            await connection.answer(200, orjson.dumps(frames))

        assert "".join(await texts(client, exchange(verb))) == "a"

    @VERBS
    async def test_the_description_of_an_answer_shows_no_key(self, client, hear, exchange, verb):
        @hear
        async def echo(connection, request):
            await connection.answer(200, b"<p>unknown key " + KEY.encode(), "text/html")

        failure = await failure_of(client, exchange(verb, key=KEY))
        assert "text/html" in failure.message
        assert KEY not in failure.message


@pytest.mark.parametrize(
    ("reply", "counted"),
    [({"totalTokens": 9}, 9), ({"totalTokens": 0}, None), ({}, None), ({"totalTokens": "9"}, None)]
    + [({"totalTokens": odd}, None) for odd in (None, -1, 9.0, True, 2**31)],
)
async def test_only_a_positive_count_replaces_an_estimate(reply: dict[str, Any], counted: int | None) -> None:
    class Client:
        async def generate(self, exchange: Any) -> dict[str, Any]:
            return reply

    client: Any = Client()
    exchange = Exchange(Secret("k" * 20), "m", "generateContent", b'{"contents": []}', 5.0)
    assert await count_input_tokens(client, exchange) == counted
