"""POST /v1/chat/completions in process, with a Gemini whose answers a test sets."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Mapping
from typing import Any, ClassVar

import pytest
from google.genai import types

from shared.bounds.large_work import LARGE_BYTES
from shared.errors import QueueTimeout, UpstreamFailed
from shared.generation import Generation, JsonObject, Reply, Usage
from shared.openai_format.finish import ENDS, FAULTS, WITHHELD
from tests.support.edge import ADMIN, Answer, FakeGateway, FakeServices, native
from tests.support.functions import called
from tests.support.image_samples import written
from tests.support.openai_chat import DONE, events, text

PATH = "/v1/chat/completions"
PNG = written("PNG")
HELLO = {"messages": [{"role": "user", "content": "Hello"}]}
GOOGLES = sorted({reason.name for reason in types.FinishReason} - {"FINISH_REASON_UNSPECIFIED"})
WEATHER = {
    "type": "function",
    "function": {"name": "weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}},
}
STRICT = {
    "type": "json_schema",
    "json_schema": {
        "name": "person",
        "strict": True,
        "schema": {
            "type": "object",
            "properties": {"name": {"type": "string"}},
            "required": ["name"],
            "additionalProperties": False,
        },
    },
}


def parts(*of: Any, finish: str | None = "STOP", **counts: int) -> JsonObject:
    """An answer, or a frame."""
    body: JsonObject = {"candidates": [{"content": {"role": "model", "parts": list(of)}}]}
    if finish is not None:
        body["candidates"][0]["finishReason"] = finish
    return {**body, "usageMetadata": counts} if counts else body


def call_part(name: str, signature: str | None = None, **arguments: Any) -> JsonObject:
    part: JsonObject = {"functionCall": {"name": name, "args": arguments}}
    return part if signature is None else {**part, "thoughtSignature": signature}


def image_part(data: bytes = PNG) -> JsonObject:
    return {"inlineData": {"mimeType": "image/png", "data": base64.b64encode(data).decode()}}


async def chat(says: Any = "Hello", services: FakeServices | None = None, **fields: Any) -> Answer:
    if services is not None:
        services.gateway.says = says
    return await called("openai_api", {**HELLO, **fields}, gemini_says=says, services=services, path=PATH)


async def streamed(frames: list[Any], services: FakeServices | None = None, **fields: Any) -> list[Any]:
    """The data of the events; the end marker is a text."""
    return events(await chat(frames, services, stream=True, **fields))


def finish(chunks: list[Any]) -> Any:
    return [choice["finish_reason"] for chunk in chunks if chunk != DONE for choice in chunk["choices"]][-1]


class Scripted(FakeGateway):
    """Answers each generation with the next of `answers`; an error is raised."""

    def __init__(self, *answers: Any) -> None:
        super().__init__()
        self.answers = list(answers)

    async def generate(self, generation: Generation) -> Reply:
        self.says = self.answers.pop(0)
        return await super().generate(generation)


class Repairing(FakeGateway):
    """Answers a repair with an object, and counts the repairs that are under way at once."""

    def __init__(self) -> None:
        super().__init__()
        self.repairs = self.most_repairs = 0

    async def generate(self, generation: Generation) -> Reply:
        if len(generation.body["contents"]) == 1:
            return await super().generate(generation)
        self.repairs += 1
        self.most_repairs = max(self.most_repairs, self.repairs)
        for _ in range(20):  # The others get here meanwhile, if they may.
            await asyncio.sleep(0)
        self.repairs -= 1
        return self._reply(generation, native("{}"))


class TestUnary:
    async def test_a_completion(self) -> None:
        answer = await chat(parts({"text": "Hello"}, promptTokenCount=3, cachedContentTokenCount=2))
        body = answer.json()
        assert body["id"].startswith("chatcmpl-")
        assert isinstance(body["created"], int)
        assert (body["object"], body["model"]) == ("chat.completion", "gemini-3.8-flash")
        assert body["choices"] == [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "Hello", "refusal": None},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ]
        assert body["usage"] == {
            "prompt_tokens": 3,
            "completion_tokens": 3,
            "total_tokens": 6,
            "prompt_tokens_details": {"cached_tokens": 2},
            "completion_tokens_details": {"reasoning_tokens": 1},
        }

    async def test_the_headers_are_openais(self) -> None:
        headers = (await chat()).headers
        assert headers["x-ratelimit-limit-requests"] == "300"
        assert headers["x-ratelimit-remaining-requests"] == "299"
        assert headers["x-ratelimit-reset-requests"] == "1m0s"
        assert int(headers["openai-processing-ms"]) >= 0
        assert headers["x-request-id"].startswith("req_")
        assert headers["x-model-used"] == "gemini-3.8-flash"

    @pytest.mark.parametrize("reason", GOOGLES)
    async def test_every_finish_reason(self, reason: str) -> None:
        answer = await chat(native("So far", reason))
        if reason in FAULTS:
            error = answer.error
            assert (answer.status, error["type"], error["code"]) == (502, "server_error", "upstream_failed")
            assert error["details"] == {"finish_reason": reason}
            return
        (choice,) = answer.json()["choices"]
        assert choice["finish_reason"] == ENDS.get(reason, "content_filter")
        assert (choice["message"]["content"], choice["message"]["refusal"] is None) == (
            "So far",
            reason not in WITHHELD,
        )

    async def test_a_blocked_prompt_is_a_filtered_answer(self) -> None:
        answer = await chat({"promptFeedback": {"blockReason": "SAFETY"}})
        (choice,) = answer.json()["choices"]
        assert (answer.status, choice["finish_reason"], choice["message"]["content"]) == (200, "content_filter", None)
        assert "SAFETY" in choice["message"]["refusal"]

    async def test_an_answer_without_anything_is_an_error(self) -> None:
        answer = await chat({"usageMetadata": {}})
        assert (answer.status, answer.error["code"]) == (502, "empty_response")

    async def test_an_image_model_may_answer(self) -> None:
        services = FakeServices()
        answer = await chat(parts({"text": "Here: "}, image_part()), services, model="gemini-3-pro-image")
        message = answer.json()["choices"][0]["message"]
        (name,) = services.stored.images
        assert message["content"] == f"Here: ![image](/image/{name})"
        assert message["images"] == [{"type": "image_url", "image_url": {"url": f"/image/{name}"}}]

    @pytest.mark.parametrize("data", [PNG, b"\x89PNG cut off"])
    async def test_an_image_that_is_not_stored_is_not_lost(self, data: bytes) -> None:
        """Because the storage fails, or because it is damaged."""
        services = FakeServices()
        services.stored.error = OSError("disk")
        answer = await chat(parts(image_part(data)), services, model="gemini-3-pro-image")
        url = f"data:image/png;base64,{base64.b64encode(data).decode()}"
        assert answer.json()["choices"][0]["message"]["images"][0]["image_url"]["url"] == url

    async def test_thoughts_are_shown_if_asked_for(self) -> None:
        says = parts({"text": "Hm.", "thought": True}, {"text": "Hello"})
        asked = {"thinking_config": {"include_thoughts": True}}
        shown = (await chat(says, google=asked)).json()["choices"][0]["message"]
        assert (shown["reasoning_content"], shown["content"]) == ("Hm.", "Hello")
        assert "reasoning_content" not in (await chat(says)).json()["choices"][0]["message"]

    async def test_an_error_is_openais(self) -> None:
        answer = await chat(QueueTimeout("Later.", retry_after_s=1.2345))
        error = answer.error
        assert (answer.status, error["type"], error["code"]) == (429, "requests", "rate_limit_exceeded")
        assert (answer.headers["retry-after"], answer.headers["retry-after-ms"]) == ("2", "1235")

    async def test_a_wrong_field_is_the_errors_param(self) -> None:
        answer = await chat(temperature=9)
        assert (answer.status, answer.error["param"], answer.error["type"]) == (
            400,
            "temperature",
            "invalid_request_error",
        )


class TestTools:
    async def test_calls_have_ids_and_their_signatures_come_back(self) -> None:
        services = FakeServices()
        says = parts(call_part("weather", "c2lnbmF0dXJl", city="Köln"), call_part("weather", city="Ulm"))
        (choice,) = (await chat(says, services, tools=[WEATHER])).json()["choices"]
        assert (choice["finish_reason"], choice["message"]["content"]) == ("tool_calls", None)
        calls = choice["message"]["tool_calls"]
        assert [call["function"]["arguments"] for call in calls] == ['{"city":"Köln"}', '{"city":"Ulm"}']
        assert len({call["id"] for call in calls}) == 2
        for call in calls:
            # As a client that cuts ids.
            call["id"] = call["id"][:40]
        results = [{"role": "tool", "tool_call_id": call["id"], "content": "Rain"} for call in calls]
        answered = {"role": "assistant", "tool_calls": calls}
        await chat("Rain.", services, tools=[WEATHER], messages=[*HELLO["messages"], answered, *results])
        sent = services.gateway.asked[-1].body["contents"][1]["parts"]
        assert [part.get("thoughtSignature") for part in sent] == ["c2lnbmF0dXJl", None]

    async def test_only_one_call_where_parallel_calls_are_off(self) -> None:
        frames = [parts(call_part("weather"), call_part("weather"), finish=None), parts(call_part("weather"))]
        chunks = await streamed(frames, tools=[WEATHER], parallel_tool_calls=False)
        deltas = [chunk["choices"][0]["delta"] for chunk in chunks[:-1]]
        assert len([delta for delta in deltas if "tool_calls" in delta]) == 1
        says = parts(call_part("weather"), call_part("weather"))
        answer = await chat(says, tools=[WEATHER], parallel_tool_calls=False)
        assert len(answer.json()["choices"][0]["message"]["tool_calls"]) == 1

    async def test_streamed_calls_are_numbered_and_end_as_tool_calls(self) -> None:
        frames = [
            parts({"text": "Let me see."}, finish=None),
            parts(call_part("weather", "c2ln", city="Köln"), finish=None),
            parts(call_part("weather", city="Ulm")),
        ]
        chunks = await streamed(frames, tools=[WEATHER])
        calls = [call for chunk in chunks[:-1] for call in chunk["choices"][0]["delta"].get("tool_calls", ())]
        assert [(call["index"], call["function"]["arguments"]) for call in calls] == [
            (0, '{"city":"Köln"}'),
            (1, '{"city":"Ulm"}'),
        ]
        assert (text(chunks), finish(chunks), chunks[-1]) == ("Let me see.", "tool_calls", DONE)


class TestStreams:
    async def test_a_stream(self) -> None:
        chunks = await streamed([native("Hel", ""), native("lo", ""), native("", "STOP")])
        assert chunks[0]["choices"][0]["delta"] == {"role": "assistant", "content": "", "refusal": None}
        assert {chunk["id"] for chunk in chunks[:-1]} == {chunks[0]["id"]}
        assert (text(chunks), finish(chunks), chunks[-1]) == ("Hello", "stop", DONE)
        assert all("usage" not in chunk for chunk in chunks[:-1])

    async def test_the_usage_is_in_a_chunk_of_its_own(self) -> None:
        frames = [
            parts({"text": "a"}, finish=None, promptTokenCount=3, cachedContentTokenCount=2),
            parts({"text": ""}, promptTokenCount=3),
        ]
        *chunks, last, _ = await streamed(frames, stream_options={"include_usage": True})
        assert all(chunk["usage"] is None for chunk in chunks)
        assert last["choices"] == []
        assert (last["usage"]["total_tokens"], last["usage"]["prompt_tokens_details"]) == (6, {"cached_tokens": 2})

    @pytest.mark.parametrize("reason", GOOGLES)
    async def test_every_finish_reason(self, reason: str) -> None:
        chunks = await streamed([native("So far", ""), native("", reason)])
        assert text(chunks) == "So far"
        if reason in FAULTS:
            assert (chunks[-1]["error"]["code"], chunks[-1]["error"]["type"]) == ("upstream_failed", "server_error")
            return
        assert (finish(chunks), chunks[-1]) == (ENDS.get(reason, "content_filter"), DONE)
        refusals = [chunk["choices"][0]["delta"].get("refusal") for chunk in chunks[:-1]]
        assert any(refusals) == (reason in WITHHELD)

    async def test_a_blocked_prompt_is_a_filtered_answer(self) -> None:
        chunks = await streamed([{"promptFeedback": {"blockReason": "SAFETY"}}])
        assert (finish(chunks), chunks[-1]) == ("content_filter", DONE)
        assert "SAFETY" in chunks[1]["choices"][0]["delta"]["refusal"]

    async def test_a_stream_that_breaks_ends_with_an_error(self) -> None:
        answer = await chat([native("So far", ""), UpstreamFailed("Broken.")], stream=True)
        assert b"event:" not in answer.body
        *chunks, last = events(answer)
        assert (text(chunks), last["error"]["message"], last["error"]["code"]) == (
            "So far",
            "Broken.",
            "upstream_failed",
        )

    async def test_an_error_before_the_first_byte_keeps_its_status(self) -> None:
        answer = await chat(QueueTimeout("Later.", retry_after_s=3), stream=True)
        assert (answer.status, answer.headers["retry-after-ms"]) == (429, "3000")

    @pytest.mark.parametrize("frame", [parts(finish="MALFORMED_FUNCTION_CALL"), {}])
    async def test_a_fault_without_an_answer_keeps_its_status(self, frame: JsonObject) -> None:
        """OpenAI's SDKs send a request again for a status, and never for an error in a stream."""
        counts: JsonObject = {"usageMetadata": {"promptTokenCount": 3}}
        answer = await chat([frame, counts], stream=True)
        assert answer.status == 502

    async def test_an_image_is_stored_and_linked(self) -> None:
        services = FakeServices()
        frames = [parts({"text": "Here: "}, finish=None), parts(image_part())]
        chunks = await streamed(frames, services, model="gemini-3-pro-image")
        (name,) = services.stored.images
        assert text(chunks) == f"Here: ![image](/image/{name})"

    async def test_thoughts_alone_begin_the_response(self) -> None:
        frames = [parts({"text": "Hm.", "thought": True}, finish=None), native("Hello")]
        assert text(await streamed(frames)) == "Hello"

    async def test_a_client_that_leaves_ends_the_work(self) -> None:
        gateway, gone, into = FakeGateway([native("a", ""), asyncio.Event()]), asyncio.Event(), Answer()
        services = FakeServices(gateway)
        task = asyncio.create_task(
            called("openai_api", {**HELLO, "stream": True}, services=services, path=PATH, hang_up=gone, into=into)
        )
        await into.arrived.wait()
        gone.set()
        await asyncio.gather(task, return_exceptions=True)
        assert (gateway.cancelled, gateway.closed) == (True, 1)


class TestSearch:
    GROUNDING: ClassVar[Any] = {
        "groundingChunks": [{"web": {"uri": "https://a.example", "title": "A"}}],
        "groundingSupports": [{"segment": {"endIndex": 5}, "groundingChunkIndices": [0]}],
    }
    CITED: ClassVar[Any] = [
        {
            "type": "url_citation",
            "url_citation": {"start_index": 0, "end_index": 5, "url": "https://a.example", "title": "A"},
        }
    ]

    async def test_cited_pages_are_annotations(self) -> None:
        says = native("Hello")
        says["candidates"][0]["groundingMetadata"] = self.GROUNDING
        (choice,) = (await chat(says, web_search_options={})).json()["choices"]
        assert choice["message"]["annotations"] == self.CITED

    async def test_cited_pages_come_at_the_end_of_a_stream(self) -> None:
        last = native("", "STOP")
        last["candidates"][0]["groundingMetadata"] = self.GROUNDING
        chunks = await streamed([native("Hel", ""), native("lo", ""), last], web_search_options={})
        assert chunks[-3]["choices"][0]["delta"] == {"annotations": self.CITED}
        assert (text(chunks), finish(chunks)) == ("Hello", "stop")


class TestSeveralAnswers:
    async def test_each_is_a_generation_and_the_usage_adds_up(self) -> None:
        services = FakeServices()
        body = (await chat("Hello", services, n=3)).json()
        assert len(services.gateway.asked) == 3
        assert [choice["index"] for choice in body["choices"]] == [0, 1, 2]
        assert body["usage"]["total_tokens"] == 18
        assert "errors" not in body

    async def test_one_that_fails_does_not_cost_the_others(self) -> None:
        services = FakeServices(Scripted("a", QueueTimeout("Later."), "c"))
        body = (await called("openai_api", {**HELLO, "n": 3}, services=services, path=PATH)).json()
        assert [(one["index"], one["message"]["content"]) for one in body["choices"]] == [(0, "a"), (2, "c")]
        assert body["errors"] == [{"index": 1, "code": "queue_timeout", "message": "Later."}]

    async def test_if_all_fail_the_first_error_is_the_response(self) -> None:
        services = FakeServices(Scripted(QueueTimeout("Later."), UpstreamFailed("Broken.")))
        answer = await called("openai_api", {**HELLO, "n": 2}, services=services, path=PATH)
        assert (answer.status, answer.error["message"]) == (429, "Later.")

    async def test_streams_are_interleaved(self) -> None:
        services = FakeServices()
        frames = [native("Hel", ""), native("lo")]
        chunks = await streamed(frames, services, n=2, stream_options={"include_usage": True})
        assert (text(chunks, 0), text(chunks, 1)) == ("Hello", "Hello")
        assert (chunks[-2]["usage"]["total_tokens"], chunks[-1]) == (12, DONE)
        assert len({chunk["id"] for chunk in chunks[:-1]}) == 1

    async def test_a_stream_that_breaks_lets_the_others_end(self) -> None:
        class OneBreaks(FakeGateway):
            def stream(self, generation: Generation) -> Any:
                broken = len(self.asked) == 1
                self.says = [native("a", ""), UpstreamFailed("Broken.")] if broken else [native("b", ""), native("c")]
                return super().stream(generation)

        answer = await called(
            "openai_api", {**HELLO, "n": 2, "stream": True}, services=FakeServices(OneBreaks()), path=PATH
        )
        *chunks, last = events(answer)
        assert sorted([text(chunks, 0), text(chunks, 1)]) == ["a", "bc"]
        assert last["error"]["message"] == "Broken."


class TestConforming:
    async def test_an_answer_is_checked_and_keeps_its_digits(self) -> None:
        says = '```json\n{"name": "Ada", "born": 1815.10}\n```'
        schema = {"type": "object", "properties": {"born": {"type": "number"}}}
        asked = {"type": "json_schema", "json_schema": {"name": "x", "strict": True, "schema": schema}}
        body = (await chat(says, response_format=asked)).json()
        assert body["choices"][0]["message"]["content"] == '{"name": "Ada", "born": 1815.10}'

    @pytest.mark.parametrize("stream", [False, True])
    async def test_an_answer_that_does_not_conform_is_repaired(self, stream: bool) -> None:
        """The usage is that of both turns, and a stream has only the repaired answer."""
        services = FakeServices(Scripted('{"nam": 1}', '{"name":"Ada"}'))
        sent = {**HELLO, "response_format": STRICT, "stream": stream, "stream_options": {"include_usage": True}}
        if not stream:
            del sent["stream_options"]
        answer = await called("openai_api", sent, services=services, path=PATH)
        if stream:
            chunks = events(answer)
            assert (text(chunks), finish(chunks[:-2]), chunks[-1]) == ('{"name":"Ada"}', "stop", DONE)
            assert chunks[-2]["usage"]["total_tokens"] == 12
        else:
            body = answer.json()
            assert body["choices"][0]["message"]["content"] == '{"name":"Ada"}'
            assert body["usage"]["total_tokens"] == 12

    @pytest.mark.parametrize("stream", [False, True])
    async def test_a_repair_that_fails_is_an_error_without_retry(self, stream: bool) -> None:
        services = FakeServices(Scripted("no", "no"))
        sent = {**HELLO, "response_format": STRICT, "stream": stream}
        answer = await called("openai_api", sent, services=services, path=PATH)
        assert (answer.status, answer.error["code"]) == (502, "nonconforming_answer")
        assert answer.headers["x-should-retry"] == "false"
        assert answer.error["details"]["text"] == "no"

    @pytest.mark.parametrize(
        ("says", "reason"),
        [
            (native('{"na', "MAX_TOKENS"), "length"),
            (native("", "SAFETY"), "content_filter"),
            ({"promptFeedback": {"blockReason": "OTHER"}}, "content_filter"),
            (parts(call_part("weather")), "tool_calls"),
        ],
    )
    async def test_what_cannot_conform_keeps_its_reason(self, says: JsonObject, reason: str) -> None:
        services = FakeServices()
        answer = await chat(says, services, response_format=STRICT, tools=[WEATHER])
        assert (answer.status, answer.json()["choices"][0]["finish_reason"]) == (200, reason)
        assert len(services.gateway.asked) == 1

    @pytest.mark.parametrize(("size_bytes", "at_once"), [(1, 3), (LARGE_BYTES, 1)])
    async def test_repairs_of_a_large_body_follow_each_other(self, size_bytes: int, at_once: int) -> None:
        """Each has a copy of the body, and the request's claim has room for one."""
        gateway = Repairing()
        messages = [{"role": "user", "content": "x" * size_bytes}]
        answer = await chat(
            "[]", FakeServices(gateway), messages=messages, n=3, response_format={"type": "json_object"}
        )
        assert (answer.status, len(answer.json()["choices"])) == (200, 3)
        assert gateway.most_repairs == at_once

    @pytest.mark.parametrize(("first", "count"), [('{"a":1}', 1), ("[1]", 2), ("Sure!", 2)])
    async def test_json_object_is_an_object(self, first: str, count: int) -> None:
        gateway = Scripted(first, '{"a":1}')
        sent = {**HELLO, "response_format": {"type": "json_object"}}
        answer = await called("openai_api", sent, services=FakeServices(gateway), path=PATH)
        assert answer.json()["choices"][0]["message"]["content"] == '{"a":1}'
        assert len(gateway.asked) == count


async def test_own_keys_come_as_bearer() -> None:
    headers: Mapping[str, str] = {"authorization": "Bearer AQ.callers-own-key"}
    services = FakeServices()
    answer = await called("openai_api", HELLO, headers=headers, services=services, path=PATH)
    assert (answer.status, services.gateway.asked[0].caller.kind) == (200, "caller_key")
    assert ADMIN.keys() & headers.keys() == set()


async def test_unknown_usage_is_null() -> None:
    class Uncounted(FakeGateway):
        def _reply(self, generation: Generation, body: JsonObject) -> Reply:
            reply = super()._reply(generation, body)
            reply.usage = Usage()
            return reply

    answer = await called("openai_api", HELLO, services=FakeServices(Uncounted()), path=PATH)
    assert answer.json()["usage"]["total_tokens"] is None
