"""One exchange with Gemini: what is sent, when the permit is looked at, and what each way of failing becomes."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import gzip
import socket
import time
import traceback
import weakref

import aiohttp
import orjson
import pytest

from shared.clock import elapsed_s
from shared.gemini import client as client_module
from shared.gemini import upload as upload_module
from shared.gemini.backend import DeveloperApi
from shared.gemini.client import GeminiClient
from shared.gemini.errors import UpstreamFailure
from shared.gemini.upstream import Exchange
from shared.secret import Secret
from tests.support.whole_path import eventually

KEY = "AQ.Ab8RN6KrExampleKeyOfTheTests0123456789"
OVERLOADED = b"""{
  "error": {
    "code": 503,
    "message": "The model is overloaded. Please try again later.",
    "status": "UNAVAILABLE"
  }
}
"""


async def failure_of(awaitable) -> UpstreamFailure:
    with pytest.raises(UpstreamFailure) as caught:
        await awaitable
    return caught.value


class TestSending:
    async def test_body_is_unchanged_and_key_is_in_a_header(self, client, upstream, exchange):
        body = orjson.dumps({"contents": [{"parts": [{"text": "Grüße"}]}]})
        reply = await client.generate(exchange(body=body, timeout_s=7.9))

        (request,) = upstream.requests
        assert reply["candidates"][0]["finishReason"] == "STOP"
        assert request.line == "POST /v1beta/models/gemini-3.8-flash:generateContent HTTP/1.1"
        assert request.body == body
        assert request.headers["x-goog-api-key"] == KEY
        assert request.headers["content-type"] == "application/json"
        assert request.headers["accept-encoding"] == "identity"
        assert "expect" not in request.headers
        assert "transfer-encoding" not in request.headers

    async def test_x_server_timeout_is_the_whole_seconds_left(self, client, upstream, exchange):
        await client.generate(exchange(timeout_s=7.9))
        await client.generate(exchange(timeout_s=0.9))
        assert [r.headers["x-server-timeout"] for r in upstream.requests] == ["7", "1"]

    async def test_x_server_timeout_counts_from_the_last_check(self, client, upstream, exchange, monkeypatch):
        """A process that freezes before the check does not ask for the time in which it stood still."""
        now_s = elapsed_s()

        def thaw() -> None:
            monkeypatch.setattr(upload_module, "elapsed_s", lambda: now_s + 5.0)

        await client.generate(exchange(timeout_s=9.9, before_write=thaw))
        assert upstream.requests[0].headers["x-server-timeout"] in ("4", "5")

    async def test_keeps_a_path_prefix_of_the_base_url(self, upstream, exchange):
        client = GeminiClient(DeveloperApi(upstream.url + "/some/prefix/"))
        await client.generate(exchange("countTokens"))
        await client.aclose()
        assert upstream.requests[0].line == "POST /some/prefix/v1beta/models/gemini-3.8-flash:countTokens HTTP/1.1"

    async def test_one_connection_serves_exchanges_that_follow_each_other(self, client, upstream, exchange):
        for _ in range(5):
            await client.generate(exchange())
        assert (len(upstream.requests), upstream.connections) == (5, 1)

    async def test_never_opens_more_connections_than_it_may(self, client, upstream, exchange):
        replies = await asyncio.gather(*(client.generate(exchange()) for _ in range(40)))
        assert len(replies) == len(upstream.requests) == 40
        assert upstream.connections <= 4

    async def test_keys_share_the_pool_but_not_answers(self, client, hear, exchange):
        @hear
        async def echo(connection, request):
            await connection.answer(200, orjson.dumps({"key": request.headers["x-goog-api-key"]}))

        keys = [f"AQ.key-number-{n}" for n in range(30)]
        replies = await asyncio.gather(*(client.generate(exchange(key=key)) for key in keys))
        assert [reply["key"] for reply in replies] == keys

    async def test_goes_through_a_proxy(self, upstream, exchange):
        client = GeminiClient(DeveloperApi("http://gemini.invalid"), proxy=upstream.url)
        asked = []
        await client.generate(exchange(before_write=lambda: asked.append(len(upstream.requests))))
        await client.aclose()
        assert upstream.requests[0].line.startswith("POST http://gemini.invalid/v1beta/models/")
        assert asked == [0]

    async def test_unrequested_compression_is_read(self, client, hear, exchange):
        @hear
        async def compressed(connection, request):
            await connection.answer(200, gzip.compress(b'{"a": 1}'), "application/json", "Content-Encoding: gzip")

        assert await client.generate(exchange()) == {"a": 1}

    async def test_reads_a_large_answer_that_comes_in_pieces(self, client, hear, exchange):
        text = "x" * 3_000_000

        @hear
        async def large(connection, request):
            await connection.answer(200, orjson.dumps({"text": text}))

        assert await client.generate(exchange()) == {"text": text}

    async def test_sends_a_large_body(self, client, upstream, exchange):
        body = orjson.dumps({"data": "x" * 5_000_000})
        await client.generate(exchange(body=body))
        assert upstream.requests[0].body == body


class TestThePermitAtTheSocket:
    @pytest.fixture(autouse=True)
    def busy_machine(self, monkeypatch):
        """A machine that is busy for some milliseconds has the permit asked again. Here only `stall` does."""
        monkeypatch.setattr("shared.gemini.upload.STALL_S", 60.0)

    async def test_permit_is_checked_once_before_the_first_byte(self, client, upstream, exchange):
        seen = []
        await client.generate(exchange(before_write=lambda: seen.append(upstream.bytes_received)))
        assert seen == [0]
        before = upstream.bytes_received
        await client.generate(exchange(before_write=lambda: seen.append(upstream.bytes_received)))
        assert seen == [0, before]

    @pytest.mark.parametrize(
        "refusal",
        [LookupError("late"), OSError("late"), TimeoutError("late"), aiohttp.ClientOSError(1, "late")],
        ids=lambda refusal: type(refusal).__name__,
    )
    @pytest.mark.parametrize("verb", ["generateContent", "streamGenerateContent"])
    async def test_failed_check_sends_nothing_and_keeps_the_pool(self, upstream, exchange, refusal, verb):
        client = GeminiClient(DeveloperApi(upstream.url), max_connections=1)
        await client.generate(exchange())
        received = upstream.bytes_received

        def refuse() -> None:
            raise refusal

        with pytest.raises(type(refusal)) as caught:
            if verb == "generateContent":
                await client.generate(exchange(before_write=refuse))
            else:
                async with client.stream(exchange(verb, before_write=refuse)):
                    pass
        assert caught.value is refusal
        assert refusal.__cause__ is None

        await client.generate(exchange())
        await client.aclose()
        assert upstream.connections == 1
        assert upstream.bytes_received < 2 * received + 10

    async def test_failed_check_on_a_new_connection_leaks_nothing(self, upstream, exchange):
        client = GeminiClient(DeveloperApi(upstream.url), max_connections=1)

        def refuse() -> None:
            raise LookupError

        for _ in range(3):
            with pytest.raises(LookupError):
                await client.generate(exchange(before_write=refuse))
        assert upstream.bytes_received == 0
        await client.generate(exchange())
        await client.aclose()
        assert len(upstream.requests) == 1
        assert upstream.connections == 1

    async def test_a_refusal_leaves_no_cycle_that_would_keep_the_body(self, client, exchange):
        refusals = []

        class Late(Exception):
            def __init__(self) -> None:
                refusals.append(weakref.ref(self))

        def refuse() -> None:
            raise Late

        gc.disable()
        try:
            with contextlib.suppress(Late):
                await client.generate(exchange(before_write=refuse))
            assert refusals[0]() is None
        finally:
            gc.enable()

    @pytest.fixture
    def stall(self, monkeypatch):
        """A process that stands still, for 100 s a call."""
        stood_s = [0.0]
        monkeypatch.setattr("shared.gemini.upload.elapsed_s", lambda: elapsed_s() + stood_s[0])

        def stall() -> None:
            stood_s[0] += 100.0

        return stall

    @pytest.mark.parametrize("verb", ["generateContent", "streamGenerateContent"])
    async def test_a_stall_before_the_first_byte_has_it_asked_again(self, client, upstream, exchange, stall, verb):
        """If the permit is over by then, nothing is sent."""
        asked = []

        def permit() -> None:
            if asked:
                raise LookupError("late")
            asked.append(upstream.bytes_received)
            stall()

        with pytest.raises(LookupError, match="late"):
            if verb == "generateContent":
                await client.generate(exchange(before_write=permit))
            else:
                async with client.stream(exchange(verb, before_write=permit)):
                    pass
        assert (asked, upstream.bytes_received) == ([0], 0)
        await client.generate(exchange())
        assert len(upstream.requests) == 1

    async def test_a_permit_that_still_holds_after_a_stall_is_used(self, client, upstream, exchange, stall):
        asked = []

        def permit() -> None:
            asked.append(upstream.bytes_received)
            if len(asked) == 1:
                stall()

        await client.generate(exchange(before_write=permit))
        assert (asked, len(upstream.requests)) == ([0, 0], 1)

    async def test_nothing_runs_between_the_last_check_and_the_first_byte(self, client, upstream, exchange, stall):
        """Other work of the event loop may take any time. Before Python 3.12 aiohttp writes a turn later, and the permit is
        asked for again; since then it writes in the same turn."""
        order = []

        def turn() -> None:
            order.append("turn")
            stall()

        def permit() -> None:
            order.append("asked")
            asyncio.get_running_loop().call_soon(turn)

        await client.generate(exchange(before_write=permit, after_write=lambda: order.append("written")))
        assert order[: order.index("written") + 1][-2:] == ["asked", "written"]
        assert len(upstream.requests) == 1

    async def test_is_not_asked_when_no_connection_can_be_made(self, exchange):
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            client = GeminiClient(DeveloperApi(f"http://127.0.0.1:{taken.getsockname()[1]}"))
            asked = []
            failure = await failure_of(client.generate(exchange(before_write=lambda: asked.append(1))))
            await client.aclose()
        assert (failure.kind, failure.written, failure.status, failure.remedy) == (
            "connect",
            False,
            None,
            "same_account",
        )
        assert asked == []

    async def test_permit_is_not_checked_after_a_pool_timeout(self, upstream, hear, exchange):
        client = GeminiClient(DeveloperApi(upstream.url), max_connections=1)

        @hear
        async def silent(connection, request):
            await asyncio.sleep(30)

        holder = asyncio.create_task(client.generate(exchange()))
        await asyncio.wait_for(upstream.asked.wait(), 30)
        asked = []
        failure = await failure_of(client.generate(exchange(timeout_s=0.1, before_write=lambda: asked.append(1))))
        holder.cancel()
        await asyncio.gather(holder, return_exceptions=True)
        await client.aclose()
        assert (failure.kind, failure.written) == ("timeout", False)
        assert asked == []


class TestTheLastByte:
    async def test_sent_is_reported_between_check_and_answer(self, client, upstream, hear, exchange):
        asked, sent = asyncio.Event(), asyncio.Event()

        @hear
        async def late(connection, request):
            await sent.wait()
            await connection.answer(200, b"{}")

        def last() -> None:
            assert asked.is_set()
            sent.set()

        assert await client.generate(exchange(before_write=asked.set, after_write=last)) == {}

    async def test_sent_is_reported_after_the_whole_body(self, exchange):
        arrived, release = asyncio.Event(), asyncio.Event()

        async def read_late(reader, writer):
            arrived.set()
            await release.wait()
            with contextlib.suppress(asyncio.IncompleteReadError):
                await reader.readuntil(b"\r\n\r\n")
                await reader.readexactly(40_000_000)
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
            writer.close()

        server = await asyncio.start_server(read_late, "127.0.0.1", 0, limit=65536)
        client = GeminiClient(DeveloperApi(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"))
        told = []
        sending = exchange(body=b"x" * 40_000_000, timeout_s=30, after_write=lambda: told.append(1))
        task = asyncio.create_task(client.generate(sending))
        await arrived.wait()
        await asyncio.sleep(0.1)
        assert told == []
        release.set()
        assert await task == {}
        assert told == [1]
        await client.aclose()
        server.close()

    async def test_sent_is_not_reported_without_a_request(self, client, exchange):
        told = []

        def refuse() -> None:
            raise LookupError

        with pytest.raises(LookupError):
            await client.generate(exchange(before_write=refuse, after_write=lambda: told.append(1)))
        assert told == []


def kept_connections(client):
    """The idle connections of the client's pool that are still open."""
    kept = client._session.connector._conns.values()
    return [protocol for connections in kept for protocol, *_ in connections if protocol.is_connected()]


class TestNoSilentRepetition:
    async def test_closed_keepalive_fails_without_a_retry(self, client, upstream, hear, exchange):
        await client.generate(exchange())

        @hear
        async def hang_up(connection, request):
            connection.writer.close()

        permits = []
        failure = await failure_of(client.generate(exchange(before_write=lambda: permits.append(1))))
        assert (failure.kind, failure.written, failure.remedy) == ("reset", True, "same_account")
        assert len(upstream.requests) == 2
        assert permits == [1]

    async def test_idle_closed_connection_costs_one_permit(self, client, upstream, hear, exchange):
        @hear
        async def answer_and_hang_up(connection, request):
            await connection.answer(200, b"{}")
            connection.writer.close()

        permits = []
        for _ in range(3):
            await client.generate(exchange(before_write=lambda: permits.append(1)))
            await eventually(lambda: not kept_connections(client))
        assert (len(upstream.requests), upstream.connections, permits) == (3, 3, [1, 1, 1])

    async def test_connection_lost_before_the_write_is_free(self, client, upstream, exchange, monkeypatch):
        monkeypatch.setattr(aiohttp.connector.Connection, "closed", True)
        permits = []
        failure = await failure_of(client.generate(exchange(before_write=lambda: permits.append(1))))
        assert (failure.kind, failure.written, failure.remedy) == ("reset", False, "same_account")
        assert (permits, upstream.bytes_received) == ([], 0)

    async def test_a_connection_that_is_reset_before_the_answer_is_a_reset(self, client, upstream, hear, exchange):
        @hear
        async def reset(connection, request):
            connection.reset()

        failure = await failure_of(client.generate(exchange()))
        assert (failure.kind, failure.written, failure.status) == ("reset", True, None)
        assert len(upstream.requests) == 1

    async def test_a_redirect_is_not_followed(self, client, upstream, hear, exchange):
        @hear
        async def elsewhere(connection, request):
            await connection.answer(307, b"", "text/html", "Location: /elsewhere")

        failure = await failure_of(client.generate(exchange()))
        assert (failure.kind, failure.status) == ("malformed", 307)
        assert len(upstream.requests) == 1


class TestEnding:
    async def test_deadline_covers_the_whole_exchange(self, client, upstream, hear, exchange):
        @hear
        async def slow(connection, request):
            await connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
            while True:
                await connection.send(b" ")
                await asyncio.sleep(0.05)

        started = time.monotonic()
        failure = await failure_of(client.generate(exchange(timeout_s=2)))
        assert 1.95 < time.monotonic() - started < 30
        assert (failure.kind, failure.written, failure.remedy) == ("timeout", True, "none")
        await asyncio.wait_for(upstream.gone.wait(), 30)

    async def test_a_deadline_over_five_seconds_is_not_rounded_up(self, client, upstream, monkeypatch, exchange):
        seen = []
        real = aiohttp.client.TimeoutHandle.start

        def spy(handle):
            timer = real(handle)
            seen.append(timer.when() - asyncio.get_running_loop().time())
            return timer

        monkeypatch.setattr(aiohttp.client.TimeoutHandle, "start", spy)
        await client.generate(exchange(timeout_s=6.25))
        assert seen[0] == pytest.approx(6.25, abs=0.1)

    async def test_a_cancelled_caller_closes_the_socket_at_once(self, client, upstream, hear, exchange):
        @hear
        async def silent(connection, request):
            assert await connection.reader.read() == b""
            upstream.gone.set()

        task = asyncio.create_task(client.generate(exchange(timeout_s=60)))
        await asyncio.wait_for(upstream.asked.wait(), 30)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.wait_for(upstream.gone.wait(), 30)

    async def test_cancelled_while_reading_closes_the_socket(self, client, upstream, hear, exchange):
        begun = asyncio.Event()

        @hear
        async def half(connection, request):
            await connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{")
            begun.set()
            assert await connection.reader.read() == b""
            upstream.gone.set()

        task = asyncio.create_task(client.generate(exchange(timeout_s=60)))
        await begun.wait()
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.wait_for(upstream.gone.wait(), 30)

    @pytest.mark.parametrize("early_answer", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{"])
    async def test_cancelled_upload_does_not_send_the_rest(self, exchange, early_answer):
        arrived, release, received = asyncio.Event(), asyncio.Event(), asyncio.Queue()

        async def read_late(reader, writer):
            writer.write(early_answer)
            arrived.set()
            await release.wait()
            total = 0
            with contextlib.suppress(ConnectionError):
                while data := await reader.read(65536):
                    total += len(data)
            received.put_nowait(total)
            writer.close()

        server = await asyncio.start_server(read_late, "127.0.0.1", 0, limit=65536)
        client = GeminiClient(DeveloperApi(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"))
        body = b"x" * 40_000_000
        task = asyncio.create_task(client.generate(exchange(body=body, timeout_s=60)))
        await arrived.wait()
        await asyncio.sleep(0.1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        release.set()
        assert await asyncio.wait_for(received.get(), 5) < len(body)
        await client.aclose()
        server.close()

    async def test_a_pool_of_one_is_free_again_after_each_way_of_ending(self, upstream, hear, exchange):
        client = GeminiClient(DeveloperApi(upstream.url), max_connections=1)
        for ending in ("timeout", "reset", "cut", "cancel"):

            @hear
            async def end(connection, request, ending=ending):
                if ending == "reset":
                    connection.reset()
                elif ending == "cut":
                    await connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n{")
                    connection.reset()
                else:
                    await connection.reader.read()
                    connection.writer.close()

            task = asyncio.create_task(client.generate(exchange(timeout_s=2 if ending == "timeout" else 30)))
            if ending == "cancel":
                await asyncio.sleep(0.05)
                task.cancel()
            (outcome,) = await asyncio.gather(task, return_exceptions=True)
            assert isinstance(outcome, asyncio.CancelledError if ending == "cancel" else UpstreamFailure)
        upstream.script = type(upstream)().script
        await client.generate(exchange(timeout_s=3))
        await client.aclose()


class TestAnswersThatAreNone:
    async def test_an_answer_that_is_cut_short_is_a_cut(self, client, hear, exchange):
        @hear
        async def cut(connection, request):
            await connection.send(b'HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{"candidates": [')
            connection.writer.close()

        failure = await failure_of(client.generate(exchange()))
        assert (failure.kind, failure.written, failure.status) == ("cut", True, 200)

    @pytest.mark.parametrize("body", [b"", b"[]", b"<html></html>", b'{"candidates": [', b"null"])
    async def test_a_200_without_a_json_object_is_malformed(self, client, hear, exchange, body):
        @hear
        async def odd(connection, request):
            await connection.answer(200, body)

        failure = await failure_of(client.generate(exchange()))
        assert (failure.kind, failure.status) == ("malformed", 200)

    async def test_what_is_not_http_is_malformed(self, client, hear, exchange):
        @hear
        async def odd(connection, request):
            await connection.send(b"SSH-2.0-OpenSSH_9.6\r\n\r\n")

        failure = await failure_of(client.generate(exchange()))
        assert (failure.kind, failure.written) == ("malformed", True)

    async def test_too_large_answer_closes_the_connection(self, client, upstream, hear, exchange, monkeypatch):
        monkeypatch.setattr(client_module, "MAX_REPLY_BYTES", 100_000)

        @hear
        async def endless(connection, request):
            await connection.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            while True:
                await connection.chunk(b" " * 10_000)

        failure = await failure_of(client.generate(exchange()))
        assert failure.kind == "malformed"
        assert "100000 bytes" in failure.message
        await asyncio.wait_for(upstream.gone.wait(), 30)

    async def test_an_error_status_is_read_and_keeps_the_connection(self, client, upstream, hear, exchange):
        @hear
        async def overloaded(connection, request):
            await connection.answer(503, OVERLOADED)

        for _ in range(2):
            failure = await failure_of(client.generate(exchange()))
            assert (failure.kind, failure.status, failure.written) == ("overloaded", 503, True)
            assert failure.message == "The model is overloaded. Please try again later."
        assert upstream.connections == 1

    async def test_an_error_status_counts_also_when_its_body_breaks_off(self, client, hear, exchange):
        @hear
        async def broken(connection, request):
            await connection.send(b"HTTP/1.1 429 Too Many Requests\r\nContent-Length: 1000\r\n\r\n{")
            connection.writer.close()

        failure = await failure_of(client.generate(exchange()))
        assert (failure.kind, failure.status) == ("pressure", 429)

    async def test_an_endless_error_body_is_given_up(self, client, upstream, hear, exchange):
        @hear
        async def endless(connection, request):
            await connection.send(b"HTTP/1.1 500 Oh\r\nTransfer-Encoding: chunked\r\n\r\n")
            while True:
                await connection.chunk(b" " * 10_000)

        failure = await failure_of(client.generate(exchange()))
        assert (failure.kind, failure.status) == ("server", 500)
        await asyncio.wait_for(upstream.gone.wait(), 30)

    async def test_an_error_under_status_200_is_an_error(self, client, hear, exchange):
        @hear
        async def disguised(connection, request):
            await connection.answer(200, OVERLOADED)

        failure = await failure_of(client.generate(exchange()))
        assert (failure.kind, failure.status) == ("overloaded", 503)


class TestSecrets:
    async def test_no_failure_shows_the_key(self, client, hear, exchange):
        @hear
        async def echo(connection, request):
            key = request.headers["x-goog-api-key"]
            error = {"code": 400, "message": f"Bad key {key} for /models?key={key}", "status": "INVALID_ARGUMENT"}
            await connection.answer(400, orjson.dumps({"error": error}))

        for key in (KEY, "an odd key", "odd-key-without-a-shape"):
            failure = await failure_of(client.generate(exchange(key=key)))
            assert key not in repr(failure) + str(failure) + failure.message
            assert key not in "".join(traceback.format_exception(failure))

    async def test_connection_error_does_not_chain_the_headers(self, client, hear, exchange):
        @hear
        async def odd(connection, request):
            await connection.send(b"nonsense\r\n\r\n")

        failure = await failure_of(client.generate(exchange()))
        assert (failure.__cause__, failure.__context__) == (None, None)

    async def test_an_exchange_shows_neither_its_key_nor_its_body(self, exchange):
        shown = repr(exchange(body=b"the prompt"))
        assert KEY not in shown
        assert "the prompt" not in shown

    @pytest.mark.parametrize("key", ["one\r\nx-evil: two", "käse", "\x00"])
    async def test_unsendable_key_is_rejected_before_sending(self, client, upstream, exchange, key):
        failure = await failure_of(client.generate(exchange(key=key)))
        assert (failure.kind, failure.written, failure.remedy) == ("key_invalid", False, "account_out")
        assert upstream.connections == 0

    @pytest.mark.parametrize(
        ("model", "verb"), [("a b", "generateContent"), ("a/../b", "x"), ("m", "x?key=y"), ("", "x")]
    )
    async def test_model_and_verb_must_be_path_segments(self, client, exchange, model, verb):
        with pytest.raises(ValueError, match="not a model id"):
            await client.generate(exchange(verb, model=model))


class TestLifetime:
    def test_making_one_needs_no_event_loop(self):
        GeminiClient(DeveloperApi("https://generativelanguage.googleapis.com"))

    @pytest.mark.parametrize(
        "url", ["", "ftp://x", "http://", "https://user:pass@host", "https://host?key=x", "http://h#x", "host"]
    )
    def test_a_base_url_that_is_none_is_refused_with_a_sentence(self, url):
        with pytest.raises(ValueError, match="base URL must be"):
            GeminiClient(DeveloperApi(url))

    async def test_closing_twice_is_fine_and_later_use_an_error(self, upstream, exchange):
        await GeminiClient(DeveloperApi(upstream.url)).aclose()
        client = GeminiClient(DeveloperApi(upstream.url))
        await client.generate(exchange())
        await client.aclose()
        await client.aclose()
        with pytest.raises(RuntimeError, match="closed"):
            await client.generate(exchange())

    def test_repr_of_an_exchange_shows_no_key_and_no_body(self):
        shown = repr(Exchange(Secret(KEY), "m", "generateContent", b'{"contents": "a prompt"}', 1.0))
        assert KEY not in shown
        assert "a prompt" not in shown
