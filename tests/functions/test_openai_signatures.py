"""Tool loops over OpenAI's API: Gemini rejects no turn, although clients return neither signatures nor whole ids."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest

from shared.emulator import EmulatorConfig, answers, running, validate
from shared.gemini.references import PLACEHOLDER
from shared.generation import JsonObject
from shared.openai_api import signatures
from shared.stores.memory import MemoryStore
from shared.stores.port import StoreUnavailable
from tests.support.edge import ADMIN
from tests.support.processes import served
from tests.support.service_accounts import PROJECT, vertex_account
from tests.support.whole_path import MODEL, SERVER_KEY, WholePath, whole_path

PATH = "/v1/chat/completions"
NAMES = ("look_up", "convert")
TOOLS = [{"type": "function", "function": {"name": name, "description": name}} for name in NAMES]
Send = Callable[[JsonObject], Awaitable[bytes]]


class Seen:
    """The signatures of function calls in each request that reached Gemini, and how many calls each turn had. Every signature
    that Gemini makes is another one."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.made: list[str] = []
        self.signatures: list[list[str]] = []
        self.calls: list[list[int]] = []
        check, signed = validate.check_signatures, answers.signed

        def noted(contents: list[JsonObject], backend: Any) -> None:
            turns = [[part for part in one["parts"] if "functionCall" in part] for one in contents]
            self.calls.append([len(turn) for turn in turns if turn])
            self.signatures.append(
                [part["thoughtSignature"] for turn in turns for part in turn if "thoughtSignature" in part]
            )
            check(contents, backend)

        def made(seed: int, backend: Any) -> str:
            self.made.append(signed(len(self.made), backend))
            return self.made[-1]

        monkeypatch.setattr(validate, "check_signatures", noted)
        monkeypatch.setattr(answers, "signed", made)

    def assert_own(self, turns: int) -> None:
        """Each turn's two calls came back in one content, signed as Gemini had signed them."""
        assert self.calls == [[2] * number for number in range(turns)]
        assert [len(one) for one in self.signatures] == list(range(turns))
        last = self.signatures[-1]
        assert all(one == last[: len(one)] for one in self.signatures)
        assert last == sorted(set(last), key=self.made.index)


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> Seen:
    return Seen(monkeypatch)


class Client:
    """Keeps of a call its name, its arguments and the first characters of its id."""

    def __init__(self, *, streamed: bool = False, kept: int = 64) -> None:
        self.messages: list[JsonObject] = [{"role": "user", "content": "Use look_up and convert."}]
        self.ids: list[str] = []
        """As they were sent."""
        self._streamed, self._kept = streamed, kept

    async def turn(self, send: Send) -> None:
        body = {"model": MODEL, "messages": self.messages, "tools": TOOLS, "tool_choice": "required"}
        answer = await send({**body, "stream": self._streamed})
        calls = list(_of_stream(answer)) if self._streamed else _of_message(answer)
        assert [call["function"]["name"] for call in calls] == list(NAMES)
        self.ids += [call["id"] for call in calls]
        kept = [
            {
                "id": call["id"][: self._kept],
                "type": "function",
                "function": {name: call["function"][name] for name in ("name", "arguments")},
            }
            for call in calls
        ]
        results = [{"role": "tool", "tool_call_id": call["id"], "content": '{"ok": 1}'} for call in kept]
        self.messages += [{"role": "assistant", "content": None, "tool_calls": kept}, *results]


def _of_message(answer: bytes) -> list[JsonObject]:
    calls: list[JsonObject] = orjson.loads(answer)["choices"][0]["message"]["tool_calls"]
    return calls


def _of_stream(answer: bytes) -> Iterator[JsonObject]:
    lines = [line.removeprefix(b"data: ") for line in answer.split(b"\n") if line.startswith(b"data: ")]
    assert lines.pop() == b"[DONE]"
    for line in lines:
        for choice in orjson.loads(line)["choices"]:
            yield from choice["delta"].get("tool_calls", ())


def over(path: WholePath, **headers: str) -> Send:
    async def send(body: JsonObject) -> bytes:
        answer = await path.send("POST", PATH, orjson.dumps(body), {**ADMIN, **headers})
        assert answer.status == 200, answer.body
        return answer.body

    return send


@asynccontextmanager
async def server(gemini_url: str, folder: Path) -> AsyncIterator[Send]:
    """A process of the gateway, whose store is a file."""
    env = {
        "GEMINI_API_KEY": SERVER_KEY,
        "GEMINI_BASE_URL": gemini_url,
        "LEDGER_URL": f"sqlite:///{folder}/ledger.db",
        "STORAGE_URL": f"file://{folder}/storage",
    }
    async with served(env) as process, aiohttp.ClientSession() as session:

        async def send(body: JsonObject) -> bytes:
            async with session.post(process.url + PATH, json=body, headers=ADMIN) as response:
                answer = await response.read()
                assert response.status == 200, answer
                return answer

        yield send


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
async def test_a_loop_outlives_the_gateway(tmp_path: Path, seen: Seen, streamed: bool) -> None:
    """Six turns of two parallel calls; another process answers from the fourth one on."""
    client = Client(streamed=streamed)
    async with running(EmulatorConfig(keys={SERVER_KEY: "p"})) as gemini:
        for _ in range(2):
            async with server(gemini.url, tmp_path) as send:
                for _ in range(3):
                    await client.turn(send)
        assert gemini.stats()["answered"] == {"200": 6}
    seen.assert_own(6)


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
async def test_a_loop_outlives_the_account_that_signed(seen: Seen, streamed: bool) -> None:
    """The API key is rejected from the third turn on, and Vertex AI would reject its signatures."""
    client = Client(streamed=streamed)
    async with whole_path(others=[vertex_account()]) as path:
        send = over(path)
        _, vertex = path.services.pool.server
        path.services.pool.pause(vertex, "restricted", "")  # The first turn is the API key's.
        for number in range(1, 7):
            if number == 2:
                path.services.pool._disabled.clear()
            if number == 3:
                path.gemini.inject("401", 1000, key=SERVER_KEY)
            await client.turn(send)
        stats = path.gemini.stats()
        assert stats["answered"] == {"200": 6, "401": 1}
        assert stats["projects"][f"vertex/{PROJECT}"]["models"][MODEL]["admitted"] == 4
    # The key's two signatures are replaced; those of Vertex AI return to it.
    last = seen.signatures[-1]
    assert last[:2] == [PLACEHOLDER] * 2
    assert PLACEHOLDER not in last[2:]


@pytest.mark.parametrize("kept", [40, 29])
async def test_ids_may_be_cut_further(seen: Seen, kept: int) -> None:
    async with whole_path() as path:
        client = Client(kept=kept)
        for _ in range(3):
            await client.turn(over(path))
    seen.assert_own(3)


async def test_whole_ids_need_no_store(seen: Seen, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signatures, "MAX_REMEMBERED_CHARS", 0)
    async with whole_path() as path:
        transact = path.services.store.transact

        async def failing(keys: Any, step: Any, **rest: Any) -> Any:
            if any(key.startswith("bindings/") for key in keys):
                raise StoreUnavailable("down")
            return await transact(keys, step, **rest)

        monkeypatch.setattr(path.services.store, "transact", failing)
        client = Client(kept=1_000)
        for _ in range(3):
            await client.turn(over(path))
    seen.assert_own(3)


async def test_a_lost_signature_is_replaced(seen: Seen) -> None:
    """Calls of another program, and calls with ids that were cut to almost nothing."""
    async with whole_path() as path:
        client = Client(kept=10)
        client.messages += [
            {
                "role": "assistant",
                "tool_calls": [
                    {"id": name, "type": "function", "function": {"name": name, "arguments": "{}"}} for name in NAMES
                ],
            },
            *({"role": "tool", "tool_call_id": name, "content": "ok"} for name in NAMES),
        ]
        for _ in range(2):
            await client.turn(over(path))
        assert path.gemini.stats()["answered"] == {"200": 2}
    assert seen.signatures == [[PLACEHOLDER], [PLACEHOLDER] * 2]


async def test_another_callers_ids_lead_to_no_signature(seen: Seen) -> None:
    async with whole_path() as path:
        client = Client()
        await client.turn(over(path, **{"x-caller-id": "one"}))
        signed = client.ids[0]
        await client.turn(over(path, **{"x-caller-id": "two"}))
        await client.turn(over(path, **{"x-caller-id": "one"}))
    assert signed.startswith("call_")
    assert seen.signatures[1] == [PLACEHOLDER]
    own, others = seen.signatures[2]
    assert own != PLACEHOLDER
    assert others == PLACEHOLDER


async def test_only_answers_with_signatures_are_written() -> None:
    async with whole_path() as path:
        body = {"model": MODEL, "messages": [{"role": "user", "content": "Hello"}]}
        await over(path)(body)
        assert await path.services.store.list("bindings/") == []
        await Client().turn(over(path))
        assert len(await path.services.store.list("bindings/")) == 1


async def test_what_a_conversation_needs_expires_together() -> None:
    """The signature, and which backend made it."""
    async with whole_path(others=[vertex_account()], SESSION_TTL_HOURS=2) as path:
        await Client().turn(over(path))
        store = path.services.store
        assert isinstance(store, MemoryStore)
        puts = [entry.put for key, entry in store._shelf.entries.items() if key.startswith("bindings/")]
        assert len(puts) == 2
        now_ms = store._shelf.sample().server_ms
        assert [put.expires_at_ms for put in puts] == pytest.approx([now_ms + 7_200_000] * 2, abs=60_000)
