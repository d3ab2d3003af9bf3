"""Google's own client, google-genai, finds in the offline Gemini what it finds at Google."""

from __future__ import annotations

import asyncio
import enum
import json

import pytest
from google import genai
from google.genai import errors, types
from google.genai.types import GenerateContentConfig, HttpOptions
from pydantic import BaseModel

from shared.emulator import EmulatorConfig, Limits, Project, running

from .conftest import MODEL, Asker


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Scene(BaseModel):
    title: str
    minutes: int
    colours: list[Colour]
    next: str | None = None


async def test_an_answer_names_the_prompt_and_the_model_and_adds_up(client: genai.Client) -> None:
    response = await client.aio.models.generate_content(model=MODEL, contents="Why is the sky blue?")
    usage = response.usage_metadata
    assert "Why is the sky blue?" in response.text
    assert "offline Gemini" in response.text
    assert response.model_version == MODEL
    assert response.response_id
    parts = (usage.prompt_token_count, usage.candidates_token_count, usage.thoughts_token_count)
    assert all(parts)
    assert usage.total_token_count == sum(parts)
    again = await client.aio.models.generate_content(model=MODEL, contents="Why is the sky blue?")
    assert again.text == response.text


async def test_stream_has_the_same_text_and_a_finish_reason(client: genai.Client) -> None:
    whole = await client.aio.models.generate_content(model=MODEL, contents="Tell me more")
    stream = await client.aio.models.generate_content_stream(model=MODEL, contents="Tell me more")
    chunks = [chunk async for chunk in stream]
    assert len(chunks) > 3
    assert "".join(chunk.text or "" for chunk in chunks) == whole.text
    assert {chunk.response_id for chunk in chunks} == {chunks[0].response_id}
    assert [chunk.candidates[0].finish_reason for chunk in chunks[:-1]] == [None] * (len(chunks) - 1)
    assert chunks[-1].candidates[0].finish_reason == types.FinishReason.STOP
    assert chunks[-1].candidates[0].content.parts[0].thought_signature
    assert chunks[-1].usage_metadata == whole.usage_metadata


async def test_the_synchronous_client_works_too(client: genai.Client) -> None:
    response = await asyncio.to_thread(client.models.generate_content, model=MODEL, contents="Hello")
    assert "Hello" in response.text


@pytest.mark.parametrize("version", ["v1", "v1beta"])
async def test_models_are_listed_page_by_page_and_found_by_name(ask: Asker, version: str) -> None:
    options = HttpOptions(base_url=ask.emulator.url, api_version=version)
    client = genai.Client(api_key="k", http_options=options)
    names = [model.name async for model in await client.aio.models.list(config={"page_size": 5})]
    assert len(names) == len(set(names)) > 20
    assert f"models/{MODEL}" in names
    assert ("models/gemini-flash-latest" in names) == (version == "v1beta")
    found = await client.aio.models.get(model=MODEL)
    assert (found.input_token_limit, found.output_token_limit) == (1_048_576, 65_536)
    with pytest.raises(errors.ClientError) as caught:
        await client.aio.models.get(model="gemini-0")
    assert caught.value.code == 404
    await client.aio.aclose()


async def test_latest_is_an_alias_only_on_v1beta(ask: Asker) -> None:
    client = genai.Client(api_key="k", http_options=HttpOptions(base_url=ask.emulator.url))
    beta = GenerateContentConfig(http_options=HttpOptions(api_version="v1beta"))
    response = await client.aio.models.generate_content(model="gemini-flash-latest", contents="Hi", config=beta)
    assert response.model_version == MODEL
    with pytest.raises(errors.ClientError) as caught:
        await client.aio.models.generate_content(model="gemini-flash-latest", contents="Hi")
    assert caught.value.code == 404
    assert "not found for API version v1," in caught.value.message
    await client.aio.aclose()


async def test_a_pydantic_response_schema_comes_back_parsed(client: genai.Client) -> None:
    config = GenerateContentConfig(response_mime_type="application/json", response_schema=list[Scene])
    response = await client.aio.models.generate_content(model=MODEL, contents="A film", config=config)
    assert isinstance(response.parsed, list)
    assert all(isinstance(scene, Scene) for scene in response.parsed)


async def test_a_response_json_schema_is_obeyed_with_refs(client: genai.Client) -> None:
    config = GenerateContentConfig(
        response_mime_type="application/json", response_json_schema=Scene.model_json_schema(), seed=4
    )
    response = await client.aio.models.generate_content(model=MODEL, contents="A film", config=config)
    scene = Scene.model_validate_json(response.text)
    assert scene.next is not None


async def test_an_enum_answer_is_one_of_its_values(client: genai.Client) -> None:
    config = GenerateContentConfig(response_mime_type="text/x.enum", response_schema=Colour)
    response = await client.aio.models.generate_content(model=MODEL, contents="Which?", config=config)
    assert response.text in ("red", "blue")


async def test_tokens_are_counted_as_an_answer_bills_them(client: genai.Client) -> None:
    counted = await client.aio.models.count_tokens(model=MODEL, contents="Count these words for me, please")
    response = await client.aio.models.generate_content(model=MODEL, contents="Count these words for me, please")
    assert counted.total_tokens == response.usage_metadata.prompt_token_count > 0


async def test_thoughts_are_shown_when_asked_for(client: genai.Client) -> None:
    config = GenerateContentConfig(
        thinking_config=types.ThinkingConfig(include_thoughts=True, thinking_level=types.ThinkingLevel.HIGH)
    )
    response = await client.aio.models.generate_content(model=MODEL, contents="Think", config=config)
    thoughts = [part for part in response.candidates[0].content.parts if part.thought]
    assert len(thoughts) == 1
    assert "Think" not in (response.text or "").partition("You wrote")[0]


async def test_function_call_round_trip(client: genai.Client) -> None:
    def get_weather(city: str) -> str:
        return f"Sunny in {city}"

    config = GenerateContentConfig(tools=[get_weather])
    response = await client.aio.models.generate_content(
        model=MODEL, contents="Please use get_weather for Paris", config=config
    )
    history = response.automatic_function_calling_history
    assert [content.role for content in history] == ["user", "model", "user"]
    assert history[1].parts[0].thought_signature
    assert "The function get_weather answered" in response.text


async def test_chat_counts_its_earlier_turns(client: genai.Client) -> None:
    chat = client.aio.chats.create(model=MODEL, config=GenerateContentConfig(system_instruction="Be brief"))
    await chat.send_message("First thing")
    response = await chat.send_message("Second thing")
    assert "2 messages came before it; the first began with “First thing”" in response.text
    assert "“Be brief”" in response.text


@pytest.mark.parametrize(
    ("fault", "kind", "code", "status"),
    [
        ("400", errors.ClientError, 400, "INVALID_ARGUMENT"),
        ("401", errors.ClientError, 401, "UNAUTHENTICATED"),
        ("403", errors.ClientError, 403, "PERMISSION_DENIED"),
        ("404", errors.ClientError, 404, "NOT_FOUND"),
        ("429", errors.ClientError, 429, "RESOURCE_EXHAUSTED"),
        ("500", errors.ServerError, 500, "INTERNAL"),
        ("503", errors.ServerError, 503, "UNAVAILABLE"),
        ("504", errors.ServerError, 504, "DEADLINE_EXCEEDED"),
    ],
)
@pytest.mark.parametrize("streamed", [False, True])
async def test_an_error_raises_the_right_class(
    client: genai.Client, fault: str, kind: type[errors.APIError], code: int, status: str, streamed: bool
) -> None:
    call = client.aio.models.generate_content_stream if streamed else client.aio.models.generate_content
    with pytest.raises(kind) as caught:
        answer = await call(model=MODEL, contents=f"[[fault:{fault}]]")
        if streamed:
            [chunk async for chunk in answer]
    assert caught.value.code == code
    if streamed and caught.value.status != status:
        # Over aiohttp the client does not read JSON that is called text/event-stream, as Google's is here.
        assert json.loads(caught.value.message)["error"]["status"] == status
    else:
        assert caught.value.status == status


async def test_429_names_the_quota_and_the_delay() -> None:
    config = EmulatorConfig(default_project=Project("free", Limits(rpm=1)))
    async with running(config) as emulator:
        client = genai.Client(api_key="k", http_options=HttpOptions(base_url=emulator.url))
        await client.aio.models.generate_content(model=MODEL, contents="Hi")
        with pytest.raises(errors.ClientError) as caught:
            await client.aio.models.generate_content(model=MODEL, contents="Hi")
        details = {detail["@type"].rpartition(".")[2]: detail for detail in caught.value.details["error"]["details"]}
        assert list(details) == ["Help", "QuotaFailure", "RetryInfo"]
        violation = details["QuotaFailure"]["violations"][0]
        assert violation["quotaId"] == "GenerateRequestsPerMinutePerProjectPerModel-FreeTier"
        assert violation["quotaValue"] == "1"
        assert details["RetryInfo"]["retryDelay"] in ("59s", "60s")
        await client.aio.aclose()
