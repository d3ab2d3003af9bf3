"""The offline Gemini Enterprise: what it checks before it answers."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import orjson
import pytest

from shared.emulator import Emulator, EmulatorConfig, running
from shared.gemini import wire
from shared.gemini.enterprise_format import AssistFrames
from shared.gemini.session_token import signed_token

NOW_S = 1_800_000_000
COOKIES = {"Cookie": "__Secure-C_SES=CSE.a; __Host-C_OSES=COS.b"}
WIDGET = "/v1alpha/locations/global/widget"
ENVELOPE = {"configId": "team", "additionalParams": {"token": "-"}}


class Web:
    """The web app's requests, as a browser of session `index` sends them."""

    def __init__(self, emulator: Emulator, session: aiohttp.ClientSession) -> None:
        self.emulator, self._session = emulator, session

    async def key(self, index: str = "1", headers: dict[str, str] = COOKIES) -> tuple[int, bytes]:
        url = f"{self.emulator.url}/auth/getoxsrf?csesidx={index}"
        async with self._session.get(url, headers=headers) as response:
            return response.status, await response.read()

    async def token(self, index: str = "1", now_s: int = NOW_S) -> str:
        return signed_token((await self.key(index))[1], index, now_s)

    async def call(self, method: str, token: str, **asked: Any) -> tuple[int, Any]:
        url = f"{self.emulator.url}{WIDGET}{method}"
        headers = {"Authorization": f"Bearer {token}"}
        async with self._session.post(url, json={**ENVELOPE, **asked}, headers=headers) as response:
            return response.status, orjson.loads(await response.read())

    async def create(self, token: str) -> str:
        _, body = await self.call("CreateSession", token, createSessionRequest={})
        return str(body["session"]["name"])


def text_of(documents: list[Any]) -> str:
    read = AssistFrames()
    return "".join(wire.text_of(read(document) or {}) for document in documents)


@pytest.fixture
async def web(session: aiohttp.ClientSession) -> AsyncIterator[Web]:
    async with running(EmulatorConfig(), wall_clock=lambda: NOW_S) as emulator:
        yield Web(emulator, session)


async def test_a_key_comes_after_googles_guard(web: Web) -> None:
    status, body = await web.key()
    assert (status, body[:5]) == (200, b")]}'\n")
    issued = orjson.loads(body[5:])
    assert len(base64.urlsafe_b64decode(issued["xsrfToken"] + "=")) == 32


@pytest.mark.parametrize("cookie", ["", "__Secure-C_SES=CSE.a", "__Secure-C_SES=dead; __Host-C_OSES=COS.b"])
async def test_dead_cookies_get_no_key(web: Web, cookie: str) -> None:
    assert (await web.key(headers={"Cookie": cookie}))[0] == 401


async def test_a_token_is_checked(web: Web) -> None:
    """Its signature, its key, its claims and its time."""
    good = await web.token()
    head, claims, signature = good.split(".")
    other = (await web.token()).split(".")
    assert (await web.call("CreateSession", good))[0] == 200
    for bad in (
        "",
        "a.b.c",
        f"{head}.{claims}.{other[2]}",
        f"{head}.{other[1]}x.{signature}",
        f"{other[0]}.{claims}.{signature}",
        await web.token(now_s=NOW_S - 300),
        await web.token(now_s=NOW_S + 10),
        signed_token((await web.key("2"))[1], "1", NOW_S),
    ):
        assert (await web.call("CreateSession", bad))[0] == 401, bad
    web.emulator.app.assist.keys.forget()
    assert (await web.call("CreateSession", good))[0] == 401


async def test_a_session_and_its_files_are_of_one_browser(web: Web) -> None:
    mine, other = await web.token("1"), await web.token("2")
    name = await web.create(mine)
    upload = {"name": name, "fileName": "a.png", "mimeType": "image/png", "fileContents": "iVBORw0KGgo="}
    status, body = await web.call("AddContextFile", mine, addContextFileRequest=upload)
    assert status == 200
    file_id = body["addContextFileResponse"]["fileId"]
    asked = {"session": name, "query": {"parts": [{"text": "Hi"}]}, "fileIds": [file_id]}
    assert (await web.call("AddContextFile", other, addContextFileRequest=upload))[0] == 404
    assert (await web.call("StreamAssist", other, streamAssistRequest=asked))[0] == 404
    status, documents = await web.call("StreamAssist", mine, streamAssistRequest=asked)
    assert status == 200
    assert documents[-1]["streamAssistResponse"]["answer"]["state"] == "SUCCEEDED"
    wrong = {**asked, "fileIds": ["1"]}
    assert (await web.call("StreamAssist", mine, streamAssistRequest=wrong))[0] == 400


async def test_a_second_question_of_a_session_knows_the_first(web: Web) -> None:
    token = await web.token()
    asked = {"session": await web.create(token), "query": {"parts": [{"text": "Hi"}]}}
    answers = [text_of((await web.call("StreamAssist", token, streamAssistRequest=asked))[1]) for _ in range(2)]
    assert ["came before it" in answer for answer in answers] == [False, True]


@pytest.mark.parametrize(
    "asked",
    [
        {"streamAssistRequest": {"query": {}}},
        {"streamAssistRequest": {"query": {"text": "Hi"}, "contents": []}},
        {"streamAssistRequest": {"query": {"text": "Hi"}, "generationSpec": {"modelId": "gemini-0"}}},
        {"streamAssistRequest": []},
        {"additionalParams": {}},
    ],
)
async def test_what_is_not_a_question_is_refused(web: Web, asked: dict[str, Any]) -> None:
    assert (await web.call("StreamAssist", await web.token(), **asked))[0] == 400


async def test_the_assistant_of_an_engine_wants_an_access_token(web: Web, session: aiohttp.ClientSession) -> None:
    engine = "projects/p/locations/global/collections/default_collection/engines/e"
    url = f"{web.emulator.url}/v1/{engine}/assistants/default_assistant:streamAssist"
    async with session.post(url, json={"query": {"text": "Hi"}}) as response:
        assert response.status == 401
