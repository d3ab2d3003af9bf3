"""The stream of a session's answer over HTTP: what each event says, who may open it, and what stays of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import orjson
import pytest

from shared.sessions.turn import END_AT, EventId
from tests.support.edge import ADMIN, Answer
from tests.support.turns import Event, event_of
from tests.support.whole_path import OWN_KEY, WholePath, eventually, whole_path

OTHER = {**ADMIN, "x-caller-id": "somebody else"}
OWN = {"x-goog-api-key": OWN_KEY}


def events_of(answer: Answer) -> list[Event]:
    """The events that arrived whole."""
    blocks = answer.body.decode().split("\n\n")[:-1]
    return [event_of(block) for block in blocks if not block.startswith(":")]


def text_of(answer: Answer) -> str:
    return "".join(event.data["text"] for event in events_of(answer) if event.name == "message")


async def sent(path: WholePath, message: str, headers: Mapping[str, str] = ADMIN) -> tuple[str, str]:
    """The session and the turn."""
    answer = await path.send("POST", "/chat", orjson.dumps({"message": message}), headers)
    assert answer.status == 200, answer.body
    return answer.json()["session_id"], answer.json()["turn"]


async def streamed(
    path: WholePath, headers: Mapping[str, str] = ADMIN, *, after: str = "", query: str = "", into: Answer | None = None
) -> Answer:
    given = {**headers, "last-event-id": after} if after else headers
    return await path.send("GET", f"/stream{query}", headers=given, into=into)


@asynccontextmanager
async def streaming(path: WholePath, headers: Mapping[str, str] = ADMIN, *, events: int = 1) -> AsyncIterator[Answer]:
    """A stream of which at least so many events have arrived; its caller leaves at the end of the block."""
    answer = Answer()
    task = asyncio.create_task(streamed(path, headers, into=answer))
    try:
        await eventually(lambda: len(events_of(answer)) >= events or task.done(), 20)
        assert len(events_of(answer)) >= events, answer.body
        yield answer
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def history(path: WholePath, session: str, headers: Mapping[str, str] = ADMIN) -> list[dict[str, Any]]:
    answer = await path.send("GET", f"/sessions/{session}", headers=headers)
    assert answer.status == 200, answer.body
    turns: list[dict[str, Any]] = answer.json()["turns"]
    return turns


async def test_a_message_is_answered_by_its_stream() -> None:
    async with whole_path() as path:
        session, turn = await sent(path, "Hello [[words:30]]")
        answer = await streamed(path)
        events = events_of(answer)
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert answer.headers["x-session-id"] == session
        ids = [EventId.parse(event.id) for event in events]
        assert {one.turn for one in ids if one} == {turn}
        positions = [one.position for one in ids if one]
        assert positions == sorted(set(positions))
        assert positions[-1] == END_AT
        assert [event.name for event in events][-2:] == ["usage", "done"]
        assert events[-2].data["total_tokens"] > 0
        (kept,) = await history(path, session)
        assert (kept["state"], kept["answer"]) == ("done", text_of(answer))
        assert path.sent == 1


async def test_the_next_message_has_the_history() -> None:
    async with whole_path() as path:
        await sent(path, "My name is Ada.")
        await streamed(path)
        await sent(path, "What is my name?")
        answer = await streamed(path)
        assert events_of(answer)[-1].name == "done"
        counted = events_of(answer)[-2].data["prompt_tokens"]
        await sent(path, "Hi", OTHER)
        assert events_of(await streamed(path, OTHER))[-2].data["prompt_tokens"] < counted


async def test_without_a_message_nothing_is_pending() -> None:
    async with whole_path() as path:
        answer = await streamed(path)
        assert (answer.status, answer.error["code"]) == (409, "nothing_pending")
        assert "POST /chat" in answer.error["message"]
        await sent(path, "Hello")
        await streamed(path)
        assert (await streamed(path)).status == 409


async def test_a_finished_turn_is_resumed_then_204() -> None:
    async with whole_path() as path:
        await sent(path, "Hello [[words:30]]")
        whole = await streamed(path)
        first = events_of(whole)[0]
        rest = await streamed(path, after=first.id)
        assert first.data["text"] + text_of(rest) == text_of(whole)
        assert events_of(rest)[-2:] == events_of(whole)[-2:]
        assert (await streamed(path, after=events_of(whole)[-1].id)).status == 204
        assert path.sent == 1


async def test_two_streams_of_one_turn_see_the_same() -> None:
    async with whole_path() as path:
        await sent(path, "Hello [[words:30]]")
        one, two = await asyncio.gather(streamed(path), streamed(path))
        assert events_of(one) == events_of(two)
        assert path.sent == 1


async def test_a_client_that_leaves_gets_the_rest_later() -> None:
    async with whole_path(STREAM_GRACE_SECONDS=5) as path:
        session, _ = await sent(path, "Hello [[words:60]] [[fault:slow@0.02]]")
        async with streaming(path, events=2) as partial:
            pass
        events = events_of(partial)
        rest = await streamed(path, after=events[-1].id)
        (kept,) = await history(path, session)
        assert kept["state"] == "done"
        assert text_of(partial) + text_of(rest) == kept["answer"]
        assert path.sent == 1


async def test_without_grace_a_turn_is_interrupted() -> None:
    async with whole_path(STREAM_GRACE_SECONDS=0) as path:
        session, _ = await sent(path, "Hello [[words:60]] [[fault:slow@1]]")
        async with streaming(path) as partial:
            pass
        await eventually(lambda: path.open_upstream == 0, 10)
        await path.quiet()
        (kept,) = await history(path, session)
        assert kept["state"] == "interrupted"
        assert kept["answer"].startswith(text_of(partial))
        rest = await streamed(path, after=events_of(partial)[-1].id)
        assert events_of(rest)[-1].name == "interrupted"
        assert path.sent == 1


async def test_a_reader_that_leaves_the_queue_may_return() -> None:
    """Nothing was sent to Gemini for it, so the turn is pending again."""
    async with whole_path(GEMINI_CONCURRENCY_LIMIT=1, STREAM_GRACE_SECONDS=0, REQUEST_TIMEOUT_SECONDS=20) as path:
        session, _ = await sent(path, "Hello")
        async with path.asking("[[fault:hang]]"):
            await eventually(lambda: path.open_upstream == 1)
            reading = asyncio.create_task(streamed(path))
            await eventually(lambda: path.waiting == 1)
            reading.cancel()
            await eventually(lambda: path.waiting == 0)
        await path.quiet()
        assert [turn["state"] for turn in await history(path, session)] == ["pending"]
        assert text_of(await streamed(path))


async def test_a_turn_is_stopped() -> None:
    async with whole_path() as path:
        session, turn = await sent(path, "Hello [[words:60]] [[fault:slow@1]]")
        async with streaming(path) as partial:
            stopped = await path.send("DELETE", f"/stream/{turn}")
            assert (stopped.status, stopped.json()) == (200, {"success": True, "turn": turn, "state": "stopped"})
            assert path.open_upstream == 0
            await eventually(lambda: events_of(partial)[-1].name == "done", 20)
        assert events_of(partial)[-1].data["state"] == "stopped"
        (kept,) = await history(path, session)
        assert (kept["state"], kept["answer"]) == ("stopped", text_of(partial))
        again = await path.send("DELETE", f"/stream/{turn}")
        assert again.json()["state"] == "stopped"
        await path.quiet()


async def test_a_pending_turn_is_stopped_before_its_stream() -> None:
    async with whole_path() as path:
        _, turn = await sent(path, "Hello")
        assert (await path.send("DELETE", f"/stream/{turn}")).json()["state"] == "stopped"
        assert (await streamed(path)).status == 409
        assert path.sent == 0


async def test_an_error_before_the_text_keeps_its_status() -> None:
    """EventSource cannot read it, so the history has it too, until the next attempt."""
    async with whole_path() as path:
        session, _ = await sent(path, "Hello [[fault:400x1]]")
        answer = await streamed(path)
        assert answer.status == 400
        (turn,) = await history(path, session)
        assert (turn["state"], turn["answer"]) == ("pending", None)
        assert turn["error"] == {name: answer.error[name] for name in ("code", "message", "status")}
        assert text_of(await streamed(path))
        assert "error" not in (await history(path, session))[0]


async def test_a_broken_stream_ends_with_an_error_event() -> None:
    async with whole_path() as path:
        session, turn = await sent(path, "Hello [[words:60]] [[fault:cut]]")
        answer = await streamed(path)
        last = events_of(answer)[-1]
        assert (last.name, last.id, last.data["error"]["code"]) == ("error", f"{turn}.{END_AT}", "upstream_failed")
        (kept,) = await history(path, session)
        assert (kept["state"], kept["answer"]) == ("interrupted", text_of(answer))
        assert (await streamed(path, after=last.id)).status == 204
        rest = await streamed(path, after=events_of(answer)[0].id)
        assert events_of(rest)[-1].data["error"]["code"] == "upstream_failed"


async def test_an_answer_ends_at_its_deadline() -> None:
    async with whole_path(REQUEST_TIMEOUT_SECONDS=2) as path:
        session, turn = await sent(path, "Hello [[words:60]] [[fault:slow@1]]")
        answer = await streamed(path)
        last = events_of(answer)[-1]
        assert (last.name, last.id, last.data["error"]["code"]) == ("error", f"{turn}.{END_AT}", "upstream_timeout")
        assert path.open_upstream == 0
        (kept,) = await history(path, session)
        assert (kept["state"], kept["answer"]) == ("interrupted", text_of(answer))


async def test_a_head_request_generates_nothing() -> None:
    async with whole_path() as path:
        await sent(path, "Hello")
        answer = await path.send("HEAD", "/stream")
        assert (answer.status, answer.headers["content-type"]) == (200, "text/event-stream; charset=utf-8")
        assert path.sent == 0
        assert text_of(await streamed(path))


# -- whose stream ------------------------------------------------------------------------------------------------------


async def test_a_foreign_turn_is_not_found() -> None:
    """The same as an unknown one: for its stream, its stop and its tickets."""
    async with whole_path() as path:
        session, turn = await sent(path, "Hello")
        unknown = "A" * 22
        for headers in (OTHER, OWN):
            for name in (turn, unknown):
                resumed = await streamed(path, headers, after=f"{name}.0")
                stopped = await path.send("DELETE", f"/stream/{name}", headers=headers)
                assert {(answer.status, answer.error["code"]) for answer in (resumed, stopped)} == {(404, "not_found")}
            assert (await path.send("GET", "/stream", headers={**headers, "x-session-id": session})).status == 404
        assert (await path.send("POST", f"/sessions/{session}/ticket", b"{}", OTHER)).status == 404
        assert (await streamed(path)).status == 200


@pytest.mark.parametrize("given", ["7", "turn.", "turn.x", ".5"])
async def test_an_id_that_is_none_is_an_error(given: str) -> None:
    async with whole_path() as path:
        answer = await streamed(path, after=given)
        assert (answer.status, answer.error["details"]["field"]) == (400, "last-event-id")


# -- tickets -----------------------------------------------------------------------------------------------------------


async def ticket_for(path: WholePath, session: str, headers: Mapping[str, str] = ADMIN) -> str:
    answer = await path.send("POST", f"/sessions/{session}/ticket", b"", headers)
    assert answer.status == 200, answer.body
    assert answer.json()["expires_in"] == 60
    return str(answer.json()["ticket"])


async def test_a_ticket_opens_one_turn_without_headers() -> None:
    async with whole_path() as path:
        session, turn = await sent(path, "Hello [[words:30]]")
        ticket = await ticket_for(path, session)
        answer = await streamed(path, {}, query=f"?ticket={ticket}")
        assert events_of(answer)[-1].name == "done"
        rest = await streamed(path, {}, after=events_of(answer)[0].id, query=f"?ticket={ticket}")
        assert events_of(answer)[0].data["text"] + text_of(rest) == text_of(answer)
        assert events_of(rest)[-2:] == events_of(answer)[-2:]
        assert (await streamed(path, {}, after=f"{turn}.{END_AT}", query=f"?ticket={ticket}")).status == 204
        _, second = await sent(path, "Again")
        assert text_of(await streamed(path, {}, query=f"?ticket={ticket}")) == text_of(answer)
        other = await streamed(path, {}, after=f"{second}.0", query=f"?ticket={ticket}")
        assert (other.status, other.error["details"]["field"]) == (400, "last-event-id")
        assert path.sent == 1


async def test_a_forged_ticket_is_like_an_unknown_one() -> None:
    async with whole_path() as path:
        session, turn = await sent(path, "Hello")
        await ticket_for(path, session)
        answers = [
            await streamed(path, {}, query=f"?ticket={forged}")
            for forged in (f"{turn}.forged", f"{'A' * 22}.forged", "forged", f"{turn}.", ".")
        ]
        assert {(answer.status, answer.error["message"]) for answer in answers} == {
            (404, answers[0].error["message"]),
        }
        assert "/ticket" in answers[0].error["message"]
        assert path.sent == 0


async def test_a_ticket_cannot_carry_a_callers_key() -> None:
    async with whole_path() as path:
        session, _ = await sent(path, "Hello", OWN)
        answer = await path.send("POST", f"/sessions/{session}/ticket", b"", OWN)
        assert (answer.status, answer.error["details"]["field"]) == (400, "x-goog-api-key")
        assert text_of(await streamed(path, OWN))


async def test_no_log_line_has_an_id_or_a_ticket(capsys: pytest.CaptureFixture[str]) -> None:
    async with whole_path() as path:
        session, turn = await sent(path, "Hello")
        ticket = await ticket_for(path, session)
        answer = await streamed(path, {}, query=f"?ticket={ticket}")
        await streamed(path, after=events_of(answer)[0].id)
        await path.send("DELETE", f"/stream/{turn}")
        await streamed(path, {}, query=f"?ticket={ticket}x")
    written = "".join(capsys.readouterr())
    assert '"/stream/{turn}"' in written
    for secret in (session, turn, ticket, ticket.rpartition(".")[2]):
        assert secret not in written
