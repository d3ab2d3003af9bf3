"""What the log says of real requests: what each spent, whatever became of it, and never a secret, a prompt or an answer."""

from __future__ import annotations

import asyncio
import base64
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote, urlsplit

import orjson
import pytest

from shared.emulator import running
from shared.generation import JsonObject
from shared.stores.port import StoreUnavailable
from tests.support.faulty_store import FaultyStore
from tests.support.otlp import receiver
from tests.support.planted_secrets import leaks
from tests.support.processes import Running, request, started
from tests.support.tied import free_port
from tests.support.whole_path import MODEL, eventually, text_of, whole_path

LABELS = "logging.googleapis.com/labels"
ADMIN, NEXT_ADMIN, WRONG_ADMIN = "canary+admin/key=1", "canary+next/admin=2", "canary+wrong/admin=3"
SERVER, SUSPENDED_SERVER = "AQ.canary/server+key=4", "AQ.canary/suspended+server=5"
OWN, SUSPENDED_OWN, INVALID_OWN = "AQ.canary/own+key=6", "AQ.canary/suspended+own=7", "AQ.canary/invalid+own=8"
MISPLACED, QUERY, COLLECTOR = "AQ.canary/misplaced+key=9", "AQ.canary/query+key=10", "canary/collector+key=11"
KEY_AS_MODEL = "aq.canary-key-12"
PROMPT, SYSTEM, PATH = "canary prompt: how much is 1+1?", "canary system prompt", "canary-path-of-a-capability"
SECRETS = (
    *(ADMIN, NEXT_ADMIN, WRONG_ADMIN, SERVER, SUSPENDED_SERVER, OWN, SUSPENDED_OWN, INVALID_OWN),
    *(MISPLACED, QUERY, COLLECTOR, KEY_AS_MODEL, PROMPT, SYSTEM, PATH),
)
FAULTS = (
    *("400", "401", "403", "404", "429", "429-day", "429-bare", "429-depleted", "500", "503", "504"),
    *("reset", "cut", "malformed", "block", "safety", "max_tokens"),
)


@pytest.mark.parametrize("before", ["", "u", "us", "user:"])
def test_a_secret_is_found_in_any_spelling(before: str) -> None:
    text = f"{before}{ADMIN}:more"
    for output in (
        text,
        quote(text),
        quote(text, safe=""),
        base64.b64encode(text.encode()).decode(),
        base64.urlsafe_b64encode(text.encode()).decode(),
        text.encode().hex(),
    ):
        assert leaks(f"GET /?x={output} HTTP/1.1", SECRETS) == [ADMIN], output


def records(lines: list[str]) -> list[JsonObject]:
    """Each line, which is one of Cloud Logging's records: of a request, or a sentence for the operator."""
    parsed = [orjson.loads(line) for line in lines]
    for record in parsed:
        assert record["severity"] in ("INFO", "WARNING", "ERROR")
        assert isinstance(record["message"], str)
        if "httpRequest" in record:
            assert all(isinstance(value, str) for value in record[LABELS].values())
            assert {"function", "request_id", "outcome", "ledger_writes"} <= record[LABELS].keys()
    return parsed


class Caller:
    """Calls a running gateway, each time under another request id; keeps the ids, and the answers of generations."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.ids: list[str] = []
        self.answers: list[str] = []

    async def __call__(
        self, path: str = "/chat", body: Any = None, method: str = "POST", data: bytes | None = None, **headers: str
    ) -> int:
        self.ids.append(f"call-{len(self.ids)}")
        given = {"x-request-id": self.ids[-1], **{name.replace("_", "-"): value for name, value in headers.items()}}
        if body is not None or data is not None:
            data = orjson.dumps(body) if data is None else data
            given.setdefault("content-type", "application/json")
        status, _, answer = await request(method, self.url + path, data=data, headers=given)
        if status == 200:
            self.answers.extend(texts(answer))
        return status

    async def leave(self, path: str, body: Any, **headers: str) -> None:
        """Hangs up before the answer."""
        asking = asyncio.create_task(self(path, body, **headers))
        await asyncio.wait({asking}, timeout=0.3)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)

    async def send(self, raw: bytes) -> None:
        """Bytes that need not be HTTP."""
        parts = urlsplit(self.url)
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        writer.write(raw)
        writer.write_eof()
        await asyncio.wait_for(reader.read(), 20)
        writer.close()


def texts(answer: Any) -> list[str]:
    """What Gemini said, in an answer of ours of any kind."""
    if isinstance(answer, str):
        events = [orjson.loads(line[6:]) for line in answer.splitlines() if line.startswith("data: ")]
        return [event["text"] for event in events if len(event.get("text", "")) > 12]
    return [str(answer[name]) for name in ("text", "generated_text") if name in answer]


async def call_in_every_way(call: Caller) -> None:
    prompt = {"prompt": PROMPT, "system_prompt": SYSTEM}
    own = {"credentials": {"gemini_api_key": OWN}}
    assert await call(body=prompt, admin_api_key=ADMIN) == 200
    assert await call(body={**prompt, "stream": True}, admin_api_key=NEXT_ADMIN) == 200
    assert await call("/generate_text", {"prompt": PROMPT}, admin_api_key=ADMIN) == 200
    assert await call(body={**prompt, **own}) == 200
    assert await call(body={**prompt, **own, "stream": True}, admin_api_key=WRONG_ADMIN) == 200
    assert await call(body=prompt, authorization=f"Bearer {OWN}") == 200
    assert await call(body=prompt, x_goog_api_key=OWN) == 200
    assert await call(f"/chat?key={quote(QUERY)}&prompt={quote(PROMPT)}", prompt, admin_api_key=ADMIN) == 200

    assert await call(body=prompt, admin_api_key=WRONG_ADMIN) == 401
    assert await call(body=prompt, authorization=f"Basic {base64.b64encode(ADMIN.encode()).decode()}") == 401
    for refused in (SUSPENDED_OWN, INVALID_OWN):
        for stream in (False, True):
            body = {**prompt, "stream": stream, "credentials": {"gemini_api_key": refused}}
            assert await call(body=body) == 401

    half = orjson.dumps({**prompt, **own})[:-1]
    for data in (half, half + MISPLACED.encode(), b"\xff" + half, b"[" + half + b"}]"):
        assert await call(data=data, admin_api_key=ADMIN) == 400
    wrong: list[JsonObject] = [
        {"prompt": [PROMPT]},
        {**prompt, "credentials": OWN},
        {**prompt, "credentials": {"gemini_api_key": [OWN]}},
        {**prompt, MISPLACED: 1},
        {**prompt, "generation_config": {"temperature": MISPLACED}},
        {**prompt, "history": [{"role": MISPLACED, "content": PROMPT}]},
        {**prompt, "message": PROMPT},
    ]
    for body in wrong:
        assert await call(body=body, admin_api_key=ADMIN) == 400
    assert await call(body={**prompt, "model": MISPLACED}, admin_api_key=ADMIN) == 400
    assert await call(body={**prompt, "model": KEY_AS_MODEL}, admin_api_key=ADMIN) == 404
    assert await call(body=prompt, admin_api_key=ADMIN, x_request_timeout=MISPLACED) == 400
    assert await call(body=prompt, admin_api_key=ADMIN, traceparent=f"00-{MISPLACED}-01") == 200
    assert await call(body=prompt, admin_api_key=ADMIN, content_type=f"text/{PATH}") == 415
    assert await call(f"/{PATH}?key={quote(QUERY)}", method="GET") == 404
    assert await call(f"/chat/{PATH}", method="OPTIONS") == 404
    assert await call("/health", method="GET") == 200

    await asyncio.gather(*(call_into(call, fault, stream) for fault in FAULTS for stream in (False, True)))
    hanging = {**prompt, "prompt": f"{PROMPT} [[fault:hang]]", **own}
    assert await call(body=hanging, x_request_timeout="0.5") == 504
    await call.leave("/chat", hanging)
    await call.leave("/chat", {**prompt, "prompt": f"{PROMPT} [[fault:slow@5]]", "stream": True}, admin_api_key=ADMIN)
    await call.send(f"GET /?key={QUERY} NOT-HTTP\r\nAdmin-API-Key: {ADMIN}\r\n\r\n".encode())


async def call_into(call: Caller, fault: str, stream: bool) -> None:
    # With a key of its own each: one that was refused is not sent again.
    credentials = {"gemini_api_key": f"{OWN}-{fault}-{stream}"}
    body = {"prompt": f"{PROMPT} [[fault:{fault}]]", "stream": stream, "credentials": credentials}
    assert await call(body=body, x_request_timeout="2") >= (200 if stream else 400)


class TestSecrets:
    @pytest.mark.parametrize("level", ["info", "debug"])
    async def test_none_is_in_anything_that_the_server_writes(self, level: str, tmp_path: Path) -> None:
        errors = tmp_path / "stderr"
        command = ["sh", "-c", 'exec "$0" -m functions.serve 2>"$1"', sys.executable, str(errors)]
        async with running() as gemini:
            env = {
                "PORT": "0",
                "LEDGER_URL": "memory://",
                "LOG_LEVEL": level,
                "ADMIN_API_KEY": f"{ADMIN},{NEXT_ADMIN}",
                "GEMINI_API_KEY_1": SERVER,
                "GEMINI_API_KEY_2": SUSPENDED_SERVER,
                "GEMINI_BASE_URL": gemini.url,
                "GOOGLE_CLOUD_PROJECT": "project",
                "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{free_port()}",
                "OTEL_EXPORTER_OTLP_HEADERS": f"api-key={quote(COLLECTOR)}",
            }
            async with started(command, env, ready=r"^Serving on (\S+)") as server:
                shown = await server.line(r"^  curl .*$")
                call = Caller(server.url)
                await call_in_every_way(call)
                await self.all_told(server, call)
                assert await server.end() == 0
        told = records(server.lines[server.lines.index(shown.string) + 1 :])
        assert sorted(record[LABELS]["request_id"] for record in told if "httpRequest" in record) == sorted(call.ids)
        assert any("Spans could not be sent" in record["message"] for record in told)
        output = server.output + errors.read_text()
        assert leaks(output, SECRETS) == []
        assert len(call.answers) > 8
        assert leaks(output, tuple(call.answers)) == []

    async def all_told(self, server: Running, call: Caller) -> None:
        """The records of those who hung up come a little after them."""
        for identity in call.ids:
            await server.line(f'"request_id":"{identity}"')


Logged = Callable[[], list[JsonObject]]


@pytest.fixture
def logged(capsys: pytest.CaptureFixture[str]) -> Logged:
    """The records so far."""
    lines: list[str] = []

    def read() -> list[JsonObject]:
        lines.extend(capsys.readouterr().out.splitlines())
        return records(lines)

    return read


class TestWhatWasSpent:
    @pytest.fixture(autouse=True)
    def hurried(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("shared.gateway.retry.BACKOFF_S", 0.02)
        monkeypatch.setattr("shared.gateway.attempts.random", SimpleNamespace(random=lambda: 1.0))

    def spent(self, record: JsonObject) -> tuple[str, int, int]:
        """(outcome, status, attempts); the times are those that were."""
        labels, sent = record[LABELS], record["httpRequest"]
        total_ms = 1000 * float(sent["latency"][:-1])
        assert 0 <= float(labels["queue_ms"]) + float(labels["upstream_ms"]) <= total_ms + 0.01
        assert labels["model"] == MODEL
        attempts = int(labels["attempts"])
        assert (labels.get("account") is not None, float(labels["upstream_ms"]) > 0) == (attempts > 0, attempts > 0)
        return labels["outcome"], sent["status"], attempts

    async def test_an_answer(self, logged: Logged) -> None:
        async with whole_path() as path:
            text_of(await path.ask("Hello [[latency:100]]"))
            text_of(await path.ask("Hello", way="stream"))
            for record in logged():
                assert self.spent(record) == ("ok", 200, 1)
                assert int(record[LABELS]["total_tokens"]) > 0
            assert float(logged()[0][LABELS]["upstream_ms"]) >= 100

    async def test_429_after_a_queue_timeout(self, logged: Logged) -> None:
        async with whole_path(GEMINI_CONCURRENCY_LIMIT=1) as path:
            async with path.asking("[[fault:hang]]"):
                await eventually(lambda: path.open_upstream == 1)
                answer = await path.ask(timeout_s=0.3)
                (record,) = logged()
                assert self.spent(record) == ("queue_timeout", 429, 0)
                assert float(record[LABELS]["queue_ms"]) >= 250
                assert answer.headers["server-timing"].startswith("queue;dur=")
            await path.quiet()

    async def test_502_after_all_attempts(self, logged: Logged) -> None:
        async with whole_path() as path:
            answer = await path.ask("[[fault:500]]")
            assert self.spent(logged()[0]) == ("upstream_failed", 502, 4)
            assert "upstream;dur=" in answer.headers["server-timing"]

    async def test_an_answer_after_failed_attempts_counts_them(self, logged: Logged) -> None:
        async with whole_path() as path:
            text_of(await path.ask("Hello [[fault:500x2]]"))
            assert self.spent(logged()[0]) == ("ok", 200, 3)

    async def test_503_of_a_ledger_that_cannot_be_reached(self, logged: Logged) -> None:
        store = FaultyStore()
        async with whole_path(store=store) as path:
            await path.ask()  # From now on the stored configuration is known for a while.
            await path.quiet()
            store.failure = StoreUnavailable
            await path.ask()
            assert self.spent(logged()[-1]) == ("ledger_unavailable", 503, 0)
            store.failure = None
            await path.quiet()

    async def test_503_of_a_key_that_gemini_refuses(self, logged: Logged) -> None:
        async with whole_path() as path:
            await path.ask("[[fault:401]]")
            assert self.spent(logged()[0]) == ("no_server_key", 503, 1)

    async def test_504_at_the_deadline(self, logged: Logged) -> None:
        async with whole_path() as path:
            await path.ask("[[fault:hang]]", timeout_s=2)
            assert self.spent(logged()[0]) == ("upstream_timeout", 504, 1)
            assert float(logged()[0][LABELS]["upstream_ms"]) >= 300

    async def test_a_caller_that_goes(self, logged: Logged) -> None:
        async with whole_path() as path:
            async with path.asking("[[fault:hang]]"):
                await eventually(lambda: path.open_upstream == 1)
            await eventually(lambda: len(logged()) == 1)
            assert self.spent(logged()[0]) == ("caller_gone", 499, 1)

    async def test_a_stream_that_breaks(self, logged: Logged) -> None:
        async with whole_path() as path:
            await path.ask("[[fault:cut]]", way="stream")
            assert self.spent(logged()[0]) == ("upstream_failed", 200, 1)
            assert logged()[0]["severity"] == "ERROR"

    async def test_unknown_model_is_not_logged(self, logged: Logged) -> None:
        async with whole_path() as path:
            assert (await path.ask(model="a-canary-for-a-model")).status == 404
            (record,) = logged()
            assert "model" not in record[LABELS]
            assert "canary" not in str(record)

    async def test_ledger_writes_add_up_to_those_that_were_made(self, logged: Logged) -> None:
        async with whole_path() as path:
            await asyncio.gather(*(path.ask(f"{n}") for n in range(8)))
            await path.quiet()
            await path.send("GET", "/health")
            written = path.services.admission.writes
            assert sum(int(record[LABELS]["ledger_writes"]) for record in logged()) == written > 0


class TestSpans:
    """The same timeline, as a collector gets it from a real request."""

    @pytest.mark.parametrize("way", ["chat", "stream"])
    async def test_a_tree_of_queue_and_upstream_within_the_request(self, way: str) -> None:
        async with receiver() as received, whole_path(OTEL_EXPORTER_OTLP_ENDPOINT=received.url) as path:
            text_of(await path.ask("Hello [[latency:50]] [[fault:500x1]]", way=way))
        root = received.one("POST /chat")
        failed, answered = sorted(received.named(f"generate_content {MODEL}"), key=lambda span: span.began_ns)
        queues = sorted(received.named("queue"), key=lambda span: span.began_ns)
        assert (root.parent, len(queues)) == ("", 2)
        assert {span.parent for span in (failed, answered, *queues)} == {root.span_id}
        order = [queues[0], failed, queues[1], answered]
        times = [time for span in order for time in (span.began_ns, span.ended_ns)]
        assert [root.began_ns, *times, root.ended_ns] == sorted([root.began_ns, *times, root.ended_ns])
        assert (failed.failed, answered.failed, root.failed) == (True, False, False)
        assert answered.took_s >= 0.05
        assert answered.attributes["gen_ai.usage.input_tokens"] > 0
