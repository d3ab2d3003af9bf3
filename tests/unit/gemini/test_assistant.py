"""The assistant of Gemini Enterprise as an upstream: what is sent, when the permit is checked, and hostile answers."""

from __future__ import annotations

import asyncio
import base64
import threading
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import orjson
import pytest

from shared.bounds.large_work import LargeWork
from shared.gemini import wire
from shared.gemini.assistant import Assistant
from shared.gemini.client import GeminiClient
from shared.gemini.enterprise import Enterprise, engine_of, host
from shared.gemini.enterprise_session import MAX_FILE_BYTES, EnterpriseSession
from shared.gemini.errors import UpstreamFailure
from shared.gemini.oauth import AccessTokens, Minted
from shared.gemini.side_requests import MAX_JSON_BYTES, SideRequests
from shared.gemini.upstream import Exchange, NotAllowed, Upstreams
from shared.secret import Secret
from tests.unit.gemini.conftest import Connection, Received, Upstream

PLACE = {"project": "a-project", "location": "global", "engine": "an-app", "assistant": "default_assistant"}
WEB_PLACE = {"team_id": "team-7", "csesidx": "12", "user_agent": "Firefox"}
COOKIES = '{"secure_c_ses": "CSE.planted-cookie", "host_c_oses": "COS.planted-cookie"}'
TOKEN = "ya29.planted-access-token"
ENGINE = "projects/a-project/locations/global/collections/default_collection/engines/an-app"
SESSION = f"{ENGINE}/sessions/5"
TIMEOUT_S = 20.0
PNG = base64.b64encode(b"\x89PNG\r\n\x1a\n").decode()
HI = {"contents": [{"role": "user", "parts": [{"text": "Hi"}]}]}
WITH_IMAGE = {"contents": [{"parts": [{"text": "Hi"}, {"inlineData": {"mimeType": "image/png", "data": PNG}}]}]}
ANSWER: list[Any] = [
    {"answer": {"state": "IN_PROGRESS", "replies": [{"groundedContent": {"content": {"text": "Hello."}}}]}},
    {"answer": {"state": "SUCCEEDED"}, "sessionInfo": {"session": SESSION}},
]

SILENCE, ENDLESS = object(), object()
"""Nothing is answered; an answer begins and does not end. Until the client leaves."""


class Lapsed(Exception):
    """What a permit raises that does not hold any more."""


class Rig:
    """Both services in front of one scripted upstream. `answers` gives the answer of a method: its body, or a status."""

    def __init__(self, upstream: Upstream) -> None:
        self.upstream = upstream
        self.now_s = 1000.0
        self.minted = 0
        self.minted_again = threading.Event()
        self.answers: dict[str, Any] = {
            "streamAssist": orjson.dumps(ANSWER),
            "widgetStreamAssist": orjson.dumps([{"streamAssistResponse": part} for part in ANSWER]),
            "addContextFile": orjson.dumps({"session": SESSION, "fileId": "77"}),
            "widgetCreateSession": orjson.dumps({"session": {"name": "collections/c/engines/e/sessions/5"}}),
            "widgetAddContextFile": orjson.dumps({"addContextFileResponse": {"fileId": "77"}}),
            "widgetListSessionFileMetadata": b"{}",
        }
        upstream.script = self._answer
        self.enterprise = Assistant(Enterprise(self._tokens(), self._side(), upstream.url), self._client)
        self.session = Assistant(EnterpriseSession(self._tokens(), self._side(), upstream.url), self._client)

    def _tokens(self) -> AccessTokens:
        return AccessTokens(self._mint, elapsed=lambda: self.now_s, jitter=lambda: 0.0)

    def _mint(self, credential: Secret) -> Minted:
        self.minted += 1
        if self.minted > 1:
            self.minted_again.set()
        return Minted(Secret(f"{TOKEN}-{self.minted}"), 300.0)

    def _side(self) -> SideRequests:
        return SideRequests(LargeWork(), lambda url: None)

    def _client(self, backend: Any) -> GeminiClient:
        return GeminiClient(backend, max_connections=4)

    async def _answer(self, connection: Connection, request: Received) -> None:
        answer = self.answers[self.method(request)]
        if isinstance(answer, list):
            answer = answer.pop(0) if len(answer) > 1 else answer[0]
        if isinstance(answer, int):
            await connection.answer(answer, b'{"error": {"message": "No: %b", "code": %d}}' % (TOKEN.encode(), answer))
        elif answer is SILENCE:
            await connection.reader.read()
        elif answer is ENDLESS:
            await connection.begin_stream()
            await connection.chunk(b"[" + orjson.dumps(ANSWER[0]))
            await connection.reader.read()
        elif isinstance(answer, str):
            await connection.answer(302, b"", "text/html", f"Location: {answer}")
        else:
            await connection.answer(200, answer)

    @staticmethod
    def method(request: Received) -> str:
        path = request.line.split(" ")[1].partition("?")[0]
        return path.replace(":", "/").rpartition("/")[2]

    @property
    def asked(self) -> list[str]:
        return [self.method(request) for request in self.upstream.requests]

    def body(self, at: int = -1) -> Any:
        return orjson.loads(self.upstream.requests[at].body)

    def exchange(self, body: Any = HI, *, web: bool = False, before_write: Any = None, **place: str) -> Exchange:
        credential, where = (COOKIES, WEB_PLACE) if web else ('{"type": "adc"}', PLACE)
        return Exchange(
            Secret(credential),
            "gemini-3.8-flash",
            "generateContent",
            orjson.dumps(body),
            TIMEOUT_S,
            before_write,
            place={**where, **place},
        )

    def both(self) -> list[tuple[Assistant, bool]]:
        return [(self.enterprise, False), (self.session, True)]


@pytest.fixture
async def rig(upstream: Upstream) -> AsyncIterator[Rig]:
    made = Rig(upstream)
    yield made
    await made.enterprise.aclose()
    await made.session.aclose()


async def failed(upstream: Assistant, exchange: Exchange) -> UpstreamFailure:
    with pytest.raises(UpstreamFailure) as raised:
        await upstream.generate(exchange)
    assert "planted" not in f"{raised.value!r} {raised.value.message} {exchange!r}"
    return raised.value


# -- what is sent ----------------------------------------------------------------------------------------------------


async def test_a_question_without_files_is_one_request(rig: Rig) -> None:
    answer = await rig.enterprise.generate(rig.exchange())
    assert (wire.text_of(answer), wire.finish_reason(answer)) == ("Hello.", "STOP")
    (request,) = rig.upstream.requests
    assert request.line == f"POST /v1/{ENGINE}/assistants/default_assistant:streamAssist HTTP/1.1"
    assert request.headers["authorization"] == f"Bearer {TOKEN}-1"
    assert rig.body() == {"query": {"text": "Hi"}, "toolsSpec": {}, "generationSpec": {"modelId": "gemini-3.8-flash"}}


async def test_files_are_uploaded_before_the_question(rig: Rig) -> None:
    await rig.enterprise.generate(rig.exchange(WITH_IMAGE))
    assert rig.asked == ["addContextFile", "streamAssist"]
    assert rig.upstream.requests[0].line.startswith(f"POST /v1/{ENGINE}/sessions/-:addContextFile ")
    assert rig.body(0) == {"fileName": "file-1.png", "mimeType": "image/png", "fileContents": PNG}
    assert rig.upstream.requests[1].line.startswith(f"POST /v1alpha/{ENGINE}/")
    assert (rig.body(1)["session"], rig.body(1)["fileIds"]) == (SESSION, ["77"])


async def test_a_question_of_the_web_app(rig: Rig) -> None:
    answer = await rig.session.generate(rig.exchange(WITH_IMAGE, web=True))
    assert wire.text_of(answer) == "Hello."
    assert rig.asked == ["widgetCreateSession", "widgetAddContextFile", "widgetStreamAssist"]
    assert {request.headers["user-agent"] for request in rig.upstream.requests} == {"Firefox"}
    sent = rig.body()
    assert (sent["configId"], sent["additionalParams"]) == ("team-7", {"token": "-"})
    assert sent["streamAssistRequest"]["fileIds"] == ["77"]
    assert "cookie" not in rig.upstream.requests[-1].headers


async def test_other_methods_are_not_sent(rig: Rig) -> None:
    exchange = rig.exchange()
    counting = Exchange(exchange.credential, exchange.model, "countTokens", exchange.body, TIMEOUT_S, place=PLACE)
    assert (await failed(rig.enterprise, counting)).written is False
    assert not rig.upstream.requests


async def test_what_it_cannot_do_is_not_sent(rig: Rig) -> None:
    for upstream, web in rig.both():
        failure = await failed(upstream, rig.exchange({**HI, "tools": [{"codeExecution": {}}]}, web=web))
        assert (failure.kind, failure.written) == ("bad_request", False)
        assert "tools (codeExecution)" in failure.message
    assert not rig.upstream.requests


@pytest.mark.parametrize(
    "place",
    [{"location": "mars"}, {"engine": "a/../b"}, {"project": "A b"}, {"assistant": "x:y"}, {"engine": ""}],
)
async def test_a_place_that_is_none_is_not_asked(rig: Rig, place: dict[str, str]) -> None:
    failure = await failed(rig.enterprise, rig.exchange(**place))
    assert (failure.remedy, failure.written) == ("account_out", False)
    assert not rig.upstream.requests


def test_a_location_has_its_own_host() -> None:
    assert host("global") == "https://discoveryengine.googleapis.com"
    assert host("eu") == "https://eu-discoveryengine.googleapis.com"
    assert engine_of({"project": "p", "engine": "e"}).startswith("projects/p/locations/global/")


# -- the permit ------------------------------------------------------------------------------------------------------


async def test_the_permit_is_checked_before_the_question_only(rig: Rig) -> None:
    for upstream, web in rig.both():
        checked: list[list[str]] = []
        await upstream.generate(rig.exchange(WITH_IMAGE, web=web, before_write=lambda at=checked: at.append(rig.asked)))
        assert [asked[-1] for asked in checked] == ["widgetAddContextFile" if web else "addContextFile"]


async def test_a_lapsed_permit_keeps_the_uploads(rig: Rig) -> None:
    """The next attempt with the same request uses them; the one after that uploads again."""

    def lapse() -> None:
        raise Lapsed

    for upstream, web in rig.both():
        rig.upstream.requests.clear()
        with pytest.raises(Lapsed):
            await upstream.generate(rig.exchange(WITH_IMAGE, web=web, before_write=lapse))
        uploads = rig.asked
        question = "widgetStreamAssist" if web else "streamAssist"
        assert question not in uploads
        await upstream.generate(rig.exchange(WITH_IMAGE, web=web))
        assert rig.asked == [*uploads, question]
        await upstream.generate(rig.exchange(WITH_IMAGE, web=web))
        assert rig.asked == [*uploads, question, *uploads, question]


async def test_uploads_are_not_for_another_request(rig: Rig) -> None:
    def lapse() -> None:
        raise Lapsed

    with pytest.raises(Lapsed):
        await rig.session.generate(rig.exchange(WITH_IMAGE, web=True, before_write=lapse))
    await rig.session.generate(rig.exchange(HI, web=True))
    assert rig.asked.count("widgetCreateSession") == 2


# -- what the account is told ----------------------------------------------------------------------------------------


async def test_an_old_token_that_is_rejected_is_replaced(rig: Rig) -> None:
    await rig.session.generate(rig.exchange(web=True))
    rig.now_s += 100.0
    rig.answers["widgetCreateSession"] = [401, rig.answers["widgetCreateSession"]]
    await rig.session.generate(rig.exchange(web=True))
    assert rig.minted == 2


async def test_a_token_is_replaced_before_it_expires(rig: Rig) -> None:
    for passed_s in (0.0, 200.0, 60.0):
        rig.now_s += passed_s
        await rig.session.generate(rig.exchange(web=True))
    assert await asyncio.to_thread(rig.minted_again.wait, TIMEOUT_S)
    assert rig.asked.count("widgetStreamAssist") == 3


@pytest.mark.parametrize("status", [401, 403])
@pytest.mark.parametrize("method", ["widgetCreateSession", "widgetStreamAssist"])
async def test_a_new_token_that_is_rejected_puts_the_account_out(rig: Rig, status: int, method: str) -> None:
    rig.answers[method] = status
    failure = await failed(rig.session, rig.exchange(web=True))
    assert (failure.kind, failure.remedy) == ("key_invalid", "account_out")
    assert "Sign in again" in failure.message


@pytest.mark.parametrize("method", ["widgetCreateSession", "widgetStreamAssist"])
async def test_a_429_is_a_quota_without_details(rig: Rig, method: str) -> None:
    rig.answers[method] = 429
    failure = await failed(rig.session, rig.exchange(web=True))
    assert (failure.kind, [violation.dimension for violation in failure.violations]) == ("quota", ["other"])
    assert failure.written is (method == "widgetStreamAssist")


async def test_a_429_inside_of_an_answer_is_the_same(rig: Rig) -> None:
    rig.answers["widgetStreamAssist"] = (
        b'[{"error": {"code": 429, "status": "RESOURCE_EXHAUSTED", "message": "Slow."}}]'
    )
    assert (await failed(rig.session, rig.exchange(web=True))).kind == "quota"


async def test_rejections_of_the_documented_api(rig: Rig) -> None:
    rig.answers["streamAssist"] = 404
    assert (await failed(rig.enterprise, rig.exchange())).remedy == "account_paused"
    rig.answers["streamAssist"] = 401
    assert (await failed(rig.enterprise, rig.exchange())).kind == "permission"
    rig.now_s += 200.0
    assert (await failed(rig.enterprise, rig.exchange())).kind == "token"


# -- hostile answers -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "answer"),
    [
        ("widgetCreateSession", b"[]"),
        ("widgetCreateSession", b'{"session": {"name": 5}}'),
        ("widgetCreateSession", b'{"session": "x"}'),
        ("widgetCreateSession", b'{"session": {"name": "%b"}}' % (b"x" * 501)),
        ("widgetCreateSession", b"<html>planted</html>"),
        ("widgetCreateSession", b" " * (MAX_JSON_BYTES + 1)),
        ("widgetCreateSession", "https://elsewhere.invalid/"),
        ("widgetAddContextFile", b"{}"),
        ("widgetAddContextFile", 500),
        ("widgetStreamAssist", b"[]"),
        ("widgetStreamAssist", b"[{"),
        ("widgetStreamAssist", b'["a", 1, null]'),
        ("widgetStreamAssist", b'[{"streamAssistResponse": {"answer": {"state": "IN_PROGRESS"}}}]'),
        ("widgetStreamAssist", b'[{"streamAssistResponse": {"answer": {"state": "FAILED"}}}]'),
        ("widgetStreamAssist", b"[" + b'{"a":1},' * 600_000 + b"{}]"),
        ("widgetStreamAssist", b"[" * 10_000),
    ],
)
async def test_a_broken_answer_is_a_failure(rig: Rig, method: str, answer: Any) -> None:
    rig.answers[method] = answer
    failure = await failed(rig.session, rig.exchange(WITH_IMAGE, web=True))
    assert failure.remedy in ("same_account", "none")


@pytest.mark.parametrize("session", ["x", "projects/p/../../secrets", f"{SESSION}?a=b", f"{SESSION}/é", 5, None])
async def test_a_session_that_is_none_is_not_used(rig: Rig, session: Any) -> None:
    rig.answers["addContextFile"] = orjson.dumps({"session": session, "fileId": "77"})
    assert (await failed(rig.enterprise, rig.exchange(WITH_IMAGE))).kind == "malformed"
    assert rig.asked == ["addContextFile"]


@pytest.mark.parametrize("method", ["addContextFile", "streamAssist"])
async def test_the_deadline_holds_for_each_request(rig: Rig, method: str) -> None:
    rig.answers[method] = SILENCE
    failure = await failed(rig.enterprise, replace(rig.exchange(WITH_IMAGE), timeout_s=0.2))
    assert (failure.kind, failure.written) == ("timeout", method == "streamAssist")
    assert rig.asked[-1] == method


@pytest.mark.parametrize("method", ["addContextFile", "streamAssist"])
async def test_a_caller_who_leaves_ends_the_request(rig: Rig, method: str) -> None:
    rig.answers[method] = SILENCE
    task = asyncio.create_task(rig.enterprise.generate(rig.exchange(WITH_IMAGE)))
    while not rig.asked or rig.asked[-1] != method:
        rig.upstream.asked.clear()
        await asyncio.wait_for(rig.upstream.asked.wait(), TIMEOUT_S)
    rig.upstream.gone.clear()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert task.cancelled()
    await asyncio.wait_for(rig.upstream.gone.wait(), TIMEOUT_S)


async def test_a_stream_that_is_left_early_is_closed(rig: Rig) -> None:
    rig.answers["streamAssist"] = ENDLESS
    async with rig.enterprise.stream(rig.exchange()) as frames:
        assert wire.text_of(await anext(frames)) == "Hello."
    await asyncio.wait_for(rig.upstream.gone.wait(), TIMEOUT_S)


async def test_closing_closes_the_connections_of_uploads_too(rig: Rig) -> None:
    await rig.enterprise.generate(rig.exchange(WITH_IMAGE))
    service: Any = rig.enterprise._service
    connections = service._side._session.connector
    await rig.enterprise.aclose()
    assert connections.closed


# -- files of the answer ---------------------------------------------------------------------------------------------


def with_file(rig: Rig, where: Any = "projects/1/locations/global/sessions/5") -> None:
    content = {"file": {"fileId": "9&x=1", "mimeType": "image/png"}}
    drawn = {"answer": {"state": "SUCCEEDED", "replies": [{"groundedContent": {"content": content}}]}}
    rig.answers["widgetStreamAssist"] = orjson.dumps([{"streamAssistResponse": drawn}])
    listed = {"fileMetadata": [None, {"fileId": "9&x=1", "session": where}]}
    rig.answers["widgetListSessionFileMetadata"] = orjson.dumps({"listSessionFileMetadataResponse": listed})


@pytest.mark.parametrize("content", [base64.b64decode(PNG), PNG.encode()])
async def test_a_file_of_the_answer_is_downloaded(rig: Rig, content: bytes) -> None:
    """Some come as base64."""
    with_file(rig)
    rig.answers["downloadFile"] = content
    answer = await rig.session.generate(rig.exchange(web=True))
    assert wire.parts(answer) == [{"inlineData": {"mimeType": "image/png", "data": PNG}}]
    assert rig.upstream.requests[-1].line.split(" ")[1].endswith(":downloadFile?fileId=9%26x%3D1&alt=media")


async def test_a_signed_address_gets_no_token(rig: Rig) -> None:
    with_file(rig)
    rig.answers["downloadFile"] = f"{rig.upstream.url}/bucket/file"
    rig.answers["file"] = base64.b64decode(PNG)
    answer = await rig.session.generate(rig.exchange(web=True))
    assert wire.parts(answer)[0]["inlineData"]["data"] == PNG
    assert "authorization" not in rig.upstream.requests[-1].headers


@pytest.mark.parametrize(
    "answer",
    [
        404,
        b"",
        b"x" * (MAX_FILE_BYTES + 1),
        "https://elsewhere.invalid/file",
        "http://storage.googleapis.com/file",
        "https://googleapis.com.elsewhere.invalid/",
        "https://planted@storage.googleapis.com/x",
        "file:///etc/passwd",
        "https://[planted",
        "",
    ],
)
async def test_a_lost_file_is_a_failure_and_not_an_answer(rig: Rig, answer: Any) -> None:
    with_file(rig)
    rig.answers["downloadFile"] = answer
    failure = await failed(rig.session, rig.exchange(web=True))
    assert (failure.kind, failure.remedy) == ("malformed", "none")


@pytest.mark.parametrize("where", ["../../x", 5, "a b", "projects/../x"])
async def test_a_file_is_not_looked_for_elsewhere(rig: Rig, where: Any) -> None:
    with_file(rig, where)
    await failed(rig.session, rig.exchange(web=True))
    assert "downloadFile" not in rig.asked


async def test_files_of_a_stream_are_downloaded_too(rig: Rig) -> None:
    with_file(rig)
    rig.answers["downloadFile"] = base64.b64decode(PNG)
    async with rig.session.stream(rig.exchange(web=True)) as frames:
        (frame,) = [frame async for frame in frames]
    assert wire.parts(frame)[0]["inlineData"]["data"] == PNG


async def test_a_kind_that_is_not_allowed_says_why() -> None:
    upstreams = Upstreams({}, {"enterprise_session": lambda: NotAllowed("Set ALLOW_SESSION_ACCOUNTS=1.")})
    exchange = Exchange(Secret("x"), "m", "generateContent", b"{}", 1.0)
    with pytest.raises(UpstreamFailure, match="ALLOW_SESSION_ACCOUNTS=1") as raised:
        await upstreams["enterprise_session"].generate(exchange)
    assert (raised.value.remedy, raised.value.written) == ("account_paused", False)
    await upstreams.aclose()
