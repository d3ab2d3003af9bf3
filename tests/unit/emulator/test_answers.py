"""What the offline Gemini says, and how it obeys the configuration."""

from __future__ import annotations

import json

import pytest

from shared.emulator import tokens

from .conftest import Asker


async def test_max_output_tokens_include_thinking(ask: Asker) -> None:
    _, whole = await ask.ask()
    thoughts = whole["usageMetadata"]["thoughtsTokenCount"]
    _, body = await ask.ask(maxOutputTokens=thoughts + 10)
    candidate, usage = body["candidates"][0], body["usageMetadata"]
    assert candidate["finishReason"] == "MAX_TOKENS"
    assert usage["thoughtsTokenCount"] + usage["candidatesTokenCount"] == thoughts + 10
    text = candidate["content"]["parts"][0]["text"]
    assert 0 < tokens.count_text(text) <= 10


@pytest.mark.parametrize("method", ["generateContent", "streamGenerateContent"])
async def test_when_thinking_takes_everything_the_content_is_empty(ask: Asker, method: str) -> None:
    _, body = await ask.ask(method=method, maxOutputTokens=20)
    body = body[0] if isinstance(body, list) else body
    assert body["candidates"] == [{"content": {"role": "model"}, "finishReason": "MAX_TOKENS", "index": 0}]
    usage = body["usageMetadata"]
    assert usage["thoughtsTokenCount"] == 20
    assert "candidatesTokenCount" not in usage
    assert usage["totalTokenCount"] == usage["promptTokenCount"] + 20


async def test_more_thinking_costs_more_and_a_budget_bounds_it(ask: Asker) -> None:
    async def thoughts(**thinking: object) -> int:
        _, body = await ask.ask(thinkingConfig=thinking)
        return int(body["usageMetadata"].get("thoughtsTokenCount", 0))

    low, high = await thoughts(thinkingLevel="LOW"), await thoughts(thinkingLevel="HIGH")
    assert 0 < low < high
    assert await thoughts(thinkingBudget=7) == 7


async def test_a_stop_sequence_ends_the_text(ask: Asker) -> None:
    whole = await ask.text("alpha beta gamma")
    cut = await ask.text("alpha beta gamma", stopSequences=["gamma", "nowhere"])
    assert cut == whole[: whole.index("gamma")]


async def test_candidates_differ_and_are_all_billed(ask: Asker) -> None:
    _, one = await ask.ask()
    _, body = await ask.ask(candidateCount=3)
    texts = {candidate["content"]["parts"][0]["text"] for candidate in body["candidates"]}
    assert [candidate["index"] for candidate in body["candidates"]] == [0, 1, 2]
    assert len(texts) == 3
    assert body["usageMetadata"]["candidatesTokenCount"] > 2 * one["usageMetadata"]["candidatesTokenCount"]
    async with ask.post(method="streamGenerateContent", candidateCount=2) as response:
        frames = await response.json()
    ends = [f["candidates"][0]["index"] for f in frames if "finishReason" in f["candidates"][0]]
    assert ends == [0, 1]


async def test_the_seed_is_part_of_the_question(ask: Asker) -> None:
    answers = {await ask.text(seed=seed) for seed in range(12)}
    assert len(answers) > 1
    assert await ask.text(seed=3) == await ask.text(seed=3)


@pytest.mark.parametrize("frames", [1, 2, 20, 200])
async def test_a_stream_has_the_requested_number_of_frames(ask: Asker, frames: int) -> None:
    prompt = f"[[words:300]] [[frames:{frames}]]"
    async with ask.post(prompt, method="streamGenerateContent") as response:
        found = await response.json()
    assert len(found) == max(2, frames)
    texts = [frame["candidates"][0]["content"]["parts"][0]["text"] for frame in found]
    assert (all(texts[:-1]), texts[-1]) == (True, "")
    assert "".join(texts) == await ask.text(prompt)


async def test_words_ask_for_a_longer_answer(ask: Asker) -> None:
    assert len((await ask.text("[[words:500]]", maxOutputTokens=60_000)).split()) == 500
    assert len((await ask.text("[[words:5]]")).split()) == 5


async def test_json_without_a_schema_is_an_object(ask: Asker) -> None:
    assert isinstance(json.loads(await ask.text(responseMimeType="application/json")), dict)


async def test_a_streamed_json_answer_is_the_same_json(ask: Asker) -> None:
    config = {
        "responseMimeType": "application/json",
        "responseJsonSchema": {"type": "array", "items": {"type": "string"}, "minItems": 30},
    }
    async with ask.post(method="streamGenerateContent", **config) as response:
        frames = await response.json()
    text = "".join(frame["candidates"][0]["content"]["parts"][0]["text"] for frame in frames)
    assert text == await ask.text(**config)
    assert len(json.loads(text)) >= 30


async def test_mode_any_always_calls_one_of_the_allowed_functions(ask: Asker) -> None:
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    body = {
        "contents": [{"parts": [{"text": "Hello"}]}],
        "tools": [{"functionDeclarations": [{"name": "a"}, {"name": "b", "parametersJsonSchema": schema}]}],
        "toolConfig": {"functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": ["b"]}},
    }
    for method in ("generateContent", "streamGenerateContent"):
        _, answer = await ask.ask(method=method, body=body)
        first = answer[0] if isinstance(answer, list) else answer
        part = first["candidates"][0]["content"]["parts"][0]
        assert part["functionCall"]["name"] == "b"
        assert isinstance(part["functionCall"]["args"]["n"], int)
        assert part["thoughtSignature"]
        last = answer[-1] if isinstance(answer, list) else answer
        assert last["candidates"][0]["finishReason"] == "STOP"


def test_a_token_count_is_bytes_by_four_give_or_take_a_seventh() -> None:
    for text in ("word " * n for n in range(10, 200)):
        assert 0.85 * len(text) / 4 <= tokens.count_text(text) <= 1.15 * len(text) / 4 + 1
    assert tokens.count_text("日本語" * 100) > tokens.count_text("abc" * 100)
    assert (tokens.count_text(""), tokens.count_text("a")) == (0, 1)
    assert len({tokens.count_text(f"{n:04d}" * 100) for n in range(50)}) > 10, "the content decides"


def test_the_longest_prefix_never_counts_as_more_than_asked_for() -> None:
    for size in range(60):
        assert tokens.count_text(tokens.longest_prefix("häßliche Wörter, 日本語. " * 20, size)) <= size
