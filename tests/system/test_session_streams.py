"""The answer of a turn over two processes on one store: it is resumed, stopped and interrupted from either of them."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import NamedTuple

import pytest
import pytest_asyncio

from shared.emulator import Emulator, EmulatorConfig, running
from tests.support.processes import Running
from tests.support.session_streams import PATIENCE_S, Client, clients, two_servers
from tests.support.whole_path import eventually

pytestmark = pytest.mark.asyncio(loop_scope="module")

EVENTS, WORDS = 40, 200
MESSAGE = f"Hello [[words:{WORDS}]] [[frames:{EVENTS + 1}]] [[fault:slow@0.02]]"
SHORT = "And now? [[words:30]] [[frames:5]] [[fault:slow@0.01]]"
LONG = "Hello [[words:600]] [[frames:600]] [[fault:slow@0.2]]"
MAX_STOP_S = 1.0


class Site(NamedTuple):
    gemini: Emulator
    one: Running
    two: Running

    @property
    def requests(self) -> int:
        return int(self.gemini.stats()["requests"])

    async def quiet(self) -> None:
        await eventually(lambda: self.gemini.stats()["open"] == 0, PATIENCE_S)


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=["sqlite", "firestore"])
async def site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Site]:
    folder, env = tmp_path_factory.mktemp("site"), {}
    if request.param == "firestore":
        env = {
            "LEDGER_URL": "firestore://gateway-tests/(default)",
            "FIRESTORE_EMULATOR_HOST": request.getfixturevalue("firestore_host"),
            "GEMINI_API_KEY_PROJECT": f"streams-{time.time_ns()}",
        }
    async with running(EmulatorConfig()) as gemini, two_servers(folder, gemini.url, env) as (one, two):
        yield Site(gemini, one, two)


async def whole(client: Client, server: Running) -> None:
    """The client has the whole text, each part of it once."""
    client.assert_ids_rise()
    assert [event.name for event in client.events][-2:] == ["usage", "done"]
    kept = (await client.history(server))[-1]
    assert (kept["state"], kept["answer"]) == ("done", client.text)


async def test_a_cut_anywhere_is_resumed_elsewhere(site: Site) -> None:
    """For every number of events before the cut, each with a client of its own."""
    before = site.requests

    async def cut_after(count: int, client: Client) -> None:
        await client.send(site.one, MESSAGE)
        await client.read(site.one, count)
        await client.read(site.two)
        await whole(client, site.two)
        assert len(client.text.split()) == WORDS

    async with clients(EVENTS + 1) as all_clients:
        await asyncio.gather(*(cut_after(count, client) for count, client in enumerate(all_clients)))
    assert site.requests == before + EVENTS + 1
    await site.quiet()


async def test_five_cuts_in_a_row_in_two_turns(site: Site) -> None:
    before, servers = site.requests, (site.one, site.two)
    async with clients(1) as (client,):
        for _ in range(2):
            await client.send(servers[0], MESSAGE)
            for cut in range(5):
                await client.read(servers[cut % 2], 3)
            await client.read(servers[1])
            await whole(client, servers[0])
            await client.read(servers[0])
            assert client.status == 204
    assert site.requests == before + 2


async def test_two_processes_that_open_a_turn_pay_once(site: Site) -> None:
    before = site.requests
    async with clients(1) as (first,), clients(1) as (second,):
        await first.send(site.one, MESSAGE)
        second.turn, second.session_id = first.turn, first.session_id
        await asyncio.gather(first.read(site.one), second.read(site.two))
        await whole(first, site.one)
        await whole(second, site.two)
    assert site.requests == before + 1


async def test_an_answer_is_stopped_from_elsewhere(tmp_path: Path) -> None:
    """With one slot at Gemini: the next answer begins only if it is free again."""
    env = {"GEMINI_CONCURRENCY_LIMIT": "1"}
    async with running(EmulatorConfig()) as gemini, two_servers(tmp_path, gemini.url, env) as (one, two):
        loop, took_s = asyncio.get_running_loop(), []
        async with clients(1) as (client,):
            for _ in range(3):
                await client.send(one, LONG)
                reading = asyncio.create_task(client.read(one))
                await eventually(lambda: len(client.events) >= 2, PATIENCE_S)
                began_s = loop.time()
                stopping = asyncio.create_task(client.stop(two))
                await eventually(lambda: gemini.stats()["open"] == 0, PATIENCE_S)
                took_s.append(loop.time() - began_s)
                assert (await stopping)["state"] == "stopped"
                await reading
                assert client.events[-1].data["state"] == "stopped"
                kept = (await client.history(two))[-1]
                assert (kept["state"], kept["answer"]) == ("stopped", client.text)
                assert kept["usage"]["prompt_tokens"] > 0
        # The machine may be busy during one of them.
        assert min(took_s) < MAX_STOP_S


async def test_a_process_that_stops_keeps_the_text(tmp_path: Path) -> None:
    async with running(EmulatorConfig()) as gemini, two_servers(tmp_path, gemini.url) as (one, two):
        async with clients(1) as (client,):
            await client.send(one, LONG)
            reading = asyncio.create_task(client.read(one))
            await eventually(lambda: len(client.events) >= 2, PATIENCE_S)
            assert await one.end() == 0
            await asyncio.gather(reading, return_exceptions=True)
            await client.read(two)
            client.assert_ids_rise()
            assert client.events[-1].name == "interrupted"
            (kept,) = await client.history(two)
            assert (kept["state"], kept["answer"]) == ("interrupted", client.text)
        assert gemini.stats()["open"] == 0


async def suspended(folder: Path, for_s: float) -> None:
    """A process is suspended when its client leaves, and continues when its turn has long ended elsewhere."""
    async with running(EmulatorConfig()) as gemini, two_servers(folder, gemini.url) as (one, two):
        async with clients(1) as (client,):
            await client.send(one, LONG)
            await client.read(one, 2, timeout_s=2)
            one.process.send_signal(signal.SIGSTOP)
            try:
                began_s = asyncio.get_running_loop().time()
                while not client.events or client.events[-1].name != "interrupted":
                    await client.read(two)
                client.assert_ids_rise()
                await client.send(two, SHORT)
                await client.read(two)
                await whole(client, two)
                await asyncio.sleep(for_s - (asyncio.get_running_loop().time() - began_s))
            finally:
                one.process.send_signal(signal.SIGCONT)
            await eventually(lambda: gemini.stats()["open"] == 0, PATIENCE_S)
            # Its own requests are answered again, so that what it had left to write is written.
            late = await client.history(one)
            await asyncio.sleep(1.0)
            first, second = await client.history(two)
            assert [first, second] == late
            assert (first["state"], second["state"], second["answer"]) == ("interrupted", "done", client.text)
            await client.send(one, SHORT)
            await client.read(one)
            await whole(client, one)
        assert gemini.stats()["requests"] == 3


async def test_what_a_suspended_process_writes_is_rejected(tmp_path: Path) -> None:
    await suspended(tmp_path, 0)


@pytest.mark.heavy
async def test_a_process_that_was_suspended_for_a_minute(tmp_path: Path) -> None:
    await suspended(tmp_path, 60)
