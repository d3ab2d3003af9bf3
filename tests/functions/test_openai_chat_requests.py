"""What a chat completion may ask for reaches Gemini: over HTTP, the gateway and the offline Gemini, which checks its fields."""

from __future__ import annotations

import base64
from typing import Any

import orjson
import pytest

from tests.support.edge import Answer
from tests.support.image_samples import written
from tests.support.service_accounts import vertex_account
from tests.support.whole_path import WholePath, whole_path

PNG = base64.b64encode(written("PNG")).decode()
PDF = base64.b64encode(b"%PDF-1.7\n").decode()
SOUND = base64.b64encode(b"RIFF\x01\x02\x03").decode()
IMAGE = f"data:image/png;base64,{PNG}"
HELLO = {"role": "user", "content": "Hello"}
SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"anyOf": [{"type": "integer"}, {"type": "null"}]}},
    "required": ["name", "age"],
    "additionalProperties": False,
}
TOOLS = [
    {"type": "function", "function": {"name": "weather", "parameters": SCHEMA, "strict": True}},
    {"type": "function", "function": {"name": "time", "parameters": {"type": "object", "properties": {}}}},
]
CALLS = {
    "role": "assistant",
    "content": None,
    "tool_calls": [
        {"id": "a", "type": "function", "function": {"name": "weather", "arguments": '{"name": "Paris", "age": null}'}},
        {"id": "b", "type": "function", "function": {"name": "time", "arguments": ""}},
    ],
}
RESULTS = [
    {"role": "tool", "tool_call_id": "b", "content": '{"hour": 9}'},
    {"role": "tool", "tool_call_id": "a", "content": [{"type": "text", "text": "sunny"}]},
]


def parts(*content: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": [{"type": "text", "text": "What is it?"}, *content]}]}


ASKED: dict[str, dict[str, Any]] = {
    "instructions": {
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "developer", "content": "Be kind."},
            HELLO,
            {"role": "assistant", "content": "Hi"},
            {"role": "system", "content": "Now in French."},
            HELLO,
        ]
    },
    "an image": parts({"type": "image_url", "image_url": {"url": IMAGE, "detail": "low"}}),
    "a recording": parts({"type": "input_audio", "input_audio": {"data": SOUND, "format": "mp3"}}),
    "a file": parts({"type": "file", "file": {"file_data": f"data:application/pdf;base64,{PDF}", "filename": "a.pdf"}}),
    "a video": parts({"type": "video_url", "video_url": {"url": "https://youtu.be/x"}}),
    "settings": {
        "temperature": 0.5,
        "top_p": 0.9,
        "top_k": 20,
        "presence_penalty": 0.1,
        "frequency_penalty": 0.1,
        "seed": 2**40,
        "stop": ["END"],
        "max_completion_tokens": 4_096,
        "modalities": ["text"],
    },
    "effort": {"reasoning_effort": "max"},
    "no effort": {"reasoning_effort": "none"},
    "thoughts": {"google": {"thinking_config": {"include_thoughts": True, "thinking_level": "low"}}},
    "safe mode": {"safe_mode": True},
    "web search": {"web_search_options": {"search_context_size": "low"}},
    "an object": {"response_format": {"type": "json_object"}},
    "a strict schema": {
        "response_format": {"type": "json_schema", "json_schema": {"name": "person", "strict": True, "schema": SCHEMA}}
    },
    "a call": {"tools": TOOLS, "tool_choice": "required"},
    "a function": {"tools": TOOLS, "tool_choice": {"type": "function", "function": {"name": "time"}}},
    "allowed tools": {
        "tools": TOOLS,
        "tool_choice": {
            "type": "allowed_tools",
            "allowed_tools": {"mode": "auto", "tools": [{"type": "function", "function": {"name": "time"}}]},
        },
    },
    "results": {"tools": TOOLS, "messages": [HELLO, CALLS, *RESULTS]},
    "results and more": {
        "tools": TOOLS,
        "messages": [HELLO, CALLS, *RESULTS, {"role": "assistant", "content": "9"}, HELLO],
    },
    "prompts": {"prompts": [{"role": "user", "text": "What is it?", "files": [{"data": IMAGE, "type": "image"}]}]},
}


async def ask(path: WholePath, values: dict[str, Any]) -> Answer:
    body = {"model": "gemini-3.8-flash", **({} if "prompts" in values else {"messages": [HELLO]}), **values}
    return await path.send("POST", "/v1/chat/completions", orjson.dumps(body))


@pytest.mark.parametrize("backend", ["gemini", "vertex"])
async def test_gemini_takes_what_is_asked_for(backend: str) -> None:
    accounts, others = ({}, [vertex_account()]) if backend == "vertex" else (None, [])
    async with whole_path(accounts=accounts, others=others) as path:
        for name, values in ASKED.items():
            answer = await ask(path, values)
            assert answer.status == 200, f"{name}: {answer.body.decode()}"
            message = answer.json()["choices"][0]["message"]
            assert message["content"] or message["tool_calls"], name
