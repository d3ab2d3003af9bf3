"""The chunks of a streamed chat completion."""

from __future__ import annotations

from typing import Any

import orjson

from shared.generation import JsonObject, Usage
from shared.openai_format.answer import Blob, Contents, Head, Link, ToolCall
from shared.openai_format.chunks import DONE, Chunks, usage_chunk
from shared.openai_format.finish import Finish
from shared.openai_format.usage import usage_body

HEAD = Head("chatcmpl-1", 1_800_000_000, 'gemini "3.8"')
BEGIN = {"role": "assistant", "content": "", "refusal": None}


def text(content: str) -> Contents:
    return Contents([content], "", [])


def chunks(data: bytes) -> list[JsonObject]:
    events = data.decode().split("\n\n")
    assert events.pop() == ""
    return [orjson.loads(event.removeprefix("data: ")) for event in events]


def deltas(data: bytes) -> list[Any]:
    return [chunk["choices"][0]["delta"] for chunk in chunks(data)]


def test_a_chunk_is_openais() -> None:
    made = Chunks(HEAD, index=2)
    made.of_contents(text("a"))
    assert chunks(made.of_contents(text('„b"'))) == [
        {
            "id": "chatcmpl-1",
            "object": "chat.completion.chunk",
            "created": 1_800_000_000,
            "model": 'gemini "3.8"',
            "choices": [{"index": 2, "delta": {"content": '„b"'}, "logprobs": None, "finish_reason": None}],
        }
    ]


def test_the_first_chunk_has_the_role() -> None:
    made = Chunks(HEAD)
    assert deltas(made.of_contents(text("a")) + made.of_contents(text("b"))) == [
        BEGIN,
        {"content": "a"},
        {"content": "b"},
    ]


def test_tool_calls_are_numbered_over_the_frames() -> None:
    made = Chunks(HEAD)
    first = made.of_contents(
        Contents([], "", [ToolCall("f", '{"a":1}', "c2ln"), ToolCall("g", "{}", None)]), ["x", "y"]
    )
    second = made.of_contents(Contents([], "", [ToolCall("h", "{}", None)]), ["z"])
    begin, *calls = deltas(first + second)
    assert begin == {**BEGIN, "content": None}
    assert [call["tool_calls"][0]["index"] for call in calls] == [0, 1, 2]
    assert calls[0] == {
        "tool_calls": [{"index": 0, "id": "x", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}}]
    }
    assert made.calls == 3


def test_thoughts_come_before_the_text_if_asked_for() -> None:
    contents = Contents(["a"], "Hm.", [])
    assert deltas(Chunks(HEAD, reasoning=True).of_contents(contents)) == [
        BEGIN,
        {"reasoning_content": "Hm."},
        {"content": "a"},
    ]
    assert deltas(Chunks(HEAD).of_contents(contents)) == [BEGIN, {"content": "a"}]


def test_a_frame_of_thoughts_alone_is_not_forwarded() -> None:
    made = Chunks(HEAD)
    assert made.of_contents(Contents([], "Hm.", [])) == b""
    assert deltas(made.of_contents(text("a")))[0] == BEGIN


def test_an_image_is_a_link_in_a_delta_of_its_own() -> None:
    contents = Contents(["a", Blob("image/png", "aWNo"), "b"], "", [])
    assert deltas(Chunks(HEAD).of_contents(contents, links=[Link("/image/1.png", "image/png")])) == [
        BEGIN,
        {"content": "a"},
        {
            "content": "![image](/image/1.png)",
            "images": [{"type": "image_url", "image_url": {"url": "/image/1.png"}}],
        },
        {"content": "b"},
    ]


def test_the_last_chunk_has_the_finish_reason() -> None:
    made = Chunks(HEAD)
    made.of_contents(text("a"))
    (last,) = chunks(made.of_end(Finish("length")))
    assert last["choices"] == [{"index": 0, "delta": {}, "logprobs": None, "finish_reason": "length"}]


def test_a_refusal_is_told_before_the_end() -> None:
    made = chunks(Chunks(HEAD).of_end(Finish("content_filter", "Blocked.")))
    assert [chunk["choices"][0]["delta"] for chunk in made] == [
        {**BEGIN, "content": None},
        {"refusal": "Blocked."},
        {},
    ]
    assert made[-1]["choices"][0]["finish_reason"] == "content_filter"


def test_usage_is_null_before_the_chunk_that_has_it() -> None:
    made = Chunks(HEAD, usage=True)
    data = made.of_contents(text("a")) + made.of_end(Finish("stop"))
    assert [chunk["usage"] for chunk in chunks(data)] == [None, None, None]
    usage = usage_body(Usage(9, 2, 1, 12), 0)
    (last,) = chunks(usage_chunk(HEAD, usage))
    assert (last["choices"], last["usage"], last["id"]) == ([], usage, "chatcmpl-1")


def test_without_usage_no_chunk_has_the_field() -> None:
    made = Chunks(HEAD)
    assert all("usage" not in chunk for chunk in chunks(made.of_contents(text("a")) + made.of_end(Finish("stop"))))


def test_content_is_noticed() -> None:
    for data, found in ((Contents(["a"], "", []), True), (Contents([], "Hm.", []), False)):
        made = Chunks(HEAD)
        made.of_contents(data)
        assert made.has_content == found


def test_the_tail_is_the_clients_end_marker() -> None:
    assert DONE == b"data: [DONE]\n\n"
