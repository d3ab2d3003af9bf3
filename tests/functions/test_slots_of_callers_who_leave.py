"""A Gemini that works on for callers who left never sees more requests at once than it allows."""

from __future__ import annotations

import asyncio

import pytest

from shared.clock import elapsed_s
from shared.emulator.config import Project
from tests.support.edge import Answer
from tests.support.whole_path import WholePath, eventually, text_of, whole_path

STRICT = Project(concurrency=1)
SETTINGS = {"GEMINI_CANCELS": 0, "GEMINI_CONCURRENCY_LIMIT": 1, "REQUEST_TIMEOUT_SECONDS": 4}
USUAL_S = 0.8
LATENCY = f"[[latency:{USUAL_S * 1000:.0f}]]"


async def teach(path: WholePath) -> None:
    """Three answers that take the usual time."""
    for _ in range(3):
        assert text_of(await path.ask(LATENCY))


async def next_one(path: WholePath) -> tuple[Answer, float]:
    began_s = elapsed_s()
    return await path.ask("Hello"), elapsed_s() - began_s


def refused_for_concurrency(path: WholePath) -> int:
    return int(path.gemini.stats()["refused"].get("concurrency", 0))


async def kept_slots(path: WholePath) -> int:
    now_ms = path.services.admission.clock.latest_ms()
    leases = [lease for state in (await path.ledgers()).values() for lease in state.leases.values()]
    return sum(end_ms > now_ms for lease in leases for end_ms in lease.ends_ms)


@pytest.mark.parametrize("way", ["chat", "stream"])
async def test_a_slot_is_kept_while_gemini_works(way: str) -> None:
    async with whole_path(upstream=STRICT, cancels=False, **SETTINGS) as path:
        await teach(path)
        async with path.asking(LATENCY, way=way):
            await eventually(lambda: path.open_upstream == 1)
        await path.quiet()  # Also at Gemini: the slot is its own, which is freed when it would have answered.
        async with path.asking(LATENCY, way=way):
            await eventually(lambda: path.open_upstream == 1)
        answer, waited_s = await next_one(path)
        assert text_of(answer)
        assert waited_s > USUAL_S / 2, "it was sent while Gemini still worked for the one who left"
        assert refused_for_concurrency(path) == 0


async def test_what_is_unknown_keeps_it_to_the_deadline() -> None:
    """Nothing was answered yet. The next request is served after the deadline of the one before it."""
    async with whole_path(upstream=STRICT, cancels=False, **SETTINGS) as path:
        async with path.asking("[[fault:hang]]", timeout_s=2):
            await eventually(lambda: path.open_upstream == 1)
        await eventually(lambda: not path.busy)
        assert await kept_slots(path) == 1
        answer, waited_s = await next_one(path)
        assert text_of(answer)
        assert waited_s > 1
        assert refused_for_concurrency(path) == 0


async def test_an_answer_that_is_too_long_keeps_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The connection is closed by this side, in the middle of the answer."""
    monkeypatch.setattr("shared.gemini.client.MAX_STREAM_BYTES", 2_000)
    async with whole_path(upstream=STRICT, cancels=False, **SETTINGS) as path:
        broken = await path.ask("[[fault:slow@0.2]] [[words:500]]", way="stream", timeout_s=2)
        assert broken.events()[-1][0] == "error"
        await asyncio.sleep(0.1)
        assert await kept_slots(path) == 1
        answer, _ = await next_one(path)
        assert text_of(answer)
        assert refused_for_concurrency(path) == 0


@pytest.mark.parametrize("fault", ["503", "reset", "cut", "malformed", "429"])
async def test_what_gemini_ended_keeps_nothing(fault: str) -> None:
    settings = {**SETTINGS, "REQUEST_TIMEOUT_SECONDS": 2}
    async with whole_path(upstream=STRICT, cancels=False, **settings) as path:
        assert (await path.ask(f"[[fault:{fault}]]")).status != 200
        await eventually(lambda: not path.busy)
        assert await kept_slots(path) == 0
