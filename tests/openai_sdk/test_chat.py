"""Chat completions as the users of openai-python write them: text, streams, tools, parsed objects, images, sound, files."""

from __future__ import annotations

import base64
import io
import json
import struct
import wave
import zlib
from typing import Any, Literal

import openai
import pytest
from pydantic import BaseModel

from tests.openai_sdk.conftest import Client

MODEL = "gemini-3.8-flash"
CREATE = "chat.completions.create"
ROUNDS = 6
HELLO: Any = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello, lighthouse"}]


def tool(name: str, *parameters: str) -> Any:
    properties = {parameter: {"type": "string"} for parameter in parameters}
    schema = {"type": "object", "properties": properties, "required": list(parameters), "additionalProperties": False}
    return {"type": "function", "function": {"name": name, "parameters": schema, "strict": True}}


TOOLS = [tool("get_weather", "city"), tool("get_time", "city")]


def png(side: int = 8) -> bytes:
    """A grey square."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = zlib.compress((b"\0" + b"\x80" * side) * side)
    head = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def wav() -> bytes:
    """A tenth of a second of silence."""
    file = io.BytesIO()
    with wave.open(file, "wb") as written:
        written.setnchannels(1)
        written.setsampwidth(2)
        written.setframerate(8_000)
        written.writeframes(bytes(1_600))
    return file.getvalue()


def url_of(data: bytes, mime_type: str) -> str:
    return f"data:{mime_type};base64,{base64.b64encode(data).decode()}"


async def test_chat(client: Client) -> None:
    answer = await client(CREATE, model=MODEL, messages=HELLO, temperature=0.2, max_completion_tokens=500, user="ada")
    (choice,) = answer.choices
    assert choice.message.role == "assistant"
    assert "lighthouse" in choice.message.content
    assert (choice.finish_reason, choice.message.refusal, choice.message.tool_calls) == ("stop", None, None)
    assert answer.id.startswith("chatcmpl-")
    assert (answer.object, answer.model) == ("chat.completion", MODEL)
    usage = answer.usage
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens
    assert 0 < usage.completion_tokens_details.reasoning_tokens < usage.completion_tokens


async def test_stream_equals_the_whole_answer(client: Client) -> None:
    whole = await client(CREATE, model=MODEL, messages=HELLO, seed=7)
    chunks = await client.events(
        CREATE, model=MODEL, messages=HELLO, seed=7, stream=True, stream_options={"include_usage": True}
    )
    *parts, last = chunks
    assert "".join(chunk.choices[0].delta.content or "" for chunk in parts) == whole.choices[0].message.content
    assert parts[0].choices[0].delta.role == "assistant"
    assert [chunk.choices[0].finish_reason for chunk in parts] == [None] * (len(parts) - 1) + ["stop"]
    assert (last.choices, last.usage) == ([], whole.usage)
    assert all(chunk.usage is None for chunk in parts)
    assert len({(chunk.id, chunk.created, chunk.model) for chunk in chunks}) == 1


async def test_stream_helper_accumulates_the_answer(client: Client) -> None:
    """`chat.completions.stream` builds the answer from the chunks, which it checks on the way."""
    manager = client.sdk.chat.completions.stream(model=MODEL, messages=HELLO)
    if client.is_sync:
        with manager as stream:  # type: ignore[union-attr]
            stream.until_done()
            final = stream.get_final_completion()
    else:
        async with manager as stream:  # type: ignore[union-attr]
            await stream.until_done()
            final = await stream.get_final_completion()
    assert "lighthouse" in (final.choices[0].message.content or "")


async def test_several_choices_are_several_answers(client: Client) -> None:
    answer = await client(CREATE, model=MODEL, messages=HELLO, n=3)
    assert [choice.index for choice in answer.choices] == [0, 1, 2]
    assert all(choice.message.content for choice in answer.choices)
    chunks = await client.events(CREATE, model=MODEL, messages=HELLO, n=2, stream=True)
    assert {chunk.choices[0].index for chunk in chunks} == {0, 1}


async def test_stop_ends_the_text(client: Client) -> None:
    answer = await client(CREATE, model=MODEL, messages=HELLO, stop=["lighthouse"])
    assert "lighthouse" not in answer.choices[0].message.content
    assert answer.choices[0].finish_reason == "stop"


async def test_reasoning_effort(client: Client) -> None:
    """More effort takes more tokens of thinking."""
    spent = [
        (
            await client(CREATE, model="gemini-3.6-flash", messages=HELLO, reasoning_effort=effort)
        ).usage.completion_tokens_details.reasoning_tokens
        for effort in ("low", "high")
    ]
    assert spent[0] < spent[1]


# -- tools -------------------------------------------------------------------------------------------------------------


def results(message: Any) -> list[dict[str, Any]]:
    return [
        {"role": "tool", "tool_call_id": call.id, "content": json.dumps({"of": call.function.name, "is": "fine"})}
        for call in message.tool_calls
    ]


@pytest.mark.parametrize("cut", [None, 64, 40])
async def test_tool_loop_to_its_end(client: Client, cut: int | None) -> None:
    """Parallel calls over several turns. Gemini demands the thought signature of each turn back, and OpenAI's messages have
    no field for it; some clients cut ids."""
    messages: list[Any] = [{"role": "user", "content": "Use get_weather and get_time for Oslo"}]
    for turn in range(ROUNDS):
        answer = await client(CREATE, model=MODEL, messages=messages, tools=TOOLS)
        message = answer.choices[0].message
        assert answer.choices[0].finish_reason == "tool_calls"
        assert [call.function.name for call in message.tool_calls] == ["get_weather", "get_time"]
        assert all(json.loads(call.function.arguments).keys() == {"city"} for call in message.tool_calls)
        sent = message.model_dump(include={"role", "content", "tool_calls"}, exclude_none=True)
        replies = results(message)
        if cut is not None:
            for one, reply in zip(sent["tool_calls"], replies, strict=True):
                one["id"] = reply["tool_call_id"] = one["id"][:cut]
        messages += [sent, *replies]
        if turn < ROUNDS - 1:
            messages.append({"role": "user", "content": f"Once more: get_weather and get_time, round {turn}"})
    end = await client(CREATE, model=MODEL, messages=messages, tools=TOOLS)
    assert end.choices[0].finish_reason == "stop"
    assert end.choices[0].message.content


async def test_tool_calls_in_a_stream(client: Client) -> None:
    chunks = await client.events(
        CREATE,
        model=MODEL,
        messages=[{"role": "user", "content": "Use get_weather and get_time for Oslo"}],
        tools=TOOLS,
        stream=True,
    )
    deltas = [call for chunk in chunks for call in chunk.choices[0].delta.tool_calls or ()]
    assert {delta.index: delta.function.name for delta in deltas if delta.function.name} == {
        0: "get_weather",
        1: "get_time",
    }
    arguments = "".join(delta.function.arguments or "" for delta in deltas if delta.index == 0)
    assert json.loads(arguments).keys() == {"city"}
    assert chunks[-1].choices[0].finish_reason == "tool_calls"


async def test_tool_choice(client: Client) -> None:
    choice = {"type": "function", "function": {"name": "get_time"}}
    asked: Any = {"model": MODEL, "messages": [{"role": "user", "content": "What is it?"}], "tools": TOOLS}
    forced = await client(CREATE, **asked, tool_choice=choice)
    assert [call.function.name for call in forced.choices[0].message.tool_calls] == ["get_time"]
    asked["messages"] = [{"role": "user", "content": "Use get_weather"}]
    none = await client(CREATE, **asked, tool_choice="none")
    assert none.choices[0].message.tool_calls is None


# -- objects -----------------------------------------------------------------------------------------------------------


class Step(BaseModel):
    explanation: str
    kind: Literal["setup", "proof"] | None


class Solution(BaseModel):
    steps: list[Step]
    answer: int
    note: str | None = None


async def test_parsed_structured_output(client: Client) -> None:
    answer = await client(
        "chat.completions.parse",
        model=MODEL,
        messages=[{"role": "user", "content": "Solve 2x = 4"}],
        response_format=Solution,
    )
    assert isinstance(answer.choices[0].message.parsed, Solution)


async def test_answer_that_does_not_conform_is_repaired(client: Client) -> None:
    answer = await client(
        "chat.completions.parse",
        model=MODEL,
        messages=[{"role": "user", "content": client.fresh("[[fault:wrong_jsonx1]] Solve 3x =")}],
        response_format=Solution,
    )
    assert isinstance(answer.choices[0].message.parsed, Solution)


async def test_parsed_tool_arguments(client: Client) -> None:
    answer = await client(
        "chat.completions.parse",
        model=MODEL,
        messages=[{"role": "user", "content": "Use Solution"}],
        tools=[openai.pydantic_function_tool(Solution)],
    )
    assert isinstance(answer.choices[0].message.tool_calls[0].function.parsed_arguments, Solution)


async def test_json_object(client: Client) -> None:
    answer = await client(CREATE, model=MODEL, messages=HELLO, response_format={"type": "json_object"})
    assert isinstance(json.loads(answer.choices[0].message.content), dict)


# -- images, sound, files ----------------------------------------------------------------------------------------------


async def test_image_audio_and_document_are_read(client: Client) -> None:
    """Each kind of part adds tokens of its own to the prompt."""
    parts: list[Any] = [
        {"type": "image_url", "image_url": {"url": url_of(png(), "image/png"), "detail": "low"}},
        {"type": "input_audio", "input_audio": {"data": base64.b64encode(wav()).decode(), "format": "wav"}},
        {"type": "file", "file": {"filename": "a.txt", "file_data": url_of(b"A lighthouse.", "text/plain")}},
    ]
    text = {"type": "text", "text": "What is this?"}
    alone = await client(CREATE, model=MODEL, messages=[{"role": "user", "content": [text]}])
    for part in parts:
        answer = await client(CREATE, model=MODEL, messages=[{"role": "user", "content": [text, part]}])
        assert answer.choices[0].message.content
        assert answer.usage.prompt_tokens > alone.usage.prompt_tokens, part["type"]


async def test_stored_file_is_read(client: Client) -> None:
    stored = await client("files.create", file=("square.png", png()), purpose="vision")
    content = [{"type": "file", "file": {"file_id": stored.id}}, {"type": "text", "text": "What is this?"}]
    answer = await client(CREATE, model=MODEL, messages=[{"role": "user", "content": content}])
    assert "image" in answer.choices[0].message.content


async def test_generated_image_is_linked_to(client: Client) -> None:
    answer = await client(CREATE, model="gemini-3-pro-image", messages=[{"role": "user", "content": "A lighthouse"}])
    assert "](http://" in answer.choices[0].message.content
