"""POST /chat and /generate_text: what may be asked, what Gemini is sent, and what the caller is told."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from shared.chat.chat import MOST_TURNS, read_chat, read_prompt
from shared.errors import BadRequest, UpstreamFailed
from tests.support.edge import ADMIN, Answer, FakeGateway, FakeServices, native
from tests.support.functions import called

USER_TURN = {"role": "user", "parts": [{"text": "Hello"}]}


def refused(body: dict[str, Any]) -> BadRequest:
    with pytest.raises(BadRequest) as caught:
        read_chat(body)
    return caught.value


def wrong_field(body: dict[str, Any]) -> str:
    details = refused(body).details
    assert details is not None
    return str(details["field"])


class TestRequest:
    def test_a_prompt_alone_is_enough(self) -> None:
        asked = read_chat({"prompt": "Hello"})
        assert (asked.model, asked.stream, asked.body) == (None, False, {"contents": [USER_TURN]})

    def test_the_prompt_is_sent_as_it_was_written(self) -> None:
        assert read_chat({"prompt": " Hello\n"}).body["contents"][0]["parts"] == [{"text": " Hello\n"}]

    def test_a_system_prompt_is_an_instruction_and_an_empty_one_is_none(self) -> None:
        body = read_chat({"prompt": "Hello", "system_prompt": "Be kind."}).body
        assert body["systemInstruction"] == {"parts": [{"text": "Be kind."}]}
        for empty in ("", "  ", None):
            assert "systemInstruction" not in read_chat({"prompt": "Hello", "system_prompt": empty}).body

    def test_history_comes_before_the_prompt_in_geminis_roles(self) -> None:
        image = {"inlineData": {"mimeType": "image/png", "data": "AAAA"}}
        history = [
            {"role": "user", "content": "One"},
            {"role": "assistant", "text": "Two"},
            {"role": "model", "parts": [{"text": "Three"}, image]},
        ]
        assert read_chat({"prompt": "Hello", "history": history}).body["contents"] == [
            {"role": "user", "parts": [{"text": "One"}]},
            {"role": "model", "parts": [{"text": "Two"}]},
            {"role": "model", "parts": [{"text": "Three"}, image]},
            USER_TURN,
        ]

    def test_native_contents_are_passed_on_untouched(self) -> None:
        contents = [{"role": "user", "parts": [{"fileData": {"fileUri": "x"}, "newField": 1}]}]
        assert read_chat({"contents": contents, "stream": True}).body == {"contents": contents}

    @pytest.mark.parametrize(
        ("body", "field"),
        [
            ({}, "prompt"),
            ({"prompt": None}, "prompt"),
            ({"prompt": ""}, "prompt"),
            ({"prompt": " \n\t"}, "prompt"),
            ({"prompt": 5}, "prompt"),
            ({"prompt": ["x"]}, "prompt"),
            ({"prompt": "x", "system_prompt": 5}, "system_prompt"),
            ({"prompt": "x", "model": []}, "model"),
            ({"prompt": "x", "stream": "yes"}, "stream"),
            ({"prompt": "x", "history": {}}, "history"),
            ({"prompt": "x", "history": ["Hello"]}, "history[0]"),
            ({"prompt": "x", "history": [{"role": "user", "content": "a"}, {"content": "b"}]}, "history[1].role"),
            ({"prompt": "x", "history": [{"role": "user", "content": "a"}] * (MOST_TURNS + 1)}, "history"),
            ({"contents": [USER_TURN] * (MOST_TURNS + 1)}, "contents"),
            ({"prompt": "x", "history": [{"role": "robot", "content": "a"}]}, "history[0].role"),
            ({"prompt": "x", "history": [{"role": "user"}]}, "history[0].content"),
            ({"prompt": "x", "history": [{"role": "user", "text": "a", "content": "b"}]}, "history[0].content"),
            ({"prompt": "x", "history": [{"role": "user", "content": ""}]}, "history[0].content"),
            ({"prompt": "x", "history": [{"role": "user", "content": ["a"]}]}, "history[0].content"),
            ({"prompt": "x", "history": [{"role": "user", "parts": []}]}, "history[0].parts"),
            ({"prompt": "x", "history": [{"role": "user", "parts": ["a"]}]}, "history[0].parts[0]"),
            ({"prompt": "x", "history": [{"role": "user", "text": "a", "name": "b"}]}, "history[0].name"),
            ({"contents": []}, "contents"),
            ({"contents": "x"}, "contents"),
            ({"contents": ["x"]}, "contents[0]"),
            ({"prompt": "x", "contents": [{}]}, "contents"),
            ({"history": [], "contents": [{}]}, "contents"),
            ({"prompt": "x", "generation_config": 1}, "generation_config"),
            ({"prompt": "x", "generation_config": {"temperature": 3}}, "generation_config.temperature"),
            ({"prompt": "x", "safety_settings": {}}, "safety_settings"),
            ({"prompt": "x", "safety_settings": [{"category": "A"}]}, "safety_settings[0].threshold"),
        ],
    )
    def test_what_is_wrong_is_named(self, body: dict[str, Any], field: str) -> None:
        assert wrong_field(body) == field

    def test_a_mistyped_field_is_told_the_right_one(self) -> None:
        assert "did you mean system_prompt" in refused({"prompt": "x", "sytem_prompt": "y"}).message
        assert "did you mean generation_config" in refused({"prompt": "x", "generationConfig": {}}).message

    def test_an_unknown_name_is_repeated_in_part_if_it_is_long_and_in_quotes_if_it_is_empty(self) -> None:
        long = refused({"prompt": "x", "y" * 1000: 1})
        assert (long.details, len(long.message) < 400) == ({"field": "y" * 100 + "…"}, True)
        assert refused({"prompt": "x", "": 1}).message.startswith('"" is not known here')
        assert "generation_config" in refused({"prompt": "x", "max_output_tokens": 5}).message
        assert "it may be" in refused({"prompt": "x", "zzz": 5}).message

    def test_instructions_in_the_history_are_shown_the_way(self) -> None:
        assert "system_prompt" in refused({"prompt": "x", "history": [{"role": "system", "content": "y"}]}).message

    @pytest.mark.parametrize("field", ["message", "session_id"])
    def test_stored_conversations_are_refused_with_the_way_out(self, field: str) -> None:
        assert "history" in refused({field: "x"}).message
        assert "together with prompt" in refused({field: "x", "prompt": "y"}).message

    def test_credentials_are_not_sent_upstream(self) -> None:
        assert "credentials" not in str(read_chat({"prompt": "x", "credentials": {"gemini_api_key": "k"}}).body)

    def test_generate_text_takes_a_prompt_and_no_history(self) -> None:
        assert read_prompt({"prompt": "Hello", "credentials": {}}).body == {"contents": [USER_TURN]}
        with pytest.raises(BadRequest, match="history is not known"):
            read_prompt({"prompt": "Hello", "history": []})


class TestModel:
    async def test_an_image_is_not_paid_for_where_the_answer_would_leave_it_out(self) -> None:
        gateway = FakeGateway()
        body = {"prompt": "A lighthouse", "model": "gemini-3-pro-image"}
        answer = await called("chat", body, services=FakeServices(gateway))
        assert (answer.status, answer.error["details"], gateway.asked) == (400, {"field": "model"}, [])


class TestAnswer:
    async def test_it_has_text_model_reason_usage_and_id(self) -> None:
        answer = await called("chat", {"prompt": "Hello"}, headers={**ADMIN, "x-request-id": "id-1"})
        assert answer.json() == {
            "text": "Hello",
            "model": "gemini-3.8-flash",
            "finish_reason": "STOP",
            "usage": {"prompt_tokens": 3, "output_tokens": 2, "thinking_tokens": 1, "total_tokens": 6},
            "request_id": "id-1",
        }

    async def test_generate_text_has_its_own_shape(self) -> None:
        assert (await called("generate_text", {"prompt": "Hello"})).json() == {"generated_text": "Hello"}

    async def test_what_was_cut_short_says_so(self) -> None:
        answer = await called("chat", {"prompt": "x"}, gemini_says=native("Half a", "MAX_TOKENS"))
        assert (answer.status, answer.json()["finish_reason"]) == (200, "MAX_TOKENS")


class TestStream:
    async def stream(self, frames: list[Any], **rest: Any) -> tuple[Answer, FakeGateway]:
        gateway = FakeGateway(frames)
        answer = await called("chat", {"prompt": "x", "stream": True}, services=FakeServices(gateway), **rest)
        return answer, gateway

    async def test_each_frame_is_an_event_and_the_last_one_tells_the_rest(self) -> None:
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

    async def test_an_event_is_sent_as_soon_as_its_frame_came(self) -> None:
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

    async def test_what_fails_before_the_first_frame_has_its_own_status(self) -> None:
        gateway = FakeGateway(UpstreamFailed("No."))
        answer = await called("chat", {"prompt": "x", "stream": True}, services=FakeServices(gateway))
        assert (answer.status, answer.error["code"]) == (502, "upstream_failed")

    async def test_a_blocked_prompt_has_its_own_status(self) -> None:
        answer, gateway = await self.stream([{"promptFeedback": {"blockReason": "SAFETY"}}])
        assert (answer.status, answer.error["code"], gateway.closed) == (400, "prompt_blocked", 1)

    async def test_a_frame_without_text_is_no_event_and_begins_the_answer(self) -> None:
        thought = {"candidates": [{"content": {"parts": [{"text": "Hmm", "thought": True}]}}]}
        answer, _ = await self.stream([thought, native("Yes")])
        assert next(event for _, event in answer.events()) == {"text": "Yes"}

    @pytest.mark.parametrize(
        ("failure", "code"),
        [(UpstreamFailed("It broke."), "upstream_failed"), (ValueError("a secret"), "internal_error")],
    )
    async def test_what_fails_later_is_an_event(
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

    async def test_an_answer_without_any_text_is_an_error_event(self) -> None:
        answer, _ = await self.stream([{"candidates": [{}]}, native("", "MAX_TOKENS")])
        ((name, event),) = answer.events()
        assert (name, event["error"]["details"]) == ("error", {"finish_reason": "MAX_TOKENS"})

    async def test_a_caller_that_goes_frees_the_upstream_at_once(self, capsys: pytest.CaptureFixture[str]) -> None:
        gateway, gone, into = FakeGateway([native("One"), asyncio.Event()]), asyncio.Event(), Answer()
        asking = asyncio.create_task(self.ask(gateway, into, hang_up=gone))
        await asyncio.wait_for(into.arrived.wait(), 5)
        gone.set()
        await asyncio.wait_for(asking, 5)
        assert (gateway.cancelled, gateway.closed) == (True, 1)
        assert '"outcome":"caller_gone"' in capsys.readouterr().out

    async def test_a_stream_ends_at_the_deadline_at_the_latest(self) -> None:
        gateway, into = FakeGateway([native("One"), asyncio.Event()]), Answer()
        await asyncio.wait_for(self.ask(gateway, into, {**ADMIN, "x-request-timeout": "0.2"}), 5)
        name, event = into.events()[-1]
        assert (name, event["error"]["code"]) == ("error", "upstream_timeout")
        assert gateway.closed == 1
