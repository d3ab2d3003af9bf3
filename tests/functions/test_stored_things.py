"""Requests that name files, over HTTP: they wait for the project that stores them, and only their owner may use them."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
import pytest

from shared.emulator.config import Project
from shared.generation import Caller
from tests.support.edge import ADMIN, Answer
from tests.support.stored_files import uploaded
from tests.support.whole_path import WholePath, eventually, text_of, told, whole_path

ONE, TWO = "AQ.key-one", "AQ.key-two"
PROJECTS = {ONE: "one", TWO: "two"}
OWNER = Caller("name:owner", "admin")
LATER_MS = 4_000_000_000_000


async def stored(path: WholePath, key: str, owner: Caller = OWNER) -> str:
    """The URI of a new file in the project of `key`."""
    file = await uploaded(path.gemini.url, key)
    account = next(one for one in path.services.pool.server if one.credential.reveal() == key)
    assert await path.services.gateway.bind_thing(file["name"], owner, account, LATER_MS)
    uri: str = file["uri"]
    return uri


async def use(
    path: WholePath, *uris: str, caller: str = "owner", text: str = "Read it.", stream: bool = False
) -> Answer:
    files = [{"file_data": {"file_uri": uri, "mime_type": "text/plain"}} for uri in uris]
    body: dict[str, Any] = {"contents": [{"role": "user", "parts": [*files, {"text": text}]}], "stream": stream}
    return await path.send(content=orjson.dumps(body), headers={**ADMIN, "x-caller-id": caller})


async def test_fifty_uses_wait_for_the_files_project() -> None:
    """While it is saturated, none goes to the other project, and requests without a file overtake."""
    limit = {"GEMINI_CONCURRENCY_LIMIT": 2, "REQUEST_TIMEOUT_SECONDS": 60}
    async with whole_path(accounts=PROJECTS, upstream=Project(concurrency=2), **limit) as path:
        uri = await stored(path, ONE)
        uses = [asyncio.create_task(use(path, uri, text="Read it. [[latency:100]]")) for _ in range(50)]
        await eventually(lambda: path.waiting >= 40)
        others = [asyncio.create_task(use(path, caller="other", text="Hi. [[latency:100]]")) for _ in range(6)]
        for other in await asyncio.gather(*others):
            text_of(other)
        assert sum(not task.done() for task in uses) > 10
        for answer in await asyncio.gather(*uses):
            assert "With it came a file" in text_of(answer)
        stats = path.gemini.stats()
        assert (stats["refused"], sum(path.sent_by_key.values())) == ({}, 56)
        assert path.sent_by_key[TWO] <= 6


@pytest.mark.parametrize("stream", [False, True])
async def test_two_projects_things_in_one_request_are_a_400(stream: bool) -> None:
    async with whole_path(accounts=PROJECTS) as path:
        first, second = await stored(path, ONE), await stored(path, TWO)
        sent = path.sent
        answer = await use(path, first, second, stream=stream)
        assert told(answer) == (400, "invalid_request")
        assert all(f"files/{uri.rsplit('/', 1)[-1]}" in answer.error["message"] for uri in (first, second))
        assert path.sent == sent


async def test_anothers_file_is_a_404_like_an_unknown_one() -> None:
    async with whole_path(accounts=PROJECTS) as path:
        uri = await stored(path, ONE)
        name = uri.rsplit("/", 1)[-1]
        text_of(await use(path, uri))
        sent = path.sent
        others, unknown = (
            await use(path, uri, caller="other"),
            await use(path, uri.replace(name, "unknown"), caller="other"),
        )
        assert told(others) == told(unknown) == (404, "not_found")
        assert others.error["message"].replace(name, "unknown") == unknown.error["message"]
        assert path.sent == sent


async def test_a_deleted_file_is_a_404_too() -> None:
    async with whole_path(accounts=PROJECTS) as path:
        uri = await stored(path, TWO)
        async with path._session.delete(uri, headers={"x-goog-api-key": TWO}) as response:
            assert response.status == 200
        answer = await use(path, uri)
        assert told(answer) == (404, "not_found")
        assert path.sent_by_key.get(ONE, 0) == 0


async def test_with_one_project_an_operators_upload_is_used() -> None:
    async with whole_path(accounts={ONE: "one"}) as path:
        file = await uploaded(path.gemini.url, ONE)
        text_of(await use(path, file["uri"]))
