"""What callers do wrong, and callers that go away: told precisely, at no cost to the quota, and nothing left of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from types import SimpleNamespace
from typing import Any

import orjson
import pytest

from shared.clock import elapsed_s
from tests.support.edge import ADMIN, ADMIN_KEY
from tests.support.whole_path import OWN_KEY, WAYS, WholePath, eventually, text_of, told, whole_path

PROMPT = {"prompt": "Hello"}
MEGABYTE = b"x" * 1_000_000
HEAD = (
    f"POST /chat HTTP/1.1\r\nHost: gateway\r\nAdmin-API-Key: {ADMIN_KEY}\r\nContent-Type: application/json\r\n"
).encode()

Ended = Callable[[], list[str]]

ways = pytest.mark.parametrize("way", WAYS)


async def assert_it_cost_nothing(path: WholePath) -> None:
    assert (path.sent, await path.ledgers()) == (0, {})


def nested(depth: int) -> bytes:
    """A native conversation whose last part is an object in an object, and so on."""
    response = b'{"a":' * depth + b"1" + b"}" * depth
    part = b'{"functionResponse":{"name":"f","response":%b}}' % response
    return b'{"contents":[{"role":"user","parts":[{"text":"Hello"},%b]}]}' % part


@pytest.fixture
def ended(capsys: pytest.CaptureFixture[str]) -> Ended:
    """The outcomes of the requests that have ended so far, as the log has them."""
    lines: list[str] = []

    def look() -> list[str]:
        lines.extend(capsys.readouterr().out.splitlines())
        return [orjson.loads(line)["logging.googleapis.com/labels"]["outcome"] for line in lines]

    return look


class TestBodies:
    @pytest.mark.parametrize("path_of", ["/chat", "/generate_text"])
    @pytest.mark.parametrize(
        ("body", "told_of"),
        [
            (b"", "empty"),
            (b"prompt=Hello", "not valid JSON"),
            (b'{"prompt": "Hello"', "not valid JSON"),
            (b'{"prompt": "\xe9"}', "not valid UTF-8 at byte 12"),
            (b'{"prompt": "\\ud800"}', "not valid JSON"),
            (b'{"prompt": "\xed\xa0\x80"}', "not valid UTF-8 at byte 12"),
            (b'["Hello"]', "a list"),
        ],
        ids=["empty", "a form", "cut off", "Latin-1", "a lone surrogate", "a surrogate's bytes", "a list"],
    )
    async def test_body_of_another_type_is_named(self, body: bytes, told_of: str, path_of: str) -> None:
        async with whole_path() as path:
            answer = await path.send("POST", path_of, body)
            assert told(answer) == (400, "invalid_request")
            assert told_of in answer.error["message"]
            await assert_it_cost_nothing(path)

    @pytest.mark.parametrize(
        ("path_of", "body", "field"),
        [
            ("/chat", {}, "prompt"),
            ("/chat", {"prompt": ""}, "prompt"),
            ("/chat", {"prompt": ["Hello"]}, "prompt"),
            ("/chat", {**PROMPT, "system_prompt": 1}, "system_prompt"),
            ("/chat", {**PROMPT, "model": 1}, "model"),
            ("/chat", {**PROMPT, "model": "../secrets"}, "model"),
            ("/chat", {**PROMPT, "stream": "true"}, "stream"),
            ("/chat", {**PROMPT, "history": "Hello"}, "history"),
            ("/chat", {**PROMPT, "history": [{"role": "user", "content": 1}]}, "history[0].content"),
            ("/chat", {"contents": {}}, "contents"),
            ("/chat", {**PROMPT, "generation_config": []}, "generation_config"),
            ("/chat", {**PROMPT, "generation_config": {"temperature": "hot"}}, "generation_config.temperature"),
            ("/chat", {**PROMPT, "safety_settings": {}}, "safety_settings"),
            ("/chat", {**PROMPT, "credentials": OWN_KEY}, "credentials"),
            ("/chat", {**PROMPT, "credentials": {"gemini_api_key": 1}}, "credentials.gemini_api_key"),
            ("/chat", {**PROMPT, "temperature": 1}, "temperature"),
            ("/generate_text", {}, "prompt"),
            ("/generate_text", {"prompt": None}, "prompt"),
            ("/generate_text", {"prompt": " \n"}, "prompt"),
            ("/generate_text", {"prompt": 1}, "prompt"),
            ("/generate_text", {**PROMPT, "model": []}, "model"),
            ("/generate_text", {**PROMPT, "stream": True}, "stream"),
        ],
    )
    async def test_a_wrong_field_is_named(self, path_of: str, body: dict[str, Any], field: str) -> None:
        async with whole_path() as path:
            answer = await path.send("POST", path_of, orjson.dumps(body))
            assert told(answer) == (400, "invalid_request")
            assert answer.error["details"]["field"] == field
            await assert_it_cost_nothing(path)

    async def test_wrong_content_type_error_names_the_right_one(self) -> None:
        async with whole_path() as path:
            answer = await path.send("POST", "/chat", orjson.dumps(PROMPT), {**ADMIN, "content-type": "text/plain"})
            assert told(answer) == (415, "unsupported_media_type")
            assert "application/json" in answer.error["message"]
            await assert_it_cost_nothing(path)

    async def test_a_body_of_40_mb_is_refused_with_the_limit(self) -> None:
        async with whole_path() as path:
            answer = await path.send("POST", "/chat", b'{"prompt":"%b"}' % (MEGABYTE * 40))
            assert told(answer) == (413, "payload_too_large")
            assert answer.error["details"] == {"limit_bytes": 32 * 1024 * 1024}
            await assert_it_cost_nothing(path)

    async def test_chunked_body_is_rejected_once_too_long(self) -> None:
        async def chunks() -> AsyncIterator[bytes]:
            for _ in range(40):
                yield MEGABYTE

        async with whole_path() as path:
            assert told(await path.send("POST", "/chat", chunks())) == (413, "payload_too_large")
            await assert_it_cost_nothing(path)

    async def test_surplus_body_is_not_a_second_request(self) -> None:
        body = orjson.dumps(PROMPT)
        async with whole_path() as path:
            received = await path.raw(
                HEAD + b"Content-Length: %d\r\n\r\n%b%b" % (len(body), body, b" and more\r\n\r\n")
            )
            await path.quiet()
            assert received.startswith((b"HTTP/1.1 200 ", b"HTTP/1.1 400 "))
            assert path.sent <= 1

    async def test_body_longer_than_declared_is_rejected(self) -> None:
        """The server reads only the declared part, which is not valid JSON."""
        body = orjson.dumps(PROMPT)
        async with whole_path() as path:
            received = await path.raw(HEAD + b"Content-Length: %d\r\n\r\n%b" % (len(body) - 3, body))
            await path.quiet()
            assert received.startswith(b"HTTP/1.1 400 ")
            await assert_it_cost_nothing(path)

    async def test_body_shorter_than_declared_times_out(self) -> None:
        body = orjson.dumps(PROMPT)
        async with whole_path(REQUEST_TIMEOUT_SECONDS=0.3) as path:
            received = await path.raw(HEAD + b"Content-Length: %d\r\n\r\n%b" % (len(body) + 3, body))
            assert received.startswith(b"HTTP/1.1 400 ")
            assert b"did not arrive within 0.3 s" in received
            await assert_it_cost_nothing(path)

    async def test_a_body_that_is_nested_too_deeply_is_the_callers_to_mend(self) -> None:
        async with whole_path() as path:
            assert text_of(await path.send("POST", "/chat", nested(200)))
            assert told(await path.send("POST", "/chat", nested(500))) == (400, "invalid_request")


class TestRequests:
    @ways
    async def test_a_model_that_does_not_exist_is_not_found(self, way: str) -> None:
        async with whole_path() as path:
            answer = await path.ask(way=way, model="gemini-99-ultra")
            assert told(answer) == (404, "model_not_found")
            assert "models/gemini-99-ultra is not found" in answer.error["message"], "Gemini's words"
            assert (path.sent, await path.dispatched()) == (1, 0)

    @pytest.mark.parametrize("path_of", ["/chats", "/chat/more", "/generate-text"])
    async def test_unknown_path_is_told_where_paths_are_listed(self, path_of: str) -> None:
        async with whole_path() as path:
            answer = await path.send("POST", path_of, orjson.dumps(PROMPT))
            assert told(answer) == (404, "not_found")
            assert "GET /openapi.json lists" in answer.error["message"]
            await assert_it_cost_nothing(path)

    @pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
    @pytest.mark.parametrize("path_of", ["/chat", "/generate_text"])
    async def test_wrong_method_error_lists_the_right_ones(self, method: str, path_of: str) -> None:
        async with whole_path() as path:
            answer = await path.send(method, path_of, orjson.dumps(PROMPT))
            assert (told(answer), answer.headers["allow"]) == ((405, "method_not_allowed"), "POST, OPTIONS")
            await assert_it_cost_nothing(path)

    @ways
    @pytest.mark.parametrize("timeout", ["0", "-1", "nan", "6", "a while"])
    async def test_a_deadline_that_cannot_be_kept_is_refused(self, timeout: str, way: str) -> None:
        async with whole_path(REQUEST_TIMEOUT_SECONDS=5) as path:
            body = {**PROMPT, **({"stream": True} if way == "stream" else {})}
            headers = {**ADMIN, "x-request-timeout": timeout}
            path_of = "/generate_text" if way == "generate_text" else "/chat"
            answer = await path.send("POST", path_of, orjson.dumps(body), headers)
            assert told(answer) == (400, "invalid_request")
            assert answer.error["details"] == {"field": "x-request-timeout"}
            await assert_it_cost_nothing(path)

    async def test_missing_credential_is_401(self) -> None:
        async with whole_path() as path:
            for path_of in ("/chat", "/generate_text"):
                answer = await path.send("POST", path_of, orjson.dumps(PROMPT), {"Admin-API-Key": "wrong"})
                assert told(answer) == (401, "unauthorized")
            await assert_it_cost_nothing(path)


class TestQueue:
    async def test_full_queue_rejects_by_bytes(self) -> None:
        """Requests that already wait keep their place."""
        large = "x" * 600_000
        async with (
            whole_path(GEMINI_CONCURRENCY_LIMIT=1, QUEUE_MAX_MB=1, GEMINI_TPM="unlimited") as path,
            path.asking("[[latency:400]]") as first,
        ):
            await eventually(lambda: path.open_upstream == 1)
            async with path.asking(large) as second:
                await eventually(lambda: path.waiting == 1)
                answer = await path.ask(large)
                assert (told(answer), answer.headers["retry-after"]) == ((503, "queue_full"), "1")
                assert [bool(text_of(answer)) for answer in await asyncio.gather(first, second)] == [True, True]
            assert path.sent == 2

    async def test_queue_timeout_has_retry_after(self) -> None:
        async with whole_path(GEMINI_CONCURRENCY_LIMIT=1, QUEUE_TIMEOUT_SECONDS=0.3) as path:
            async with path.asking("[[fault:hang]]"):
                await eventually(lambda: path.open_upstream == 1)
                began_s = elapsed_s()
                answer = await path.ask()
                assert told(answer) == (429, "queue_timeout")
                assert int(answer.headers["retry-after"]) >= 1
                assert 0.3 <= elapsed_s() - began_s < 2
            await path.quiet()
            assert path.sent == 1

    async def test_shutdown_rejects_waiters_with_retry_after(self) -> None:
        async with whole_path(GEMINI_CONCURRENCY_LIMIT=1) as path:
            async with path.asking("[[fault:hang]]"), path.asking("Hello") as waiting:
                await eventually(lambda: path.open_upstream == 1 and path.waiting == 1)
                await path.services.admission.aclose()
                answer = await waiting
                assert (told(answer), answer.headers["retry-after"]) == ((503, "unavailable"), "1")
            await path.quiet()
            assert path.sent == 1

    async def test_a_slot_is_given_out_as_soon_as_it_is_free(self) -> None:
        async with whole_path(GEMINI_CONCURRENCY_LIMIT=1) as path, path.asking("[[latency:800]]") as first:
            await eventually(lambda: path.open_upstream == 1)
            assert text_of(await path.ask(timeout_s=2))
            assert text_of(await first)


class TestCallersThatGo:
    async def test_disconnect_while_waiting_leaves_the_queue(self, ended: Ended) -> None:
        async with whole_path(GEMINI_CONCURRENCY_LIMIT=1) as path:
            async with path.asking("[[fault:hang]]"):
                await eventually(lambda: path.open_upstream == 1)
                async with path.asking("Hello"):
                    await eventually(lambda: path.waiting == 1)
                await eventually(lambda: path.waiting == 0)
                await eventually(lambda: ended() == ["caller_gone"])
            await path.quiet()
            assert (path.sent, await path.dispatched()) == (1, 1)

    @ways
    async def test_disconnect_ends_gemini_work_and_frees_the_slot(self, way: str, ended: Ended) -> None:
        async with whole_path(GEMINI_CONCURRENCY_LIMIT=1) as path:
            async with path.asking("[[latency:5000]]", way=way):
                await eventually(lambda: path.open_upstream == 1)
            await eventually(lambda: path.open_upstream == 0, within_s=2)
            await path.quiet(within_s=2)
            assert ended() == ["caller_gone"]
            assert path.gemini.stats()["disconnects"] == 1
            await path.assert_nothing_is_left()
            assert "Hello" in text_of(await path.ask("Hello", way=way, timeout_s=1))
            assert (path.sent, await path.dispatched()) == (2, 2)

    async def test_one_that_goes_while_it_sends_is_never_served(self, ended: Ended) -> None:
        async with whole_path() as path:
            await path.raw(HEAD + b'Content-Length: 1000\r\n\r\n{"prompt": "Hel', hang_up=True)
            await eventually(lambda: ended() == ["caller_gone"])
            await assert_it_cost_nothing(path)

    async def test_pause_between_tries_holds_nothing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The caller may disconnect during the pause."""
        monkeypatch.setattr("shared.gateway.attempts.random", SimpleNamespace(random=lambda: 1.0))
        monkeypatch.setattr("shared.gateway.retry.BACKOFF_S", 1.5)
        async with whole_path() as path:
            async with path.asking("[[fault:503x1]]") as asking:
                await eventually(lambda: path.sent == 1 and path.open_upstream == 0)
                await asyncio.sleep(0.1)
                await path.assert_nothing_is_left()
                assert not asking.done()
            await path.quiet()
            assert (path.sent, await path.dispatched()) == (1, 1)
