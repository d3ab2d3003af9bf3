"""The library with `gateway=...`: prompts through POST /batch of a real server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from gemini_parallel import AdvancedApiKeyManager, GeminiParallelProcessor, remote

from functions.batch import carrying
from shared.errors import Unauthorized
from tests.support.edge import ADMIN_KEY
from tests.support.whole_path import OWN_KEY, WholePath, whole_path

Outcome = list[tuple[Any, str | None, str | None]]


@pytest.fixture(autouse=True)
def _program(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ADMIN_API_KEY", ADMIN_KEY)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)


async def processed(path: WholePath, prompts: list[Any], workers: int = 8) -> Outcome:
    manager = AdvancedApiKeyManager(["KEY_A"], gateway=f"http://127.0.0.1:{path.port}/")
    processor = GeminiParallelProcessor(manager, "gemini-3.8-flash", api_call_interval=0, max_workers=workers)
    try:
        return await asyncio.to_thread(processor.process_prompts, prompts)
    finally:
        await asyncio.to_thread(manager.close)


def numbered(count: int) -> list[dict[str, Any]]:
    return [{"prompt": f"number {number}", "metadata": number} for number in range(count)]


def assert_answered(results: Outcome, count: int) -> None:
    assert [(metadata, error) for metadata, _, error in results] == [(number, None) for number in range(count)]
    assert all(f"number {number}”" in str(response) for number, (_, response, _) in enumerate(results))


async def test_prompts_and_files_are_sent_to_the_gateway(tmp_path: Path) -> None:
    (tmp_path / "a.mp3").write_bytes(b"sound")
    async with whole_path() as path:
        results = await processed(
            path,
            [
                *numbered(20),
                {
                    "prompt": "Listen: <audio> <audio>",
                    "audio_path": "a.mp3",
                    "audio_bytes": b"more",
                    "metadata": object,
                },
                {"prompt": "x", "audio_path": "missing.mp3"},
                {"prompt": 7},
            ],
        )
        assert_answered(results[:20], 20)
        assert results[20][0] is object and results[20][2] is None
        assert "No such file" in str(results[21][2]) and results[22][2] == "prompt must be a text."
        assert path.sent == 21


async def test_links_are_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(carrying, "MAX_SENT_BYTES", 800)
    async with whole_path() as path:
        assert_answered(await processed(path, numbered(30), workers=20), 30)
        assert path.sent == 30


async def test_a_broken_connection_is_continued(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is generated twice."""
    plain, breaks = remote._lines, 6

    async def breaking(response: aiohttp.ClientResponse) -> AsyncIterator[dict[str, Any]]:
        nonlocal breaks
        async for line in plain(response):
            yield line
            if line["type"] == "result" and breaks:
                breaks -= 1
                response.close()
                raise aiohttp.ClientPayloadError("cut")

    monkeypatch.setattr(remote, "_lines", breaking)
    async with whole_path() as path:
        assert_answered(await processed(path, numbered(20), workers=20), 20)
        assert path.sent == 20 and not breaks


async def test_a_spent_day_is_the_error_of_what_is_left() -> None:
    async with whole_path(GEMINI_RPD=3) as path:
        results = await processed(path, numbered(9), workers=3)
        errors = [error for _, _, error in results if error is not None]
        assert len(errors) == 6 and all(error.startswith("All keys exhausted until ") for error in errors)


async def test_a_wrong_admin_key_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADMIN_API_KEY", "wrong-admin-key-of-it")
    async with whole_path() as path:
        with pytest.raises(Unauthorized, match="The gateway refuses the key"):
            await processed(path, numbered(2))


async def test_without_an_admin_key_the_programs_own_key_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ADMIN_API_KEY")
    monkeypatch.setenv("KEY_A", OWN_KEY)
    async with whole_path() as path:
        assert_answered(await processed(path, numbered(4)), 4)
        assert path.sent_by_key[OWN_KEY] == 4


async def test_the_same_prompt_again_is_generated_again() -> None:
    """In one list, and in another run with another model."""
    async with whole_path() as path:
        manager = AdvancedApiKeyManager(["KEY_A"], gateway=f"http://127.0.0.1:{path.port}")
        for model in ("gemini-3.8-flash", "gemini-3.5-flash-lite", "gemini-3.8-flash"):
            processor = GeminiParallelProcessor(manager, model, api_call_interval=0, max_workers=2)
            results = await asyncio.to_thread(processor.process_prompts, [{"prompt": "the same"}] * 4)
            assert [error for _, _, error in results] == [None] * 4
        await asyncio.to_thread(manager.close)
        assert path.sent == 12


async def test_a_request_to_the_gateway_has_few_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "MAX_GROUP_BYTES", 100)
    async with whole_path() as path:
        assert_answered(await processed(path, numbered(12), workers=12), 12)
        assert path.sent == 12
