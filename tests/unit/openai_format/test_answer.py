"""A native answer as a chat completion."""

from __future__ import annotations

import json
from typing import Any

import pytest

from shared.errors import QueueTimeout
from shared.generation import UNKNOWN_USAGE, JsonObject, Usage
from shared.openai_format.answer import Blob, Head, Link, choice_body, completion, contents_of, message_body
from shared.openai_format.finish import Finish
from shared.openai_format.usage import usage_body

STOP = Finish("stop")
PNG = {"inlineData": {"mimeType": "image/png", "data": "aWNo"}}
LINK = Link("https://a.example/image/1.png", "image/png")


def body(*parts: Any, **candidate: Any) -> JsonObject:
    return {"candidates": [{"content": {"role": "model", "parts": list(parts)}, **candidate}]}


def message(*parts: Any, finish: Finish = STOP, reasoning: bool = False, links: tuple[Link, ...] = ()) -> JsonObject:
    contents = contents_of(body(*parts))
    ids = [f"call_{at}" for at in range(len(contents.calls))]
    return message_body(contents, finish, ids, links, reasoning=reasoning)


def test_texts_are_joined() -> None:
    expected = {"role": "assistant", "content": "Hello, you", "refusal": None}
    assert message({"text": "Hello, "}, {"text": "you"}, {"text": "", "thoughtSignature": "c2ln"}) == expected


def test_thoughts_are_only_in_an_answer_that_asks_for_them() -> None:
    parts = ({"text": "Hm. ", "thought": True}, {"text": "Yes.", "thought": True}, {"text": "Hello"})
    assert message(*parts) == {"role": "assistant", "content": "Hello", "refusal": None}
    assert message(*parts, reasoning=True)["reasoning_content"] == "Hm. Yes."
    assert "reasoning_content" not in message({"text": "Hello"}, reasoning=True)


def test_tool_calls_have_ids_and_arguments_as_json() -> None:
    made = message(
        {"functionCall": {"name": "weather", "args": {"city": "Köln", "days": 2}}, "thoughtSignature": "c2ln"},
        {"functionCall": {"name": "now"}},
        finish=Finish("tool_calls"),
    )
    assert made == {
        "role": "assistant",
        "content": None,
        "refusal": None,
        "tool_calls": [
            {
                "id": "call_0",
                "type": "function",
                "function": {"name": "weather", "arguments": '{"city":"Köln","days":2}'},
            },
            {"id": "call_1", "type": "function", "function": {"name": "now", "arguments": "{}"}},
        ],
    }


def test_a_text_beside_tool_calls_stays() -> None:
    assert message({"text": "Let me see."}, {"functionCall": {"name": "now"}})["content"] == "Let me see."


def test_the_signature_of_a_call_is_kept() -> None:
    calls = contents_of(
        body({"functionCall": {"name": "a"}, "thoughtSignature": "c2ln"}, {"functionCall": {"name": "b"}})
    ).calls
    assert [call.signature for call in calls] == ["c2ln", None]


def test_arguments_keep_their_digits() -> None:
    arguments = '{"id":9007199254740993,"big":18446744073709551615,"price":19.99,"whole":1.0,"tiny":1e-7}'
    (call,) = contents_of(body({"functionCall": {"name": "f", "args": json.loads(arguments)}})).calls
    assert call.arguments == arguments


def test_arguments_may_be_nested_deeply() -> None:
    deep: Any = 1
    for _ in range(400):
        deep = [deep]
    (call,) = contents_of(body({"functionCall": {"name": "f", "args": {"a": deep}}})).calls
    assert json.loads(call.arguments) == {"a": deep}


@pytest.mark.parametrize("called", [None, [], "f", {}, {"name": None, "args": None}, {"name": 5, "args": ""}])
def test_an_odd_call_is_read_as_far_as_possible(called: Any) -> None:
    calls = contents_of(body({"functionCall": called})).calls
    assert [(call.name, call.arguments) for call in calls] == ([("", "{}")] if isinstance(called, dict) else [])


@pytest.mark.parametrize(("arguments", "expected"), [('{"a": 1}', '{"a": 1}'), ([1], "[1]"), (0, "0")])
def test_arguments_of_another_type_are_kept(arguments: Any, expected: str) -> None:
    """They are paid for; a client finds out what is wrong with them."""
    (call,) = contents_of(body({"functionCall": {"name": "f", "args": arguments}})).calls
    assert call.arguments == expected


def test_an_image_is_a_link_at_its_place_and_in_a_list() -> None:
    made = message({"text": "Here: "}, PNG, {"text": " Done."}, links=(LINK,))
    assert made["content"] == "Here: ![image](https://a.example/image/1.png) Done."
    assert made["images"] == [{"type": "image_url", "image_url": {"url": LINK.url}}]


def test_a_file_that_is_no_image_is_a_link_too() -> None:
    made = message({"inlineData": {"mimeType": "audio/wav", "data": "UklG"}}, links=(Link("data:,", "audio/wav"),))
    assert made["content"] == "[audio](data:,)"


def test_images_of_thoughts_are_no_part_of_the_answer() -> None:
    assert contents_of(body({**PNG, "thought": True}, PNG)).blobs == [Blob("image/png", "aWNo")]


@pytest.mark.parametrize("blob", [None, {}, {"data": ""}, {"data": 5}, {"mimeType": "image/png"}])
def test_a_file_without_data_is_none(blob: Any) -> None:
    assert contents_of(body({"inlineData": blob})).pieces == []


def test_a_file_without_a_type_is_kept() -> None:
    assert contents_of(body({"inlineData": {"data": "aWNo"}})).pieces == [Blob("application/octet-stream", "aWNo")]


@pytest.mark.parametrize(("parts", "content"), [((), None), (({"text": "So far"},), "So far")])
def test_a_refusal_leaves_the_text_so_far(parts: tuple[Any, ...], content: str | None) -> None:
    made = message(*parts, finish=Finish("content_filter", "Blocked."))
    assert (made["content"], made["refusal"]) == (content, "Blocked.")


def test_an_empty_answer_is_an_empty_text() -> None:
    assert message()["content"] == ""


def test_only_candidate_0_is_read() -> None:
    other = {"index": 1, "content": {"parts": [{"text": "other"}]}}
    assert contents_of({"candidates": [other, *body({"text": "mine"})["candidates"]]}).pieces == ["mine"]


def test_a_completion_is_openais() -> None:
    head = Head("chatcmpl-1", 1_800_000_000, "gemini-3.8-flash")
    choice = choice_body(0, message({"text": "Hello"}), STOP)
    assert completion(head, [choice], usage_body(Usage(9, 2, 1, 12), 4)) == {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1_800_000_000,
        "model": "gemini-3.8-flash",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "Hello", "refusal": None},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": {
            "prompt_tokens": 9,
            "completion_tokens": 3,
            "total_tokens": 12,
            "prompt_tokens_details": {"cached_tokens": 4},
            "completion_tokens_details": {"reasoning_tokens": 1},
        },
    }


def test_choices_that_failed_are_listed() -> None:
    body = completion(Head("chatcmpl-1", 1, "m"), [], {}, [(1, QueueTimeout("Later."))])
    assert body["errors"] == [{"index": 1, "code": "queue_timeout", "message": "Later."}]


def test_what_was_not_counted_is_null() -> None:
    assert usage_body(UNKNOWN_USAGE, None) == {
        "prompt_tokens": None,
        "completion_tokens": None,
        "total_tokens": None,
        "prompt_tokens_details": {"cached_tokens": None},
        "completion_tokens_details": {"reasoning_tokens": None},
    }
    assert usage_body(Usage(9, 2, None, None), 0)["completion_tokens"] is None
