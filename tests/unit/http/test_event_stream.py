"""A stream's sign of life: when its headers are sent, and what is sent while nothing else is. On a virtual clock."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import pytest

from shared.clock import elapsed_s
from shared.errors import QueueTimeout, UpstreamFailed
from shared.generation import JsonObject
from shared.http.event_stream import OWN_FRAMING, Event, EventStream, Framing, NamedEvent, data_event
from tests.support.virtual_time import run

COMMENT = b": keep-alive\n\n"
A, B = b'data: {"text":"a"}\n\n', b'data: {"text":"b"}\n\n'
Step = float | JsonObject | NamedEvent | bytes | Exception | str | None
"""Seconds to wait; an event, or its bytes; an error to raise; `dispatched` or `waiting`; None: a frame that is not shown."""


class Client:
    """Sends one stream as a server would, and notes what arrives when, in seconds since its begin."""

    def __init__(
        self,
        *steps: Step,
        deadline_s: float = 1000.0,
        silence_s: float = 15.0,
        framing: Framing = OWN_FRAMING,
    ) -> None:
        self.came_s = elapsed_s()
        self.dispatched_s: float | None = None
        self.arrived: list[tuple[float, bytes]] = []
        self.status_s = -1.0
        self.complete = self.closed = False
        self.closed_s = -1.0
        self.failed: list[Exception] = []
        self.gone = asyncio.Event()
        self.slow_s = 0.0
        self.stream = EventStream(
            self._events(steps),
            self.came_s + deadline_s,
            dispatched_s=lambda: self.dispatched_s,
            silence_s=silence_s,
            framing=framing,
        )

    async def _events(self, steps: tuple[Step, ...]) -> AsyncIterator[Event]:  # type: ignore[misc]
        try:
            for step in steps:
                if isinstance(step, str):
                    self.dispatched_s = elapsed_s() if step == "dispatched" else None
                elif isinstance(step, int | float):
                    await asyncio.sleep(step)
                elif isinstance(step, Exception):
                    raise step
                else:
                    yield step
        finally:
            self.closed, self.closed_s = True, self._now_s()

    def _fail(self, error: Exception) -> JsonObject:
        self.failed.append(error)
        return {"error": type(error).__name__}

    async def _finish(self) -> None:
        assert self.closed

    async def _receive(self) -> Any:
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            self.status_s = self._now_s()
            return
        await asyncio.sleep(self.slow_s)
        self.complete = not message["more_body"]
        if message["body"]:
            self.arrived.append((self._now_s(), message["body"]))

    def _now_s(self) -> float:
        return round(elapsed_s() - self.came_s, 3)

    async def read(self) -> None:
        await self.stream.begin(self._fail, self._finish)
        await self.stream({"type": "http"}, self._receive, self._send)
        assert self.closed


def story(tell: Callable[[], Coroutine[Any, Any, None]]) -> None:
    async def whole() -> None:
        before = asyncio.all_tasks()
        await tell()
        await asyncio.sleep(0)
        assert asyncio.all_tasks() == before

    run(whole)


def test_a_fast_stream_has_no_comments() -> None:
    async def tell() -> None:
        client = Client("dispatched", 1, {"text": "a"}, 14, {"text": "b"})
        await client.read()
        assert (client.status_s, client.arrived, client.complete) == (1, [(1, A), (15, B)], True)

    story(tell)


def test_headers_are_sent_15_s_after_the_dispatch_at_the_latest() -> None:
    async def tell() -> None:
        client = Client(5, "dispatched", 52, {"text": "a"})
        await client.read()
        assert client.status_s == 20
        assert client.arrived == [(35, COMMENT), (50, COMMENT), (57, A)]

    story(tell)


def test_a_hidden_frame_sends_the_headers_and_nothing_else() -> None:
    """Thoughts: one a second."""

    async def tell() -> None:
        client = Client("dispatched", 2, *[None, 1] * 40, {"text": "a"})
        await client.read()
        assert client.status_s == 2
        assert client.arrived == [(17, COMMENT), (32, COMMENT), (42, A)]

    story(tell)


def test_silence_is_counted_from_the_last_byte() -> None:
    async def tell() -> None:
        client = Client("dispatched", {"text": "a"}, 10, {"text": "b"}, 20, {"text": "a"})
        await client.read()
        assert client.arrived == [(0, A), (10, B), (25, COMMENT), (30, A)]

    story(tell)


def test_nothing_is_sent_while_a_permit_is_waited_for() -> None:
    async def tell() -> None:
        client = Client(100, QueueTimeout("No permit."))
        with pytest.raises(QueueTimeout):
            await client.read()
        assert (client.status_s, elapsed_s() - client.came_s) == (-1, 100)

    story(tell)


def test_a_request_that_waits_again_keeps_its_status() -> None:
    """Gemini refuses it after 10 s, and no permit comes within 30 s."""

    async def tell() -> None:
        client = Client("dispatched", 10, "waiting", 30, QueueTimeout("No permit."))
        with pytest.raises(QueueTimeout):
            await client.read()
        assert client.status_s == -1

    story(tell)


def test_the_headers_wait_15_s_from_the_last_dispatch() -> None:
    async def tell() -> None:
        client = Client("dispatched", 10, "waiting", 10, "dispatched", 16, {"text": "a"})
        await client.read()
        assert (client.status_s, client.arrived) == (35, [(36, A)])

    story(tell)


def test_comments_go_on_while_a_request_waits_again() -> None:
    async def tell() -> None:
        client = Client("dispatched", 16, "waiting", 20, "dispatched", 5, {"text": "a"})
        await client.read()
        assert (client.status_s, client.arrived) == (15, [(30, COMMENT), (41, A)])

    story(tell)


@pytest.mark.parametrize("before", [16.0, 40.0])
def test_an_error_after_the_headers_is_an_event(before: float) -> None:
    async def tell() -> None:
        client = Client("dispatched", before, UpstreamFailed("Broken."))
        await client.read()
        assert client.arrived[-1] == (before, b'event: error\ndata: {"error":"UpstreamFailed"}\n\n')
        assert (len(client.failed), client.complete) == (1, True)

    story(tell)


def test_the_deadline_ends_a_silent_stream_with_an_event() -> None:
    async def tell() -> None:
        client = Client("dispatched", 500, {"text": "a"}, deadline_s=40)
        await client.read()
        assert client.arrived == [(30, COMMENT), (40, b'event: error\ndata: {"error":"UpstreamTimeout"}\n\n')]
        assert client.complete

    story(tell)


@pytest.mark.parametrize("after_s", [20.0, 36.0])
def test_a_client_that_goes_during_silence_ends_the_work(after_s: float) -> None:
    async def tell() -> None:
        client = Client("dispatched", 500, {"text": "a"})
        asyncio.get_running_loop().call_later(after_s, client.gone.set)
        await client.read()
        assert [type(error).__name__ for error in client.failed] == ["CallerGone"]
        assert elapsed_s() - client.came_s == pytest.approx(after_s)

    story(tell)


@pytest.mark.parametrize("after_s", [5.0, 20.0])
def test_a_shutdown_during_silence_ends_the_work(after_s: float) -> None:
    async def tell() -> None:
        client = Client("dispatched", 500, {"text": "a"})
        reading = asyncio.create_task(client.read())
        await asyncio.sleep(after_s)
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        assert client.closed

    story(tell)


def test_a_stream_that_is_not_sent_after_all_can_be_closed() -> None:
    async def tell() -> None:
        client = Client("dispatched", 500, {"text": "a"})
        await client.stream.begin(client._fail, client._finish)
        await client.stream.aclose()
        assert (client.closed, client.status_s) == (True, -1)

    story(tell)


def test_a_comment_and_an_event_do_not_mix_at_a_slow_client() -> None:
    """It takes 4 s for each write, and the event comes while the comment is written."""

    async def tell() -> None:
        client = Client("dispatched", None, 16, {"text": "a"})
        client.slow_s = 4.0
        await client.read()
        assert client.arrived == [(19, COMMENT), (23, A)]

    story(tell)


def test_a_client_that_reads_nothing_gets_one_comment_at_a_time() -> None:
    async def tell() -> None:
        client = Client("dispatched", None, 300, {"text": "a"}, deadline_s=200)
        client.slow_s = 1000.0
        await client.read()
        assert client.arrived == []
        assert elapsed_s() - client.came_s == pytest.approx(201)

    story(tell)


def test_a_failed_comment_ends_the_stream() -> None:
    async def tell() -> None:
        client = Client("dispatched", None, 40, {"text": "a"}, 40, {"text": "b"})
        send, failures = client._send, [OSError("broken pipe")]

        async def sending(message: Any) -> None:
            if message["type"] == "http.response.body" and failures:
                raise failures.pop()
            await send(message)

        client._send = sending  # type: ignore[method-assign]
        await client.read()
        assert [type(error) for error in client.failed] == [OSError]

    story(tell)


def test_a_slow_client_holds_nothing_of_a_short_answer() -> None:
    """The events are read to their end, and their source is closed, while the client receives the first one."""

    async def tell() -> None:
        client = Client("dispatched", {"text": "a"}, 1, {"text": "b"}, 1, {"text": "a"})
        client.slow_s = 60.0
        await client.read()
        assert client.closed_s == 2
        assert (client.arrived, client.complete) == ([(60, A), (120, B + A)], True), "its end is to be sent, too"

    story(tell)


LONG = b"x" * 100_000


def test_a_slow_client_stops_a_long_answer() -> None:
    async def tell() -> None:
        client = Client("dispatched", *[LONG] * 6)
        client.slow_s = 60.0
        await client.read()
        assert client.closed_s == 180, "it is to read the last three events ahead, and no more"
        assert client.arrived == [(60.0 * number, LONG) for number in range(1, 7)]

    story(tell)


@pytest.mark.parametrize("leaves", [False, True], ids=["deadline", "gone"])
def test_a_full_stream_ends_with_its_client_or_deadline(leaves: bool) -> None:
    async def tell() -> None:
        client = Client("dispatched", *[LONG] * 6, deadline_s=40)
        client.slow_s = 1000.0
        if leaves:
            asyncio.get_running_loop().call_later(30, client.gone.set)
        await client.read()
        expected = ("CallerGone", 30) if leaves else ("UpstreamTimeout", 40)
        assert ([type(error).__name__ for error in client.failed], client.closed_s) == ([expected[0]], expected[1])

    story(tell)


OTHER = Framing(data_event, b"data: [DONE]\n\n")
"""That of another API than ours."""


def test_bytes_are_sent_as_they_are() -> None:
    async def tell() -> None:
        client = Client("dispatched", 1, A + B, 1, B)
        await client.read()
        assert client.arrived == [(1, A + B), (2, B)]

    story(tell)


def test_an_event_has_its_id_and_its_name() -> None:
    async def tell() -> None:
        client = Client(
            "dispatched", NamedEvent({"text": "a"}, "message", "t.1"), 1, NamedEvent({"text": "b"}, id="t.2")
        )
        await client.read()
        assert client.arrived == [(0, b"id: t.1\nevent: message\n" + A), (1, b"id: t.2\n" + B)]

    story(tell)


def test_a_complete_stream_ends_with_its_tail() -> None:
    """After the record is written: the tail is the last that is sent."""

    async def tell() -> None:
        client = Client("dispatched", {"text": "a"}, framing=OTHER)
        await client.read()
        assert (client.arrived, client.complete) == ([(0, A), (0, b"data: [DONE]\n\n")], True)

    story(tell)


@pytest.mark.parametrize("steps", [(UpstreamFailed("Broken."),), (50, {"text": "b"})])
def test_a_stream_that_breaks_has_no_tail(steps: tuple[Step, ...]) -> None:
    async def tell() -> None:
        client = Client("dispatched", {"text": "a"}, *steps, deadline_s=40, framing=OTHER)
        await client.read()
        assert client.arrived[-1][1].startswith(b'data: {"error":')
        assert client.complete

    story(tell)
