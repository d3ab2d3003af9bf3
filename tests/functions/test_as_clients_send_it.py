"""The calls as people paste them: curl itself, and google-genai beside it on the same offline Gemini."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from google import genai
from google.genai import types

from shared.emulator import EmulatorConfig, running
from tests.support.processes import ADMIN_KEY, served

OWN_KEY = "AQ.a-callers-own-key"
PROMPT = "Nenne drei Flüsse — und 一条 auf Chinesisch."


async def curl(*arguments: str) -> tuple[int, str]:
    """(status, body) of a real curl."""
    process = await asyncio.create_subprocess_exec(
        "curl", "-sS", "-N", "--max-time", "60", "-w", "\n%{http_code}", *arguments, stdout=asyncio.subprocess.PIPE
    )
    out, _ = await process.communicate()
    body, _, status = out.decode().rpartition("\n")
    return int(status), body


async def chat(url: str, body: dict[str, Any], *headers: str) -> tuple[int, str]:
    given = [part for header in ("Content-Type: application/json", *headers) for part in ("-H", header)]
    return await curl(f"{url}/chat", *given, "-d", json.dumps(body, ensure_ascii=False))


async def test_all_clients_get_the_same_answer() -> None:
    """curl with an admin key, curl with a key in the body, and google-genai."""
    async with (
        running(EmulatorConfig()) as gemini,
        served({"GEMINI_API_KEY": "AQ.server-key", "GEMINI_BASE_URL": gemini.url}) as gateway,
    ):
        admin = await chat(gateway.url, {"prompt": PROMPT}, f"Admin-API-Key: {ADMIN_KEY}")
        bearer = await chat(gateway.url, {"prompt": PROMPT}, f"Authorization: Bearer {OWN_KEY}")
        own = await chat(gateway.url, {"prompt": PROMPT, "credentials": {"gemini_api_key": OWN_KEY}})
        client = genai.Client(api_key=OWN_KEY, http_options=types.HttpOptions(base_url=gemini.url))
        direct = await client.aio.models.generate_content(model="gemini-3.8-flash", contents=PROMPT)
        keys = gemini.stats()["keys"]
    assert [admin[0], bearer[0], own[0]] == [200, 200, 200]
    answers = [json.loads(body) for _, body in (admin, bearer, own)]
    assert {answer["text"] for answer in answers} == {direct.text}
    usage = direct.usage_metadata
    assert usage is not None
    assert answers[0]["usage"] == {
        "prompt_tokens": usage.prompt_token_count,
        "output_tokens": usage.candidates_token_count,
        "thinking_tokens": usage.thoughts_token_count,
        "total_tokens": usage.total_token_count,
    }
    assert len(keys) == 2, "the payload's key was used, and not the server's"


async def test_streamed_answer_equals_the_unary_one() -> None:
    """Its last event has the usage."""
    async with (
        running(EmulatorConfig()) as gemini,
        served({"GEMINI_API_KEY": "AQ.server-key", "GEMINI_BASE_URL": gemini.url}) as gateway,
    ):
        admin = f"Admin-API-Key: {ADMIN_KEY}"
        _, whole = await chat(gateway.url, {"prompt": PROMPT}, admin)
        status, stream = await chat(gateway.url, {"prompt": PROMPT, "stream": True}, admin)
    events = [json.loads(line.removeprefix("data: ")) for line in stream.splitlines() if line]
    assert status == 200
    assert len(events) > 2
    assert "".join(event["text"] for event in events[:-1]) == json.loads(whole)["text"]
    assert events[-1]["done"] is True
    assert events[-1]["usage"] == json.loads(whole)["usage"]


async def test_unauthorized_message_is_always_the_same() -> None:
    async with served({}) as gateway:
        answers = [
            await chat(gateway.url, {"prompt": "Hello"}, *headers)
            for headers in ((), ("Admin-API-Key: wrong",), ("Admin-API-Key;",), (f"Admin-API-Key: {ADMIN_KEY}x",))
        ]
    errors = [json.loads(body)["error"] for _, body in answers]
    for error in errors:
        error.pop("request_id")
    assert {status for status, _ in answers} == {401}
    assert all(error == errors[0] for error in errors)
