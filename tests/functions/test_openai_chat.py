"""POST /v1/chat/completions over real sockets, from the request to the offline Gemini and back."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import orjson
import pytest

from tests.support.edge import ADMIN_KEY, Answer
from tests.support.openai_chat import DONE, events, text
from tests.support.whole_path import OWN_KEY, WholePath, eventually, whole_path

PATH = "/v1/chat/completions"
WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather of a city.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


async def chat(
    path: WholePath,
    prompt: Any = "Hello",
    *,
    key: str = ADMIN_KEY,
    into: Answer | None = None,
    timeout_s: float | None = None,
    **fields: Any,
) -> Answer:
    """As OpenAI's clients send it: the key as a bearer token."""
    headers = {"authorization": f"Bearer {key}"}
    if timeout_s is not None:
        headers["x-request-timeout"] = str(timeout_s)
    body = {"model": "gemini-3.8-flash", "messages": [{"role": "user", "content": prompt}], **fields}
    return await path.send("POST", PATH, orjson.dumps(body), headers, into=into)


def message(answer: Answer) -> dict[str, Any]:
    assert answer.status == 200, answer.body
    (choice,) = answer.json()["choices"]
    found: dict[str, Any] = choice["message"]
    return found


class TestAnswers:
    async def test_a_completion_and_its_stream_say_the_same(self) -> None:
        async with whole_path(GEMINI_RPM="300", GEMINI_TPM="unlimited") as path:
            whole = await chat(path)
            chunks = events(await chat(path, stream=True, stream_options={"include_usage": True}))
        assert text(chunks) == message(whole)["content"] != ""
        assert whole.json()["usage"] == chunks[-2]["usage"]
        assert whole.json()["usage"]["total_tokens"] > 0
        assert (chunks[-3]["choices"][0]["finish_reason"], chunks[-1]) == ("stop", DONE)
        assert whole.headers["x-ratelimit-limit-requests"] == "300"
        assert re.fullmatch(r"(\d+m)?\d+(\.\d+)?m?s", whole.headers["x-ratelimit-reset-requests"])
        assert int(whole.headers["openai-processing-ms"]) < 60_000

    @pytest.mark.parametrize(
        ("fault", "reason"),
        [("block", "content_filter"), ("safety", "content_filter"), ("max_tokens", "length")],
    )
    async def test_withheld_answers_say_why(self, fault: str, reason: str) -> None:
        async with whole_path() as path:
            (choice,) = (await chat(path, f"[[fault:{fault}]]")).json()["choices"]
            chunks = events(await chat(path, f"[[fault:{fault}]]", stream=True))
        assert (choice["finish_reason"], chunks[-2]["choices"][0]["finish_reason"]) == (reason, reason)
        refusals = [chunk["choices"][0]["delta"].get("refusal") for chunk in chunks[:-1]]
        assert bool(choice["message"]["refusal"]) == any(refusals) == (reason == "content_filter")

    async def test_several_answers_are_several_requests(self) -> None:
        async with whole_path() as path:
            body = (await chat(path, n=3)).json()
            assert (len(body["choices"]), path.sent, await path.dispatched()) == (3, 3, 3)
            chunks = events(await chat(path, n=2, stream=True))
            assert text(chunks, 0) == text(chunks, 1) != ""
            assert (chunks[-1], path.sent) == (DONE, 5)

    @pytest.mark.parametrize("stream", [False, True])
    async def test_a_wrong_object_is_repaired(self, stream: bool) -> None:
        schema = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
        asked = {"type": "json_schema", "json_schema": {"name": "a", "strict": True, "schema": schema}}
        async with whole_path() as path:
            answer = await chat(path, "[[fault:wrong_jsonx1]]", response_format=asked, stream=stream)
            found = text(events(answer)) if stream else message(answer)["content"]
            assert isinstance(orjson.loads(found)["a"], int)
            assert path.sent == 2

    async def test_an_image_is_stored_and_may_be_sent_back(self) -> None:
        async with whole_path() as path:
            made = message(await chat(path, "A cat", model="gemini-3-pro-image"))
            url = made["images"][0]["image_url"]["url"]
            assert f"![image]({url})" in made["content"]
            image = await path.send("GET", url.removeprefix(f"http://127.0.0.1:{path.port}"))
            assert (image.status, image.headers["content-type"]) == (200, "image/png")
            content = [{"type": "text", "text": "What is it?"}, {"type": "image_url", "image_url": {"url": url}}]
            assert message(await chat(path, content))["content"]

    async def test_comments_are_sent_while_an_answer_is_checked(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("shared.http.call.SILENCE_S", 0.2)
        asked = {"type": "json_object"}
        async with whole_path(REQUEST_TIMEOUT_SECONDS="20") as path:
            answer = await chat(path, "[[latency:1500]] JSON", response_format=asked, stream=True)
        assert answer.body.startswith(b": keep-alive\n\n")
        chunks = events(answer)
        assert isinstance(orjson.loads(text(chunks)), dict)
        assert chunks[-1] == DONE


class TestTools:
    async def test_parallel_calls_come_back_with_their_signature(self) -> None:
        """From a client that keeps nothing but the first 40 characters of an id."""
        messages: list[Any] = [{"role": "user", "content": "The weather in Köln and Ulm?"}]
        async with whole_path() as path:
            for stream in (False, True):
                answer = await chat(path, messages=messages, tools=[WEATHER], tool_choice="required", stream=stream)
                if stream:
                    deltas = [chunk["choices"][0]["delta"] for chunk in events(answer)[:-1]]
                    calls = [{**call, "index": None} for delta in deltas for call in delta.get("tool_calls", ())]
                else:
                    calls = message(answer)["tool_calls"]
                calls = [{key: call[key] for key in ("id", "type", "function")} for call in calls]
                for call in calls:
                    call["id"] = call["id"][:40]
                messages += [
                    {"role": "assistant", "content": None, "tool_calls": calls},
                    *({"role": "tool", "tool_call_id": call["id"], "content": "Rain"} for call in calls),
                ]
            assert message(await chat(path, messages=messages, tools=[WEATHER]))["content"]
            assert path.gemini.stats()["answered"] == {"200": 3}


class TestErrors:
    async def test_a_wrong_key_is_an_authentication_error(self) -> None:
        async with whole_path() as path:
            answer = await chat(path, "[[fault:400-key-expired]]", key=OWN_KEY)
        assert (answer.status, answer.error["code"]) == (401, "invalid_api_key")

    async def test_a_key_without_permission_is_forbidden(self) -> None:
        """Google's 403; own endpoints say 401 invalid_gemini_key."""
        async with whole_path() as path:
            for _ in range(2):
                answer = await chat(path, "[[fault:403-denied]]", key=OWN_KEY)
                assert (answer.status, answer.error["code"]) == (403, "permission_denied")
            own = await path.ask("[[fault:403-denied]]", key=OWN_KEY)
            assert (own.status, own.error["code"]) == (401, "invalid_gemini_key")

    async def test_a_key_without_credit_has_no_quota(self) -> None:
        """The second request is not sent."""
        async with whole_path() as path:
            for _ in range(2):
                answer = await chat(path, "[[fault:429-depleted]]", key=OWN_KEY)
                assert (answer.status, answer.error["code"]) == (429, "insufficient_quota")
                assert answer.headers["x-should-retry"] == "false"
            assert path.sent == 1

    @pytest.mark.parametrize(
        "url", ["https://127.0.0.1/a.png", "http://a.example/a.png", "https://a.invalid/image/a.png"]
    )
    async def test_an_address_that_is_not_fetched_is_named(self, url: str) -> None:
        async with whole_path() as path:
            answer = await chat(path, [{"type": "image_url", "image_url": {"url": url}}])
            assert (answer.status, answer.error["param"]) == (400, "messages[0].content[0].image_url.url")
            assert path.sent == 0

    async def test_a_missing_model_is_not_found(self) -> None:
        async with whole_path() as path:
            answer = await chat(path, model="gpt-4o")
        error = answer.error
        assert (answer.status, error["code"], error["param"]) == (404, "model_not_found", "model")

    async def test_a_full_minute_names_the_exact_time(self) -> None:
        async with whole_path(GEMINI_RPM="1", LEDGER_WINDOW_SECONDS="60") as path:
            await chat(path)
            for stream in (False, True):
                answer = await chat(path, stream=stream, timeout_s=1)
                assert (answer.status, answer.error["code"]) == (429, "rate_limit_exceeded")
                exact_ms = int(answer.headers["retry-after-ms"])
                assert (
                    1000 * (int(answer.headers["retry-after"]) - 1)
                    < exact_ms
                    <= 1000 * int(answer.headers["retry-after"])
                )

    async def test_a_spent_day_is_insufficient_quota(self) -> None:
        async with whole_path(GEMINI_RPD="1") as path:
            await chat(path)
            answer = await chat(path)
        assert (answer.status, answer.error["type"]) == (429, "insufficient_quota")
        assert answer.headers["x-should-retry"] == "false"

    async def test_a_prompt_that_is_too_long(self) -> None:
        async with whole_path(GEMINI_TPM="unlimited", REQUEST_TIMEOUT_SECONDS="60") as path:
            answer = await chat(path, "harbour " * 1_100_000, timeout_s=60)
        assert (answer.status, answer.error["code"]) == (400, "context_length_exceeded")


class TestBrokenStreams:
    async def test_a_cut_stream_ends_with_an_error(self) -> None:
        async with whole_path() as path:
            chunks = events(await chat(path, "[[fault:cut]] [[words:200]]", stream=True))
        assert text(chunks) != ""
        assert (chunks[-1]["error"]["type"], chunks[-1]["error"]["param"]) == ("server_error", None)

    async def test_a_caller_that_leaves_ends_all_streams(self) -> None:
        async with whole_path() as path:
            into = Answer()
            task = asyncio.create_task(chat(path, "[[fault:slow]] [[words:200]]", n=2, stream=True, into=into))
            await asyncio.wait_for(into.arrived.wait(), 20)
            assert path.open_upstream == 2
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await eventually(lambda: path.open_upstream == 0)
            await path.quiet()
