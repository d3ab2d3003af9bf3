"""What becomes of a request when Gemini refuses a key or a quota is used up, by its own word or by the ledger's."""

from __future__ import annotations

import asyncio
import time

import orjson
import pytest

from shared.clock import elapsed_s
from shared.emulator.config import Limits, Project
from shared.emulator.limits import next_midnight_s
from shared.stores.memory import MemoryStore, Shelf
from tests.support.edge import Answer
from tests.support.whole_path import (
    MODEL,
    OWN_KEY,
    OWN_LEDGER,
    SERVER_KEY,
    WAYS,
    WholePath,
    eventually,
    text_of,
    told,
    whole_path,
)

ONE, TWO, THREE = "AQ.key-one", "AQ.key-two", "AQ.key-three"
PROJECTS = {ONE: "one", TWO: "two"}

ways = pytest.mark.parametrize("way", WAYS)
faults_and_ways = pytest.mark.parametrize(("fault", "way"), [*(("429", way) for way in WAYS), ("429-tokens", "chat")])


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shared.gateway.PRESSURE_DELAY_S", 0.05)


def retry_after_s(answer: Answer) -> int:
    return int(answer.headers["retry-after"])


def assert_until_midnight(answer: Answer) -> None:
    """Pacific: when Google's daily quotas begin anew."""
    left_s = next_midnight_s(time.time()) - time.time()
    assert abs(retry_after_s(answer) - left_s) < 30 or left_s < 30


async def out(path: WholePath) -> dict[str, str]:
    """The accounts that health says are out, and why."""
    answer = await path.send("GET", "/health")
    found: dict[str, str] = answer.json()["accounts"]["out"]
    return found


class TestServerKeys:
    @ways
    @pytest.mark.parametrize(
        ("fault", "why"), [("401", "key_invalid"), ("429-depleted", "account")], ids=["401", "429-depleted"]
    )
    async def test_a_refused_key_is_out_and_the_next_account_answers(self, fault: str, why: str, way: str) -> None:
        async with whole_path(accounts=PROJECTS) as path:
            path.gemini.inject(fault)
            assert "Hello" in text_of(await path.ask(way=way))
            (refused,) = await out(path)
            assert await out(path) == {refused: why}
            await asyncio.gather(*(path.ask() for _ in range(4)))
            assert sorted(path.sent_by_key.values()) == [1, 5]
            assert (await out(path)) == {refused: why}

    @pytest.mark.parametrize("word", ["invalid", "expired", "suspended", "leaked"])
    async def test_a_key_that_google_calls_so_is_out_and_the_good_one_answers(self, word: str) -> None:
        async with whole_path(accounts={f"AQ.key-{word}": "one", TWO: "two"}) as path:
            for _ in range(3):
                text_of(await path.ask())
            assert path.sent_by_key[TWO] == 3
            assert path.sent_by_key.get(f"AQ.key-{word}", 0) <= 1

    @ways
    async def test_without_any_key_left_it_is_told_at_once_and_gemini_is_not_asked_again(self, way: str) -> None:
        async with whole_path() as path:
            first, second = await path.ask("[[fault:401]]", way=way), await path.ask(way=way)
            assert (told(first), told(second)) == ((503, "no_server_key"), (503, "no_server_key"))
            assert (retry_after_s(first), retry_after_s(second)) == (60, 60)
            assert path.sent == 1

    async def test_a_permission_that_is_missing_leads_to_the_next_account_and_puts_none_out(self) -> None:
        async with whole_path(accounts=PROJECTS) as path:
            path.gemini.inject("403")
            text_of(await path.ask())
            assert (sorted(path.sent_by_key.values()), await out(path)) == ([1, 1], {})

    async def test_a_permission_that_every_account_misses_is_told_in_googles_words(self) -> None:
        async with whole_path(accounts=PROJECTS) as path:
            answer = await path.ask("[[fault:403]]")
            assert told(answer) == (502, "upstream_failed")
            assert "are blocked" in answer.error["message"]
            assert answer.error["details"]["reason"] == "API_KEY_SERVICE_BLOCKED"

    async def test_without_a_key_of_the_servers_a_caller_with_one_is_served(self) -> None:
        async with whole_path(accounts={}) as path:
            assert told(await path.ask()) == (503, "no_server_key")
            text_of(await path.ask(key=OWN_KEY))
            assert list(await path.ledgers()) == [OWN_LEDGER]


class TestOwnKeys:
    @ways
    @pytest.mark.parametrize("fault", ["401", "403", "429-depleted"])
    async def test_a_refused_key_is_told_to_its_caller_and_no_key_of_the_servers_serves(
        self, fault: str, way: str
    ) -> None:
        async with whole_path() as path:
            answer = await path.ask(f"[[fault:{fault}]]", key=OWN_KEY, way=way)
            assert told(answer) == (401, "invalid_gemini_key")
            assert path.sent_by_key == {OWN_KEY: 1}
            text_of(await path.ask())
            assert await out(path) == {}

    async def test_a_key_that_google_does_not_know_is_not_sent_there_again(self) -> None:
        async with whole_path() as path:
            for _ in range(3):
                assert told(await path.ask("[[fault:401]]", key=OWN_KEY)) == (401, "invalid_gemini_key")
            assert path.sent == 1

    async def test_one_callers_bad_key_is_nothing_to_another(self) -> None:
        async with whole_path() as path:
            assert told(await path.ask(key="AQ.an-invalid-key")) == (401, "invalid_gemini_key")
            text_of(await path.ask(key=OWN_KEY))

    async def test_its_minute_is_waited_for_as_on_the_servers(self) -> None:
        async with whole_path() as path:
            text_of(await path.ask("[[fault:429@0.4x1]]", key=OWN_KEY))
            assert await path.dispatched(OWN_LEDGER) == 2

    async def test_a_key_that_the_server_has_too_uses_that_projects_ledger(self) -> None:
        async with whole_path(GEMINI_RPM=2, LEDGER_WINDOW_SECONDS=6) as path:
            text_of(await path.ask())
            text_of(await path.ask(key=SERVER_KEY))
            for key in (None, SERVER_KEY):
                assert told(await path.ask(key=key, timeout_s=0.3)) == (429, "queue_timeout")
            assert (path.sent, list(await path.ledgers())) == (2, ["server"])

    async def test_such_a_caller_does_not_make_the_servers_ledger_one_that_is_forgotten(self) -> None:
        shelf = Shelf()
        async with whole_path(store=MemoryStore(shelf)) as path:
            assert told(await path.ask("[[fault:404]]", key=SERVER_KEY)) == (404, "model_not_found")
            text_of(await path.ask())
            assert shelf.entries["ledger/server"].put.expires_at_ms is None


class TestMinuteQuotas:
    """Gemini refuses although the ledger had a permit: somebody else spends the same quota."""

    @faults_and_ways
    async def test_its_end_is_waited_for_in_the_queue(self, fault: str, way: str) -> None:
        async with whole_path() as path:
            began_s = elapsed_s()
            assert "Hello" in text_of(await path.ask(f"Hello [[fault:{fault}@0.4x1]]", way=way))
            assert 0.4 <= elapsed_s() - began_s < 4
            assert (path.sent, await path.dispatched()) == (2, 2)

    @faults_and_ways
    async def test_an_end_after_the_deadline_is_told_with_the_time_until_it(self, fault: str, way: str) -> None:
        async with whole_path() as path:
            answer = await path.ask(f"[[fault:{fault}@30]]", way=way, timeout_s=0.4)
            assert told(answer) == (429, "queue_timeout")
            assert 28 <= retry_after_s(answer) <= 31
            assert (path.sent, await path.dispatched()) == (1, 1)

    async def test_nobody_asks_gemini_before_that(self) -> None:
        async with whole_path() as path:
            await path.ask("[[fault:429@30]]", timeout_s=0.3)
            answers = await asyncio.gather(*(path.ask(timeout_s=0.3) for _ in range(3)))
            assert [told(answer) for answer in answers] == [(429, "queue_timeout")] * 3
            assert all(26 <= retry_after_s(answer) <= 32 for answer in answers)
            assert all("You exceeded your current quota" in answer.error["message"] for answer in answers)
            assert path.sent == 1

    async def test_another_project_answers_in_the_meantime(self) -> None:
        async with whole_path(accounts=PROJECTS) as path:
            path.gemini.inject("429@30")
            began_s = elapsed_s()
            text_of(await path.ask())
            assert elapsed_s() - began_s < 3
            assert sorted(path.sent_by_key.values()) == [1, 1]

    async def test_a_limit_that_is_lower_than_configured_is_learned_and_kept(self) -> None:
        limited = Project(limits=Limits(rpm=2))
        async with whole_path(upstream=limited, LEDGER_WINDOW_SECONDS=2) as path:
            for answer in await asyncio.gather(*(path.ask(f"Hello {number}") for number in range(4))):
                text_of(answer)
            seen = path.gemini.stats()["projects"]["server"]["models"][MODEL]
            assert (seen["admitted"], seen["max_requests_in_window"]) == (4, 2)
            (state,) = (await path.ledgers()).values()
            assert state.sections[MODEL].lowered[0].limit == 2

    async def test_what_somebody_else_spends_is_left_to_them_and_health_says_so(self) -> None:
        limited = Project(limits=Limits(rpm=10))
        async with whole_path(upstream=limited, GEMINI_RPM=10, LEDGER_WINDOW_SECONDS=6) as path:
            for _ in range(7):
                await path.spend_elsewhere(SERVER_KEY)
            answers = [await path.ask(f"Hello {number}", timeout_s=0.4) for number in range(4)]
            assert [answer.status for answer in answers] == [200, 200, 200, 429]
            (project,) = (await path.send("GET", "/health")).json()["ledger"]["projects"]
            about = project["models"][MODEL]
            assert project["accounts"] == ["gemini-api-key-1"]
            assert about["outside_consumer"]["requests"]["usable"] == 3, "nine tenths of four"
            assert about["stopped"]["kind"] == "rate"
            (state,) = (await path.ledgers()).values()
            assert state.sections[MODEL].outside[0].limit == 3

    async def test_one_that_begins_anew_each_time_is_tried_four_times_at_most(self) -> None:
        async with whole_path(upstream=Project(limits=Limits(rpm=100))) as path:
            answer = await path.ask("[[fault:429@0.05]]", timeout_s=4)
            assert told(answer) == (429, "rate_limited")
            assert "You exceeded your current quota" in answer.error["message"]
            assert retry_after_s(answer) == 1
            assert (path.sent, await path.dispatched()) == (4, 4)


class TestSharedPressure:
    """A 429 that names no quota: capacity that Google's customers share."""

    @ways
    async def test_it_is_tried_again_after_a_pause(self, way: str) -> None:
        async with whole_path() as path:
            text_of(await path.ask("Hello [[fault:429-barex1]]", way=way))
            assert (path.sent, await path.dispatched()) == (2, 2)

    async def test_the_next_account_is_asked_first(self) -> None:
        async with whole_path(accounts=PROJECTS) as path:
            path.gemini.inject("429-bare")
            text_of(await path.ask())
            assert sorted(path.sent_by_key.values()) == [1, 1]

    async def test_when_it_lasts_the_caller_is_told_to_come_again(self) -> None:
        async with whole_path() as path:
            answer = await path.ask("[[fault:429-bare]]")
            assert (told(answer), retry_after_s(answer)) == ((429, "rate_limited"), 1)
            assert "Resource has been exhausted" in answer.error["message"]
            assert (path.sent, await path.dispatched()) == (4, 4)

    async def test_the_ledger_lowers_the_concurrency_and_not_the_quota(self) -> None:
        async with whole_path(GEMINI_CONCURRENCY_LIMIT=8) as path:
            path.gemini.inject("429-bare")
            await asyncio.gather(*(path.ask(f"{number} [[latency:200]]") for number in range(6)))
            (state,) = (await path.ledgers()).values()
            assert 0 < state.pressure_c < 8
            assert state.sections[MODEL].circuit.open_until_ms == 0


class TestDailyQuotas:
    @ways
    async def test_googles_daily_refusal_is_told_with_the_time_until_midnight_pacific(self, way: str) -> None:
        async with whole_path() as path:
            answer = await path.ask("[[fault:429-day]]", way=way, timeout_s=0.3)
            assert answer.status == 429
            assert_until_midnight(answer)
            assert told(await path.ask(way=way, timeout_s=0.2))[0] == 429
            assert (path.sent, await path.dispatched()) == (1, 1)

    async def test_the_free_tiers_delay_of_seconds_is_not_believed(self) -> None:
        async with whole_path(upstream=Project(tier="free")) as path:
            answer = await path.ask("[[fault:429-day]]", timeout_s=0.3)
            assert answer.status == 429
            assert_until_midnight(answer)

    async def test_googles_daily_refusal_is_told_at_once_and_as_what_it_is(self) -> None:
        async with whole_path() as path:
            began_s = elapsed_s()
            assert told(await path.ask("[[fault:429-day]]", timeout_s=1.2)) == (429, "daily_quota_exhausted")
            assert elapsed_s() - began_s < 0.8

    async def test_another_project_answers_until_then(self) -> None:
        async with whole_path(accounts=PROJECTS) as path:
            path.gemini.inject("429-day")
            text_of(await path.ask())
            assert sorted(path.sent_by_key.values()) == [1, 1]

    @ways
    async def test_a_day_that_the_ledger_knows_to_be_spent_is_told_without_asking_gemini(self, way: str) -> None:
        async with whole_path(GEMINI_RPD=1) as path:
            text_of(await path.ask(way=way))
            answer = await path.ask(way=way, timeout_s=0.3)
            assert told(answer) == (429, "daily_quota_exhausted")
            assert_until_midnight(answer)
            assert (path.sent, await path.dispatched()) == (1, 1)

    async def test_a_spent_day_is_told_at_once(self) -> None:
        async with whole_path(GEMINI_RPD=1) as path:
            text_of(await path.ask())
            began_s = elapsed_s()
            assert told(await path.ask(timeout_s=1.2)) == (429, "daily_quota_exhausted")
            assert elapsed_s() - began_s < 0.8


class TestOwnLimits:
    """What the ledger does not allow is not sent."""

    async def test_a_request_beyond_the_minute_is_sent_when_the_window_allows_it(self) -> None:
        async with whole_path(GEMINI_RPM=2, LEDGER_WINDOW_SECONDS=2) as path:
            answers = await asyncio.gather(*(path.ask(f"Hello {number}", way=way) for number, way in enumerate(WAYS)))
            assert all("Hello" in text_of(answer) for answer in answers)
            assert path.gemini.stats()["projects"]["server"]["models"][MODEL]["max_requests_in_window"] == 2

    @ways
    async def test_one_that_cannot_be_sent_before_its_deadline_is_told_when_it_can(self, way: str) -> None:
        async with whole_path(GEMINI_RPM=2, LEDGER_WINDOW_SECONDS=6) as path:
            for _ in range(2):
                text_of(await path.ask(way=way))
            answer = await path.ask(way=way, timeout_s=0.4)
            assert told(answer) == (429, "queue_timeout")
            assert 5 <= retry_after_s(answer) <= 7
            assert path.sent == 2

    async def test_at_one_per_minute_too_it_is_told_when_it_can(self) -> None:
        async with whole_path(GEMINI_RPM=1, LEDGER_WINDOW_SECONDS=6) as path:
            text_of(await path.ask())
            answer = await path.ask(timeout_s=0.3)
            assert told(answer) == (429, "queue_timeout")
            assert 5 <= retry_after_s(answer) <= 13

    async def test_what_the_calendar_shows_to_be_too_late_is_told_at_once(self) -> None:
        async with whole_path(GEMINI_RPM=1, LEDGER_WINDOW_SECONDS=6) as path:
            text_of(await path.ask())
            began_s = elapsed_s()
            assert told(await path.ask(timeout_s=1.2)) == (429, "queue_timeout")
            assert elapsed_s() - began_s < 0.8

    @pytest.mark.parametrize(
        ("limit", "prompt", "named"),
        [
            ({"GEMINI_RPM": 0}, "Hello", "requests per minute"),
            ({"GEMINI_RPD": 0}, "Hello", "requests per day"),
            ({"GEMINI_TPM": 100}, "many words " * 100, "input tokens per minute"),
            ({"GEMINI_LIMITS": orjson.dumps({MODEL: {"rpm": 0}}).decode()}, "Hello", "requests per minute"),
        ],
        ids=["RPM 0", "RPD 0", "TPM", "RPM 0 of the model"],
    )
    @ways
    async def test_one_that_is_larger_than_a_whole_limit_is_refused_and_the_limit_is_named(
        self, limit: dict[str, str | float], prompt: str, named: str, way: str
    ) -> None:
        async with whole_path(**limit) as path:
            answer = await path.ask(prompt, way=way)
            assert told(answer) == (400, "cost_exceeds_limit")
            assert named in answer.error["message"]
            assert answer.error["details"]["model"] == MODEL
            assert (path.sent, await path.ledgers()) == (0, {})


class TestSeveralAccounts:
    async def test_what_one_project_cannot_take_at_once_is_spread_over_all(self) -> None:
        accounts = {ONE: "one", TWO: "two", THREE: "three"}
        async with whole_path(accounts=accounts, GEMINI_CONCURRENCY_LIMIT=2) as path:
            asking = [asyncio.create_task(path.ask(f"{number} [[latency:800]]")) for number in range(6)]
            await eventually(lambda: path.open_upstream == 6)
            assert path.sent_by_key == {ONE: 2, TWO: 2, THREE: 2}
            assert [text_of(answer) for answer in await asyncio.gather(*asking)]
            assert {project["max_open"] for project in path.gemini.stats()["projects"].values()} == {2}

    async def test_what_one_projects_minute_cannot_take_is_spread_over_all(self) -> None:
        async with whole_path(accounts=PROJECTS, GEMINI_RPM=2, LEDGER_WINDOW_SECONDS=6) as path:
            for number in range(4):
                text_of(await path.ask(f"Hello {number}"))
            assert path.sent_by_key == {ONE: 2, TWO: 2}
            assert told(await path.ask(timeout_s=0.3)) == (429, "queue_timeout")

    async def test_two_keys_of_one_project_take_turns_within_its_limits(self) -> None:
        async with whole_path(accounts={ONE: "same", TWO: "same"}, GEMINI_RPM=2, LEDGER_WINDOW_SECONDS=6) as path:
            text_of(await path.ask())
            text_of(await path.ask())
            assert path.sent_by_key == {ONE: 1, TWO: 1}
            assert told(await path.ask(timeout_s=0.3)) == (429, "queue_timeout")
            assert (path.sent, list(await path.ledgers())) == (2, ["same"])
