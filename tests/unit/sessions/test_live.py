"""Instances that answer one turn: one of them generates, the others follow, and every reader gets the whole text."""

from __future__ import annotations

import asyncio

import pytest

from shared.errors import NotFound, QueueTimeout, UpstreamFailed
from shared.generation import Attempt
from shared.sessions import generating as generating_module
from shared.sessions import live as live_module
from shared.sessions.turn import END_AT, USAGE_AT
from shared.stores.memory import MemoryStore
from shared.stores.port import Outcome, Step, StoreUnavailable
from tests.support.turn_readers import PATIENCE_S, HeldStore, Reader, begun, have_begun, instances, readers_of, until
from tests.support.turns import Gemini, Stored


@pytest.fixture(autouse=True)
def short_times(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test depends on how long these are."""
    monkeypatch.setattr(live_module, "POLL_S", 0.002)
    monkeypatch.setattr(live_module, "_LOOK_AGAIN_S", 0.002)
    monkeypatch.setattr(generating_module, "PUBLISH_EVERY_S", 0.0)
    monkeypatch.setattr(generating_module, "_PAUSE_S", 0.0)


async def test_a_turn_is_generated_and_stored() -> None:
    stored, gemini = Stored(), Gemini()
    name, _ = await stored.message()
    async with instances(stored) as (live,):
        gemini.say("Hel", "lo!")
        gemini.end()
        reader = await Reader(live, name, gemini).end()
    assert [(position, kind) for position, kind, _ in reader.events] == [
        (3, "message"),
        (6, "message"),
        (USAGE_AT, "usage"),
        (END_AT, "done"),
    ]
    assert await stored.answer() == ("done", "Hello!")


async def test_the_answer_is_stored_before_its_end_is_sent() -> None:
    """The caller's next message may follow at once, and its context needs the answer."""
    stored, gemini = Stored(), Gemini()
    name, _ = await stored.message()
    async with instances(stored) as (live,):
        gemini.say("Hello!")
        gemini.end()
        async for event in live.open(name, gemini.ask()).events(0):
            if isinstance(event, bytes) and b"event: done" in event:
                assert await stored.answer() == ("done", "Hello!")


async def test_two_readers_of_one_instance_share_an_answer() -> None:
    stored, gemini = Stored(), Gemini()
    name, _ = await stored.message()
    async with instances(stored) as (live,):
        readers = [Reader(live, name, gemini) for _ in range(2)]
        gemini.say("Hel", "lo!")
        gemini.end()
        one, two = [await reader.end() for reader in readers]
    assert one.events == two.events
    assert gemini.asked == 1


async def test_two_instances_that_open_a_turn_pay_once() -> None:
    stored, gemini = Stored(), Gemini()
    name, _ = await stored.message()
    async with instances(stored, 2) as lives:
        readers = [Reader(live, name, gemini) for live in lives]
        gemini.say("Hel", "lo!")
        await until(lambda: all(reader.text == "Hello!" for reader in readers))
        gemini.end()
        assert [(await reader.end()).last for reader in readers] == ["done", "done"]
    assert gemini.asked == 1
    assert [reader.text for reader in readers] == ["Hello!"] * 2


@pytest.mark.parametrize("after", [0, 2, 3, 6])
async def test_another_instance_resumes_after_any_position(after: int) -> None:
    stored, gemini = Stored(), Gemini()
    name, _ = await stored.message()
    async with instances(stored, 2, grace_s=PATIENCE_S) as (one, two):
        first = Reader(one, name, gemini)
        gemini.say("Hel", "lo!")
        await until(lambda: first.text == "Hello!")
        await first.leave()
        second = Reader(two, name, gemini, after)
        gemini.say(" Bye.")
        await until(lambda: second.text == "Hello! Bye."[after:])
        gemini.end()
        await second.end()
    positions = [position for position, _, _ in second.events]
    assert positions == sorted(set(positions))
    assert positions[0] > after
    assert second.last == "done"
    assert gemini.asked == 1


async def test_a_finished_turn_is_read_from_its_session() -> None:
    stored, gemini = Stored(), Gemini()
    name, _ = await stored.message()
    async with instances(stored, 2) as (one, two):
        gemini.say("Hello!")
        gemini.end()
        await Reader(one, name, gemini).end()
        reader = await Reader(two, name, gemini, 4).end()
    assert (reader.text, reader.last) == ("o!", "done")
    assert gemini.asked == 1


async def test_without_grace_the_answer_ends_with_its_reader() -> None:
    stored, gemini = Stored(), Gemini()
    name, _ = await stored.message()
    async with instances(stored, 2) as (one, two):
        first = await begun(one, name, gemini)
        await first.leave()
        assert gemini.open == 0
        assert await stored.answer() == ("interrupted", "Hel")
        second = await Reader(two, name, gemini, 3).end()
    assert [kind for _, kind, _ in second.events] == ["interrupted"]


async def test_with_grace_the_answer_is_completed() -> None:
    stored, gemini = Stored(), Gemini()
    name, _ = await stored.message()
    async with instances(stored, grace_s=PATIENCE_S) as (live,):
        first = await begun(live, name, gemini)
        await first.leave()
        gemini.say("lo!")
        second = Reader(live, name, gemini, 3)
        gemini.end()
        assert (await second.end()).text == "lo!"
    assert await stored.answer() == ("done", "Hello!")


async def test_after_its_grace_an_answer_is_interrupted() -> None:
    stored, gemini = Stored(), Gemini()
    name, _ = await stored.message()
    async with instances(stored, grace_s=0.001) as (live,):
        first = await begun(live, name, gemini)
        await first.leave()
        await until(lambda: gemini.open == 0)
    assert await stored.answer() == ("interrupted", "Hel")


async def test_a_reader_elsewhere_keeps_an_answer_alive() -> None:
    stored, gemini = Stored(), Gemini()
    name, _ = await stored.message()
    async with instances(stored, 2, grace_s=0.001) as (one, two):
        first = await begun(one, name, gemini)
        second = Reader(two, name, gemini)
        await until(lambda: second.text == "Hel")
        await first.leave()
        for _ in range(20):
            await asyncio.sleep(0.001)
        assert gemini.open == 1
        gemini.say("lo!")
        gemini.end()
        assert (await second.end()).text == "Hello!"


async def test_another_instance_stops_an_answer() -> None:
    stored, gemini = Stored(), Gemini()
    name, _ = await stored.message()
    async with instances(stored, 2) as (one, two):
        reader = await begun(one, name, gemini)
        turn = await two.stop(name, await two.turns.read(name))
        assert (turn.state, gemini.open) == ("stopped", 0)
        await reader.end()
    assert (reader.last, reader.events[-1][2]["state"]) == ("done", "stopped")
    assert await stored.answer() == ("stopped", "Hel")


async def test_its_own_instance_stops_an_answer() -> None:
    stored, gemini = Stored(), Gemini()
    name, _ = await stored.message()
    async with instances(stored) as (live,):
        reader = await begun(live, name, gemini)
        assert (await live.stop(name, await live.turns.read(name))).state == "stopped"
        assert (await reader.end()).last == "done"


async def test_a_turn_that_failed_without_text_is_pending() -> None:
    stored, gemini = Stored(), Gemini()
    name, _ = await stored.message()
    async with instances(stored) as (live,):
        gemini.fail(QueueTimeout("full"))
        with pytest.raises(QueueTimeout):
            await Reader(live, name, gemini).end()
        assert (await live.turns.read(name)).state == "pending"
        gemini.say("Hello!")
        gemini.end()
        assert (await Reader(live, name, gemini).end()).text == "Hello!"


async def test_a_turn_that_broke_keeps_text_and_error() -> None:
    stored, gemini = Stored(), Gemini()
    name, _ = await stored.message()
    async with instances(stored, 2) as (one, two):
        reader = await begun(one, name, gemini)
        gemini.fail(UpstreamFailed("cut"))
        with pytest.raises(UpstreamFailed):
            await reader.end()
        assert await stored.answer() == ("interrupted", "Hel")
        second = await Reader(two, name, gemini, 3).end()
    error = {"code": "upstream_failed", "message": "cut", "status": 502}
    assert second.events == [(END_AT, "error", {"error": error})]


async def test_a_follower_gets_the_error_of_the_other() -> None:
    stored, gemini = Stored(), Gemini()
    name, _ = await stored.message()
    async with instances(stored, 2) as (one, two):
        first = Reader(one, name, gemini)
        await until(lambda: gemini.open == 1)
        second = Reader(two, name, gemini)
        await until(lambda: bool(two._following))
        gemini.fail(QueueTimeout("full"))
        assert (await second.end()).last == "error"
        with pytest.raises(QueueTimeout):
            await first.end()


async def test_a_follower_generates_what_nobody_paid_for() -> None:
    """The other instance's reader left before a request was sent to Gemini."""
    stored, waiting, gemini = Stored(), Gemini(), Gemini()
    name, _ = await stored.message()
    async with instances(stored, 2) as (one, two):
        first = Reader(one, name, waiting)
        await until(lambda: waiting.open == 1)
        second = Reader(two, name, gemini)
        await until(lambda: bool(two._following))
        await first.leave()
        gemini.say("Hello!")
        gemini.end()
        assert (await second.end()).text == "Hello!"
    assert (waiting.asked, gemini.asked) == (1, 1)


async def test_what_was_paid_for_is_not_generated_again() -> None:
    """The reader left while Gemini was thinking."""
    stored, gemini = Stored(), Gemini()
    name, _ = await stored.message()
    async with instances(stored) as (live,):
        reader = Reader(live, name, gemini)
        await until(lambda: gemini.open == 1)
        gemini.timeline.attempts.append(Attempt(0.0, 0.0, "account"))
        await reader.leave()
        assert await stored.answer() == ("interrupted", "")


async def test_a_suspended_instance_changes_nothing_later() -> None:
    stored, gemini, other = Stored(), Gemini(), Gemini()
    first_name, _ = await stored.message("one")
    async with instances(stored, 2, grace_s=PATIENCE_S) as (frozen, live):
        first = Reader(frozen, first_name, gemini)
        gemini.say("Hel")
        await until(lambda: first.text == "Hel")
        stored.advance(1000)
        late = await Reader(live, first_name, other, 3).end()
        assert [kind for _, kind, _ in late.events] == ["interrupted"]
        second_name, _ = await stored.message("two")
        other.say("Second")
        other.end()
        await Reader(live, second_name, other).end()
        gemini.say("lo!")
        gemini.end()
        assert (await first.end()).last == "interrupted"
    assert (await stored.answer(0))[0] == "interrupted"
    assert await stored.answer(1) == ("done", "Second")


async def test_a_deleted_session_ends_its_answer() -> None:
    stored, gemini = Stored(), Gemini()
    name, _ = await stored.message()
    async with instances(stored) as (live,):
        reader = await begun(live, name, gemini)
        await stored.sessions.delete(stored.session)
        gemini.end()
        with pytest.raises(NotFound):
            await reader.end()


async def test_an_answer_that_is_too_long_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generating_module, "MAX_ANSWER_BYTES", 5)
    stored, gemini = Stored(), Gemini()
    name, _ = await stored.message()
    async with instances(stored) as (live,):
        gemini.say("Hello!")
        with pytest.raises(UpstreamFailed, match="exceeds"):
            await Reader(live, name, gemini).end()
    assert await stored.answer() == ("interrupted", "Hello!")


async def test_line_ends_are_stored_as_they_are_streamed() -> None:
    """Also those whose two characters come in two frames."""
    stored, gemini = Stored(), Gemini()
    name, _ = await stored.message()
    async with instances(stored) as (live,):
        gemini.say("a\r", "\nb\r\n", "\nc\r", "d\r", "\n", "\n")
        gemini.end()
        reader = await Reader(live, name, gemini).end()
    assert reader.text == "a\nb\n\nc\nd\n\n"
    assert await stored.answer() == ("done", reader.text)


async def test_closing_stores_what_there_is() -> None:
    stored, gemini = Stored(), Gemini()
    name, _ = await stored.message()
    async with instances(stored, grace_s=PATIENCE_S) as (live,):
        reader = await begun(live, name, gemini)
        await reader.leave()
    assert gemini.open == 0
    assert await stored.answer() == ("interrupted", "Hel")


async def test_only_a_followed_answer_is_published() -> None:
    stored, gemini = Stored(), Gemini()
    name, _ = await stored.message()
    async with instances(stored, 2) as (one, two):
        first = await begun(one, name, gemini)
        for _ in range(20):
            await asyncio.sleep(0.001)
        assert (await one.turns.read(name)).text == ""
        second = Reader(two, name, gemini)
        await until(lambda: second.text == "Hel")
        assert (await one.turns.read(name)).text == "Hel"
        gemini.end()
        await first.end()
        await second.end()


@pytest.mark.parametrize("grace_s", [0.0, PATIENCE_S])
async def test_a_start_that_loses_is_left_and_stopped(grace_s: float) -> None:
    """While a start is under way, its instance does not know yet that another one generates the answer."""
    stored, gemini = Stored(), Gemini()
    name, _ = await stored.message()
    held = HeldStore(stored.shelf)
    held.open.clear()
    async with instances(stored) as (winner,):
        first = await begun(winner, name, gemini)
        loser = stored.instance(grace_s=grace_s, store=held)
        left = Reader(loser, name, gemini)
        await until(lambda: name in loser._live)
        stopping = asyncio.create_task(loser.stop(name, await winner.turns.read(name)))
        leaving = asyncio.create_task(left.leave())
        await asyncio.sleep(0)
        held.open.set()
        await leaving
        assert (await stopping).state == "stopped"
        assert (await first.end()).events[-1][2]["state"] == "stopped"
        await loser.aclose()


class Counted(MemoryStore):
    """Counts transactions with and without a write, and those that write marks, and fails while `down`."""

    reads = writes = marks = 0
    down = False

    async def transact(self, keys, step: Step, **rest) -> Outcome:  # type: ignore[no-untyped-def, type-arg]
        if self.down:
            raise StoreUnavailable("down")
        outcome = await super().transact(keys, step, **rest)
        self.writes += outcome.writes
        self.marks += outcome.writes * keys[0].startswith("marks/")
        self.reads += not outcome.writes
        return outcome


async def test_a_turn_is_written_three_times() -> None:
    store = Counted()
    stored, gemini = Stored(store), Gemini()
    name, _ = await stored.message()
    async with instances(stored) as (live,):
        gemini.say(*"Hello, world!")
        gemini.end()
        await Reader(live, name, gemini).end()
    assert store.writes == 3


async def test_one_read_serves_all_streams(monkeypatch: pytest.MonkeyPatch) -> None:
    store = Counted()
    stored, geminis = Stored(store), [Gemini() for _ in range(20)]
    names = await stored.messages(len(geminis))
    polled = asyncio.Event()
    pause = asyncio.sleep

    async def sleep(for_s: float) -> None:
        await polled.wait()
        polled.clear()
        await pause(0)

    async with instances(stored) as (live,):
        monkeypatch.setattr(live_module.asyncio, "sleep", sleep)
        readers = readers_of(live, names, geminis)
        for gemini in geminis:
            gemini.say("Hel")
        while not all(reader.text == "Hel" for reader in readers):
            await pause(0.001)
        before = store.reads
        polled.set()
        while polled.is_set() or store.reads == before:
            await pause(0)
        assert store.reads == before + 1
        monkeypatch.setattr(live_module.asyncio, "sleep", pause)
        polled.set()
        for gemini, reader in zip(geminis, readers, strict=True):
            gemini.end()
            await reader.end()


async def test_one_write_marks_all_that_is_followed() -> None:
    """All marks of an instance are in one document, which many writes at once would contend for."""
    store = Counted()
    stored, geminis = Stored(store), [Gemini() for _ in range(20)]
    async with instances(stored, 2) as (one, two):
        names = await stored.messages(len(geminis))
        for gemini in geminis:
            gemini.say("Hel")
        first = readers_of(one, names, geminis)
        await have_begun(first)
        second = readers_of(two, names, geminis)
        await have_begun(second)
        assert store.marks <= 2
        for gemini in geminis:
            gemini.end()
        for reader in (*first, *second):
            await reader.end()


async def test_followed_turns_beyond_one_read_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_module, "MAX_LOOKED_AT", 2)
    stored, geminis = Stored(), [Gemini() for _ in range(5)]
    async with instances(stored, 2) as (one, two):
        names = await stored.messages(len(geminis))
        for gemini in geminis:
            gemini.say("Hel")
        first = readers_of(one, names, geminis)
        await have_begun(first)
        second = readers_of(two, names, geminis)
        await have_begun(second)
        for gemini in geminis:
            gemini.end()
        assert {(await reader.end()).last for reader in (*first, *second)} == {"done"}


async def test_a_turn_whose_instance_is_gone_is_not_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_module, "STOP_S", 0.01)
    stored = Stored()
    name, _ = await stored.message()
    turn = await stored.turns.start(name, "gone", "fence", 60_000)
    async with instances(stored) as (live,):
        assert (await live.stop(name, turn)).state == "streaming"
        stored.advance(60)
        assert (await live.stop(name, turn)).state == "interrupted"


async def test_closing_leaves_what_others_generate() -> None:
    stored, gemini = Stored(), Gemini()
    name, _ = await stored.message()
    async with instances(stored) as (one,):
        first = await begun(one, name, gemini)
        async with instances(stored) as (two,):
            second = Reader(two, name, gemini)
            await until(lambda: second.text == "Hel")
            await two.aclose()
            await second.leave()
        gemini.end()
        assert (await first.end()).last == "done"


async def test_a_failing_look_does_not_end_the_streams() -> None:
    store = Counted()
    stored, gemini = Stored(store), Gemini()
    name, _ = await stored.message()
    async with instances(stored, 2) as (one, two):
        first = await begun(one, name, gemini)
        store.down = True
        for _ in range(20):
            await asyncio.sleep(0.001)
        store.down = False
        second = Reader(two, name, gemini)
        await until(lambda: second.text == "Hel")
        gemini.end()
        assert {(await reader.end()).last for reader in (first, second)} == {"done"}


async def test_an_answer_that_cannot_be_stored_is_an_error() -> None:
    store = Counted()
    stored, gemini = Stored(store), Gemini()
    name, _ = await stored.message()
    async with instances(stored) as (live,):
        reader = Reader(live, name, gemini)
        gemini.say("Hello!")
        await until(lambda: reader.text == "Hello!")
        store.down = True
        gemini.end()
        with pytest.raises(Exception, match="could not be stored"):
            await reader.end()
        store.down = False
        assert live.open(name, gemini.ask()).failed_turn is False


async def test_what_was_lost_is_settled_by_its_reader() -> None:
    """The instance that generated it is gone."""
    stored, gemini = Stored(), Gemini()
    name, _ = await stored.message()
    await stored.turns.start(name, "gone", "fence", 60_000)
    await stored.turns.publish(name, "fence", "Hel")
    async with instances(stored) as (live,):
        reader = Reader(live, name, gemini)
        await until(lambda: reader.text == "Hel")
        stored.advance(60)
        assert (await reader.end()).last == "interrupted"
    assert await stored.answer() == ("interrupted", "Hel")
    assert gemini.asked == 0
