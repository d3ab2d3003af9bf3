"""Responses of POST /chat and /generate_text, whole and streamed."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from shared.errors import UpstreamFailed
from tests.support.edge import ADMIN, Answer, FakeGateway, FakeServices, native
from tests.support.functions import called


class TestModel:
    async def test_image_model_is_rejected_before_gemini(self) -> None:
        gateway = FakeGateway()
        body = {"prompt": "A lighthouse", "model": "gemini-3-pro-image"}
        answer = await called("chat", body, services=FakeServices(gateway))
        assert (answer.status, answer.error["details"], gateway.asked) == (400, {"field": "model"}, [])


class TestAnswer:
    async def test_fields(self) -> None:
        answer = await called("chat", {"prompt": "Hello"}, headers={**ADMIN, "x-request-id": "id-1"})
        assert answer.json() == {
            "text": "Hello",
            "model": "gemini-3.8-flash",
            "finish_reason": "STOP",
            "usage": {"prompt_tokens": 3, "output_tokens": 2, "thinking_tokens": 1, "total_tokens": 6},
            "request_id": "id-1",
        }

    async def test_generate_text_fields(self) -> None:
        assert (await called("generate_text", {"prompt": "Hello"})).json() == {"generated_text": "Hello"}

    async def test_cut_short_text_names_the_reason(self) -> None:
        answer = await called("chat", {"prompt": "x"}, gemini_says=native("Half a", "MAX_TOKENS"))
        assert (answer.status, answer.json()["finish_reason"]) == (200, "MAX_TOKENS")


class TestStream:
    async def stream(self, frames: list[Any], **rest: Any) -> tuple[Answer, FakeGateway]:
        gateway = FakeGateway(frames)
        answer = await called("chat", {"prompt": "x", "stream": True}, services=FakeServices(gateway), **rest)
        return answer, gateway

    async def test_events_are_texts_then_done(self) -> None:
        answer, gateway = await self.stream([native("One ", ""), native("two", ""), native("", "STOP")])
        assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
        *texts, (_, done) = answer.events()
        assert texts == [("message", {"text": "One "}), ("message", {"text": "two"})]
        assert done == {
            "done": True,
            "model": "gemini-3.8-flash",
            "finish_reason": "STOP",
            "usage": {"prompt_tokens": 3, "output_tokens": 2, "thinking_tokens": 1, "total_tokens": 6},
            "request_id": answer.headers["x-request-id"],
        }
        assert (answer.complete, gateway.closed) == (True, 1)

    async def test_event_follows_its_frame_at_once(self) -> None:
        more = asyncio.Event()
        gateway = FakeGateway([native("One"), more, native("two")])
        into = Answer()
        asking = asyncio.create_task(self.ask(gateway, into))
        await asyncio.wait_for(into.arrived.wait(), 5)
        assert into.events() == [("message", {"text": "One"})]
        more.set()
        await asking
        assert len(into.events()) == 3

    async def ask(self, gateway: FakeGateway, into: Answer, headers: dict[str, str] = ADMIN, **rest: Any) -> None:
        body = {"prompt": "x", "stream": True}
        await called("chat", body, services=FakeServices(gateway), headers=headers, into=into, **rest)

    async def test_failure_before_first_frame_sets_status(self) -> None:
        gateway = FakeGateway(UpstreamFailed("No."))
        answer = await called("chat", {"prompt": "x", "stream": True}, services=FakeServices(gateway))
        assert (answer.status, answer.error["code"]) == (502, "upstream_failed")

    async def test_blocked_prompt_sets_status(self) -> None:
        answer, gateway = await self.stream([{"promptFeedback": {"blockReason": "SAFETY"}}])
        assert (answer.status, answer.error["code"], gateway.closed) == (400, "prompt_blocked", 1)

    async def test_frame_without_text_is_skipped(self) -> None:
        thought = {"candidates": [{"content": {"parts": [{"text": "Hmm", "thought": True}]}}]}
        answer, _ = await self.stream([thought, native("Yes")])
        assert next(event for _, event in answer.events()) == {"text": "Yes"}

    @pytest.mark.parametrize(
        ("failure", "code"),
        [(UpstreamFailed("It broke."), "upstream_failed"), (ValueError("a secret"), "internal_error")],
    )
    async def test_later_failure_is_an_event(
        self, failure: Exception, code: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        answer, gateway = await self.stream([native("One"), failure])
        first, (name, event) = answer.events()
        assert first == ("message", {"text": "One"})
        assert (name, event["error"]["code"]) == ("error", code)
        assert (answer.status, answer.complete, gateway.closed) == (200, True, 1)
        output = capsys.readouterr().out
        assert f'"outcome":"{code}"' in output
        assert "a secret" not in output + answer.body.decode()

    async def test_no_text_is_an_error_event(self) -> None:
        answer, _ = await self.stream([{"candidates": [{}]}, native("", "MAX_TOKENS")])
        ((name, event),) = answer.events()
        assert (name, event["error"]["details"]) == ("error", {"finish_reason": "MAX_TOKENS"})

    async def test_disconnect_cancels_upstream(self, capsys: pytest.CaptureFixture[str]) -> None:
        gateway, gone, into = FakeGateway([native("One"), asyncio.Event()]), asyncio.Event(), Answer()
        asking = asyncio.create_task(self.ask(gateway, into, hang_up=gone))
        await asyncio.wait_for(into.arrived.wait(), 5)
        gone.set()
        await asyncio.wait_for(asking, 5)
        assert (gateway.cancelled, gateway.closed) == (True, 1)
        assert '"outcome":"caller_gone"' in capsys.readouterr().out

    async def test_stream_ends_by_the_deadline(self) -> None:
        gateway, into = FakeGateway([native("One"), asyncio.Event()]), Answer()
        await asyncio.wait_for(self.ask(gateway, into, {**ADMIN, "x-request-timeout": "0.2"}), 5)
        name, event = into.events()[-1]
        assert (name, event["error"]["code"]) == ("error", "upstream_timeout")
        assert gateway.closed == 1
