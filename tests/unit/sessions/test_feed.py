"""A feed gives each reader the events behind its position, also while the answer still grows."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import pytest

from shared.errors import UpstreamFailed
from shared.generation import Usage
from shared.sessions.feed import Feed
from shared.sessions.session import Answer
from shared.sessions.turn import END_AT, USAGE_AT
from tests.support.turns import event_of

DONE = Answer("done", "Hello, world", "m", "STOP", Usage(1, 2, None, 3))
Event = tuple[int, str, dict[str, object]]


class Left:
    """Counts how often the last reader left."""

    def __init__(self) -> None:
        self.times = 0

    async def __call__(self) -> None:
        self.times += 1


def feed_of(*deltas: str) -> Feed:
    feed = Feed("t", Left())
    for delta in deltas:
        feed.add(delta)
    return feed


def ended(feed: Feed, text: str) -> Feed:
    feed.end(Answer("done", text))
    return feed


def parsed(event: object) -> Event:
    """(position, name, data)"""
    assert isinstance(event, bytes)
    found = event_of(event.decode())
    turn, _, position = found.id.rpartition(".")
    assert turn == "t"
    return int(position), found.name, found.data


async def read(feed: Feed, after: int = 0) -> list[Event]:
    return [parsed(event) async for event in feed.events(after) if event is not None]


async def test_events_have_positions_that_rise() -> None:
    feed = feed_of("Hello", ", world")
    feed.end(DONE)
    assert await read(feed) == [
        (5, "message", {"text": "Hello"}),
        (12, "message", {"text": ", world"}),
        (USAGE_AT, "usage", {"prompt_tokens": 1, "output_tokens": 2, "thinking_tokens": None, "total_tokens": 3}),
        (END_AT, "done", {"done": True, "state": "done", "model": "m", "finish_reason": "STOP"}),
    ]


@pytest.mark.parametrize("after", range(13))
async def test_a_reader_gets_the_rest_after_any_position(after: int) -> None:
    feed = feed_of("Hello", ", world")
    feed.end(DONE)
    texts = [data["text"] for _, name, data in await read(feed, after) if name == "message"]
    assert "".join(map(str, texts)) == "Hello, world"[after:]


@pytest.mark.parametrize("text", [" a", "a\n", "\n\n", "data: x\n\nid: y", "one\ntwo"])
async def test_a_text_arrives_as_it_is(text: str) -> None:
    """Line feeds, leading spaces, and lines that look like fields."""
    assert (await read(ended(feed_of(text), text)))[0][2] == {"text": text}


async def test_other_line_ends_become_line_feeds() -> None:
    """Server-sent events do not tell them apart."""
    assert (await read(ended(feed_of("a\r\nb\rc"), "a\r\nb\rc")))[0][2] == {"text": "a\nb\nc"}


async def test_the_positions_count_characters_not_bytes() -> None:
    feed = feed_of("\U0001f600é")
    feed.end(Answer("done", "\U0001f600é"))
    assert [position for position, _, _ in await read(feed, 1)] == [2, END_AT]


async def test_after_the_usage_only_the_end_is_left() -> None:
    feed = feed_of("Hello, world")
    feed.end(DONE)
    assert [name for _, name, _ in await read(feed, USAGE_AT)] == ["done"]
    assert await read(feed, END_AT) == []


async def test_two_readers_get_the_same_events() -> None:
    feed = feed_of("Hello")
    async with asyncio.TaskGroup() as group:
        readers = [group.create_task(read(feed)) for _ in range(2)]
        await asyncio.sleep(0)
        feed.add(", world")
        await asyncio.sleep(0)
        feed.end(DONE)
    assert readers[0].result() == readers[1].result()
    assert len(readers[0].result()) == 4


async def test_a_reader_ahead_of_the_text_waits_for_more() -> None:
    """An instance that follows may have less than the client already has from the other one."""
    feed = feed_of("Hel")
    async with asyncio.TaskGroup() as group:
        reader = group.create_task(read(feed, 5))
        await asyncio.sleep(0)
        feed.extend_to("Hello")
        await asyncio.sleep(0)
        feed.extend_to("Hello, world")
        await asyncio.sleep(0)
        feed.end(DONE)
    assert [data for _, name, data in reader.result() if name == "message"] == [{"text": ", world"}]


async def test_a_shorter_text_changes_nothing() -> None:
    feed = feed_of("Hello")
    feed.extend_to("Hel")
    feed.end(Answer("interrupted", "Hel"))
    assert [name for _, name, _ in await read(feed)] == ["message", "interrupted"]


async def test_work_without_text_begins_the_response() -> None:
    feed = feed_of()
    async with aclosing(feed.events(0)) as events:
        first = asyncio.ensure_future(anext(events))
        await asyncio.sleep(0)
        assert not first.done()
        feed.begin()
        assert await first is None


async def test_a_failure_comes_after_the_text() -> None:
    feed = feed_of("Hel")
    feed.fail(UpstreamFailed("cut"))
    seen: list[Event] = []
    with pytest.raises(UpstreamFailed):
        async for event in feed.events(0):
            seen.append(parsed(event))
    assert seen == [(3, "message", {"text": "Hel"})]


async def test_a_stored_error_is_the_last_event() -> None:
    feed = feed_of("Hel")
    feed.end(Answer("interrupted", "Hel", error={"code": "upstream_failed"}))
    assert (await read(feed))[-1] == (END_AT, "error", {"error": {"code": "upstream_failed"}})


async def test_unknown_usage_is_no_event() -> None:
    feed = feed_of("Hel")
    feed.end(Answer("stopped", "Hel"))
    assert [(name, data.get("state")) for _, name, data in await read(feed)][1:] == [("done", "stopped")]


async def test_the_last_of_two_readers_leaves() -> None:
    left = Left()
    feed = Feed("t", left)
    feed.add("Hello")
    one, two = feed.events(0), feed.events(0)
    await anext(one)
    await anext(two)
    await one.aclose()
    assert left.times == 0
    await two.aclose()
    assert left.times == 1


async def test_nobody_leaves_an_answer_that_is_over() -> None:
    left = Left()
    feed = Feed("t", left)
    feed.end(Answer("done", "x"))
    await read(feed)
    assert left.times == 0


async def test_the_size_is_that_of_the_text_as_json() -> None:
    feed = feed_of("a", "\x00", "é")
    assert feed.size_bytes == 1 + 6 + 2
