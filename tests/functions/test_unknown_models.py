"""Model ids that the table does not have, over the whole path: Gemini decides, and its answers tell what is metered."""

from __future__ import annotations

import asyncio

import pytest

from shared.clock import elapsed_s
from shared.emulator.config import Limits, Project
from shared.ledger.state import UNPROVEN
from tests.support.whole_path import MODEL, WAYS, WholePath, text_of, told, whole_path

ALIAS, NEW = "gemini-brand-new", "gemini-another-new"


def sections(path: WholePath) -> set[str]:
    return {section for agent in path.services.admission.projects.values() for section in agent.holdings.models}


@pytest.mark.parametrize("way", WAYS)
async def test_unknown_alias_is_served_and_counted_as_its_target(way: str) -> None:
    async with whole_path(aliases={ALIAS: MODEL}) as path:
        for _ in range(3):
            assert "Hello" in text_of(await path.ask("Hello", way=way, model=ALIAS))
        await path.quiet()
        state = (await path.ledgers())["server"]
        assert state.names[ALIAS].model == MODEL
        assert sum(state.sections[MODEL].days.values()) == 3
        assert state.sections[UNPROVEN].days == {}
        assert sum(cost.requests for cost in state.sections[UNPROVEN].ring.values()) == 1


async def test_headers_tell_the_requested_model_and_the_used_one() -> None:
    async with whole_path(aliases={ALIAS: MODEL}) as path:
        answer = await path.ask(model=ALIAS)
        assert (answer.headers["x-model-requested"], answer.headers["x-model-used"]) == (ALIAS, MODEL)


@pytest.mark.parametrize("way", WAYS)
async def test_a_404_is_remembered_and_leaves_no_trace_in_the_day(way: str) -> None:
    async with whole_path() as path:
        first = await path.ask(way=way, model=NEW)
        again = await path.ask(way=way, model=NEW)
        assert told(first) == told(again) == (404, "model_not_found")
        assert first.error["message"] == again.error["message"]
        assert first.error["details"] == again.error["details"]
        assert path.sent == 1, "the second is not asked"
        await path.quiet()
        state = (await path.ledgers())["server"]
        assert set(state.sections) == {UNPROVEN}
        assert state.sections[UNPROVEN].days == {}, "no day's count"
        assert sum(cost.requests for cost in state.sections[UNPROVEN].ring.values()) == 1, "the minute's stays"


async def test_requests_that_wait_for_a_missing_model_are_not_sent() -> None:
    async with whole_path() as path:
        answers = await asyncio.gather(*(path.ask("[[latency:100]]", model=NEW) for _ in range(8)))
        assert {told(answer) for answer in answers} == {(404, "model_not_found")}
        assert path.sent == 1


async def test_a_404_of_a_known_model_keeps_its_section() -> None:
    async with whole_path() as path:
        assert told(await path.ask("[[fault:404]]")) == (404, "model_not_found")
        assert told(await path.ask()) == (404, "model_not_found")
        assert path.sent == 1
        state = (await path.ledgers())["server"]
        assert MODEL in state.sections and state.sections[MODEL].days == {}


async def test_404_is_remembered_per_project() -> None:
    async with whole_path(accounts={"AQ.key-of-project-one": "one", "AQ.key-of-project-two": "two"}) as path:
        text_of(await path.ask("[[fault:404x1]]"))
        for _ in range(3):
            text_of(await path.ask())
        assert sorted(path.sent_by_key.values()) == [1, 4]


async def most_open(path: WholePath, *models: str) -> int:
    """How many requests Gemini had at once while one was sent for each of `models`."""
    most, tasks = 0, [asyncio.create_task(path.ask("[[latency:300]]", model=model)) for model in models]
    while not all(task.done() for task in tasks):
        most = max(most, path.open_upstream)
        await asyncio.sleep(0.005)
    assert all(text_of(task.result()) for task in tasks)
    return most


async def test_unproven_ids_take_turns_and_proven_ones_do_not() -> None:
    async with whole_path(aliases={ALIAS: MODEL, NEW: "gemini-3.6-flash"}) as path:
        assert await most_open(path, ALIAS, NEW) == 1, "nothing is known of either"
        assert await most_open(path, ALIAS, ALIAS, NEW, NEW) == 4


async def test_an_id_in_gemini_limits_has_a_section_of_its_own_at_once() -> None:
    limits = f'{{"{NEW}": {{"rpm": 2}}}}'
    async with whole_path(GEMINI_LIMITS=limits, aliases={NEW: NEW}) as path:
        assert told(await path.ask(model=NEW)) == (404, "model_not_found")
        assert set((await path.ledgers())["server"].sections) == {NEW}


async def test_a_model_is_served_at_once_after_a_hundred_unknown_ids() -> None:
    async with whole_path() as path:
        answers = await asyncio.gather(*(path.ask(model=f"no-model-{at}") for at in range(100)))
        assert {told(answer) for answer in answers} == {(404, "model_not_found")}
        began_s = elapsed_s()
        text_of(await path.ask(model="gemini-3.6-flash"))
        assert elapsed_s() - began_s < 2
        assert set((await path.ledgers())["server"].sections) == {UNPROVEN, "gemini-3.6-flash"}


async def test_unknown_alias_costs_at_most_one_refusal() -> None:
    """An unknown alias of a model whose limit is used whole: its first answer, or refusal, tells where it counts."""
    rpm, until_s = 60, elapsed_s() + 14
    async with whole_path(
        upstream=Project(limits=Limits(rpm=rpm)), aliases={ALIAS: MODEL}, GEMINI_RPM=rpm, LEDGER_WINDOW_SECONDS=6
    ) as path:

        async def caller(model: str, from_s: float) -> None:
            await asyncio.sleep(from_s)
            while elapsed_s() < until_s:
                answer = await path.ask("[[latency:20]]", model=model, timeout_s=5)
                assert answer.status in (200, 429), answer.body

        callers = [caller(MODEL, 0) for _ in range(12)] + [caller(ALIAS, 4.0 + 0.1 * at) for at in range(6)]
        await asyncio.gather(*callers)
        refused = dict(path.gemini.stats()["refused"])
        assert sum(refused.values()) <= 1, refused
        assert (await path.ledgers())["server"].names[ALIAS].model == MODEL
