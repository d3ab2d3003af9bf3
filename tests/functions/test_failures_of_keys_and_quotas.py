"""What becomes of a request when Gemini refuses a key or a quota is used up, by its own word or by the ledger's."""

from __future__ import annotations

import asyncio
import itertools
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
    monkeypatch.setattr("shared.gateway.retry.PRESSURE_DELAY_S", 0.05)


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
    async def test_rejected_key_is_disabled_and_the_other_serves(self, word: str) -> None:
        async with whole_path(accounts={f"AQ.key-{word}": "one", TWO: "two"}) as path:
            for _ in range(3):
                text_of(await path.ask())
            assert path.sent_by_key[TWO] == 3
            assert path.sent_by_key.get(f"AQ.key-{word}", 0) <= 1

    @ways
    async def test_no_key_left_fails_at_once(self, way: str) -> None:
        """Gemini is not asked again."""
        async with whole_path() as path:
            first, second = await path.ask("[[fault:401]]", way=way), await path.ask(way=way)
            assert (told(first), told(second)) == ((503, "no_server_key"), (503, "no_server_key"))
            assert (retry_after_s(first), retry_after_s(second)) == (60, 60)
            assert path.sent == 1

    async def test_missing_permission_puts_no_account_out(self) -> None:
        """A file of another project's is the request's affair, not the account's."""
        async with whole_path(accounts={ONE: "one", TWO: "one"}) as path:
            file = {"fileData": {"fileUri": f"{path.gemini.url}/v1beta/files/abc", "mimeType": "text/plain"}}
            body = {"contents": [{"role": "user", "parts": [file, {"text": "Summarise it."}]}]}
            answer = await path.send(content=orjson.dumps(body))
            assert told(answer) == (404, "not_found")
            assert answer.error["message"].startswith("files/abc was not found")
            assert (sum(path.sent_by_key.values()), await out(path)) == (1, {})

    async def test_caller_key_serves_without_server_keys(self) -> None:
        async with whole_path(accounts={}) as path:
            assert told(await path.ask()) == (503, "no_server_key")
            text_of(await path.ask(key=OWN_KEY))
            assert list(await path.ledgers()) == [OWN_LEDGER]


class TestOwnKeys:
    @ways
    @pytest.mark.parametrize("fault", ["401", "403", "429-depleted"])
    async def test_refused_caller_key_is_401(self, fault: str, way: str) -> None:
        """No server key serves in its place."""
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
                assert told(await path.ask(key=key, timeout_s=0.4)) == (429, "queue_timeout")
            assert (path.sent, list(await path.ledgers())) == (2, ["server"])

    async def test_caller_with_server_key_keeps_the_servers_ledger(self) -> None:
        """A caller that brings the server's own key does not make its ledger expire."""
        shelf = Shelf()
        async with whole_path(store=MemoryStore(shelf)) as path:
            assert told(await path.ask("[[fault:400]]", key=SERVER_KEY)) == (400, "rejected_by_gemini")
            text_of(await path.ask())
            assert shelf.entries["ledger/server"].put.expires_at_ms is None


RESTRICTED = {
    "400-location": "User location is not supported",
    "400-unbilled": "without a billing account linked",
    "400-country": "free tier is not available in your country",
    "403": "are blocked",
    "403-disabled": "has not been used in project",
    "403-unbilled": "requires billing to be enabled",
    "403-referer": "Requests from referer",
    "403-ip": "IP address restriction",
    "403-android": "Requests from this Android client application",
    "403-consumer": "Permission denied on resource project",
    "403-country": "restricted from your billing country",
    "403-dunning": "dunning decision is deny",
    "403-denied": "denied access",
}
restricted = pytest.mark.parametrize("fault", RESTRICTED)


class TestRestrictedKeys:
    """A key or project that is not set up for this use: no request of another kind would help."""

    @restricted
    async def test_next_account_answers(self, fault: str) -> None:
        async with whole_path(accounts=PROJECTS) as path:
            path.gemini.inject(fault)
            text_of(await path.ask())
            (refused,) = await out(path)
            for _ in range(3):
                text_of(await path.ask())
            assert sorted(path.sent_by_key.values()) == [1, 4]
            assert await out(path) == {refused: "restricted"}

    @restricted
    async def test_without_any_left_it_is_the_servers_error(self, fault: str) -> None:
        """Each account is asked once; then nothing is sent until the pause is over."""
        async with whole_path(accounts=PROJECTS) as path:
            for answer in (await path.ask(f"[[fault:{fault}]]"), await path.ask()):
                assert told(answer) == (503, "no_server_key")
                assert RESTRICTED[fault] in answer.error["message"]
                assert 590 <= retry_after_s(answer) <= 600
            assert (path.sent_by_key, await total_dispatched(path)) == ({ONE: 1, TWO: 1}, 2)

    @ways
    async def test_every_way_of_asking(self, way: str) -> None:
        async with whole_path(accounts=PROJECTS) as path:
            path.gemini.inject("400-location")
            text_of(await path.ask(way=way))
            assert sorted(path.sent_by_key.values()) == [1, 1]

    async def test_account_is_tried_again_after_the_pause(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("shared.accounts.pool.RESTRICTED_PAUSE_S", 0.3)
        async with whole_path() as path:
            assert told(await path.ask("[[fault:403-disabledx1]]")) == (503, "no_server_key")
            await eventually(lambda: not path.services.pool.disabled())
            text_of(await path.ask())
            assert path.sent == 2

    @pytest.mark.parametrize("fault", ["400-key-not-found", "400-key-expired"])
    async def test_key_that_is_gone_is_out(self, fault: str) -> None:
        async with whole_path(accounts=PROJECTS) as path:
            path.gemini.inject(fault)
            text_of(await path.ask())
            text_of(await path.ask())
            assert sorted(path.sent_by_key.values()) == [1, 2]
            assert list((await out(path)).values()) == ["key_invalid"]

    @restricted
    async def test_callers_own_key_gets_googles_words(self, fault: str) -> None:
        """It is asked about again each time, and none of the server's keys serves instead."""
        async with whole_path() as path:
            expected = (400, "rejected_by_gemini") if fault.startswith("400") else (401, "invalid_gemini_key")
            for number in (1, 2):
                answer = await path.ask(f"{number} [[fault:{fault}]]", key=OWN_KEY)
                assert told(answer) == expected
                assert RESTRICTED[fault] in answer.error["message"]
            assert path.sent_by_key == {OWN_KEY: 2}
            assert await out(path) == {}

    async def test_callers_mistake_reaches_one_account(self) -> None:
        async with whole_path(accounts=PROJECTS) as path:
            assert told(await path.ask("[[fault:400]]")) == (400, "rejected_by_gemini")
            assert (list(path.sent_by_key.values()), await out(path)) == ([1], {})

    @restricted
    async def test_project_is_not_shown(self, fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("shared.emulator.error_faults.project_number", lambda _: "411082643095")
        async with whole_path() as path:
            for answer in (await path.ask(f"[[fault:{fault}]]"), await path.ask(), await path.send("GET", "/health")):
                assert "411082643095" not in answer.body.decode()

    async def test_health_names_keys_of_one_project(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("shared.emulator.error_faults.project_number", lambda _: "411082643095")
        async with whole_path(accounts=PROJECTS) as path:
            path.gemini.inject("403-disabled", key=ONE)
            path.gemini.inject("429-region", key=TWO)
            await asyncio.gather(*(path.ask(timeout_s=1) for _ in range(4)))
            assert set(path.sent_by_key) == {ONE, TWO}
            (found,) = (await path.send("GET", "/health")).json()["accounts"]["same_project"]
            assert found["accounts"] == ["gemini-api-key-1", "gemini-api-key-2"]
            assert "Set GEMINI_API_KEY_1_PROJECT and GEMINI_API_KEY_2_PROJECT" in found["message"]


async def total_dispatched(path: WholePath) -> int:
    return sum([await path.dispatched(project) for project in PROJECTS.values()])


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
    async def test_long_pause_is_rejected_with_its_end(self, fault: str, way: str) -> None:
        async with whole_path() as path:
            answer = await path.ask(f"[[fault:{fault}@30]]", way=way, timeout_s=3)
            assert told(answer) == (429, "queue_timeout")
            assert 28 <= retry_after_s(answer) <= 31
            assert (path.sent, await path.dispatched()) == (1, 1)

    async def test_gemini_is_not_asked_before_the_end(self) -> None:
        async with whole_path() as path:
            await path.ask("[[fault:429@30]]", timeout_s=3)
            answers = await asyncio.gather(*(path.ask(timeout_s=3) for _ in range(3)))
            assert [told(answer) for answer in answers] == [(429, "queue_timeout")] * 3
            # Gemini refused the second request of a window, so one a window is served after the end (6 s; measured).
            waits_s = [26, *sorted(retry_after_s(answer) for answer in answers)]
            assert all(4 <= later - sooner <= 12 for sooner, later in itertools.pairwise(waits_s))
            assert all("You exceeded your current quota" in answer.error["message"] for answer in answers)
            assert path.sent == 1

    async def test_another_project_answers_in_the_meantime(self) -> None:
        async with whole_path(accounts=PROJECTS) as path:
            path.gemini.inject("429@30")
            began_s = elapsed_s()
            text_of(await path.ask())
            assert elapsed_s() - began_s < 3
            assert sorted(path.sent_by_key.values()) == [1, 1]

    async def test_lower_limit_is_learned_and_kept(self) -> None:
        limited = Project(limits=Limits(rpm=2))
        async with whole_path(upstream=limited, LEDGER_WINDOW_SECONDS=2) as path:
            for answer in await asyncio.gather(*(path.ask(f"Hello {number}") for number in range(4))):
                text_of(answer)
            seen = path.gemini.stats()["projects"]["server"]["models"][MODEL]
            assert (seen["admitted"], seen["max_requests_in_window"]) == (4, 2)
            (state,) = (await path.ledgers()).values()
            assert state.sections[MODEL].lowered[0].limit == 2

    async def test_external_usage_is_left_out_and_shown_in_health(self) -> None:
        limited = Project(limits=Limits(rpm=10))
        async with whole_path(upstream=limited, GEMINI_RPM=10, LEDGER_WINDOW_SECONDS=6) as path:
            for _ in range(7):
                await path.spend_elsewhere(SERVER_KEY)
            answers = [await path.ask(f"Hello {number}", timeout_s=3 if number < 3 else 0.4) for number in range(4)]
            assert [answer.status for answer in answers] == [200, 200, 200, 429]
            (project,) = (await path.send("GET", "/health")).json()["ledger"]["projects"]
            about = project["models"][MODEL]
            assert project["accounts"] == ["gemini-api-key-1"]
            assert about["outside_consumer"]["requests"]["usable"] == 3, "nine tenths of four"
            assert about["stopped"]["kind"] == "rate"
            (state,) = (await path.ledgers()).values()
            assert state.sections[MODEL].outside[0].limit == 3

    async def test_repeated_429_is_tried_at_most_four_times(self) -> None:
        async with whole_path(upstream=Project(limits=Limits(rpm=100)), MAX_EXHAUSTED_RETRIES=100) as path:
            answer = await path.ask("[[fault:429@0.05]]", timeout_s=4)
            assert told(answer) == (429, "rate_limited")
            assert "You exceeded your current quota" in answer.error["message"]
            assert retry_after_s(answer) == 1
            assert (path.sent, await path.dispatched()) == (4, 4)

    async def test_rejections_in_a_row_stop_the_model(self) -> None:
        """The next probe is 15 windows later; another model of the account goes on."""
        async with whole_path(upstream=Project(limits=Limits(rpm=100)), MAX_EXHAUSTED_RETRIES=2) as path:
            answer = await path.ask("[[fault:429@0.05]]", timeout_s=4)
            assert told(answer) == (429, "queue_timeout")
            assert retry_after_s(answer) == pytest.approx(15 * 6, abs=2)
            assert (path.sent, await path.dispatched()) == (2, 2)
            text_of(await path.ask(model="gemini-4-argon"))
            accounts = (await path.send("GET", "/health")).json()["accounts"]
            assert accounts["states"] == {"AVAILABLE": 1}
            assert accounts["models"] == {MODEL: {"FULLY_EXHAUSTED": 1}}


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

    async def test_a_throttled_address_waits_and_empties_no_account(self) -> None:
        """Every account is rejected once; the request waits until it may be the probe."""
        async with whole_path(accounts=PROJECTS) as path:
            path.gemini.inject("429-bare", key=ONE)
            path.gemini.inject("429-bare", key=TWO)
            text_of(await path.ask(timeout_s=5))
            assert path.sent == 3
            states = await path.ledgers()
            assert [state.pressure_c for state in states.values()] == [0, 0]
            assert await path.services.store.list("rate/address") == []

    async def test_lasting_pressure_returns_retry_after(self) -> None:
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

    @pytest.mark.parametrize("fault", ["429-retry-after", "429-date", "429-ms"])
    async def test_googles_delay_is_waited_for(self, fault: str) -> None:
        """A date has whole seconds."""
        async with whole_path() as path:
            delay_s = 1.0 if fault == "429-date" else 0.4
            began_s = elapsed_s()
            text_of(await path.ask(f"[[fault:{fault}@{delay_s}x1]]"))
            assert elapsed_s() - began_s >= delay_s
            assert (path.sent, await path.dispatched()) == (2, 2)

    @pytest.mark.parametrize("fault", ["429-retry-after", "429-date", "429-ms"])
    async def test_delay_beyond_the_deadline_is_returned_at_once(self, fault: str) -> None:
        async with whole_path() as path:
            began_s = elapsed_s()
            answer = await path.ask(f"[[fault:{fault}@30]]")
            assert (told(answer), retry_after_s(answer)) == ((429, "rate_limited"), 30)
            assert elapsed_s() - began_s < 4
            assert (path.sent, await path.dispatched()) == (1, 1)

    async def test_delay_of_one_project_does_not_hold_up_another(self) -> None:
        async with whole_path(accounts=PROJECTS) as path:
            path.gemini.inject("429-retry-after@30")
            text_of(await path.ask())
            assert sorted(path.sent_by_key.values()) == [1, 1]


class TestCooldown:
    async def test_an_account_rests_after_each_request(self) -> None:
        async with whole_path(accounts=PROJECTS, KEY_COOLDOWN_SECONDS=1.5) as path:
            began_s = elapsed_s()
            for number in range(4):
                text_of(await path.ask(f"Hello {number}"))
            assert elapsed_s() - began_s >= 1.4
            assert sorted(path.sent_by_key.values()) == [2, 2]
            assert {name for name in await path.ledgers() if name.startswith("cool-")} == {
                "cool-gemini-api-key-1",
                "cool-gemini-api-key-2",
            }
            await asyncio.sleep(1.6)  # The test's end finds a slot for each account that still rests.


class TestFormsOfQuotas:
    """A quota is one in whichever form Google or a proxy names it: one dispatch, and no retry against it."""

    @pytest.mark.parametrize("fault", ["429-region", "429-sentence", "429-bullets@30", "429-array@30", "429-plan"])
    async def test_minute_is_learned_from_one_dispatch(self, fault: str) -> None:
        async with whole_path() as path:
            answer = await path.ask(f"[[fault:{fault}]]", timeout_s=3)
            assert answer.status == 429
            assert told(await path.ask(timeout_s=3))[0] == 429
            assert (path.sent, await path.dispatched()) == (1, 1)
            (state,) = (await path.ledgers()).values()
            assert state.sections[MODEL].circuit.kind == "rate"
            assert state.sections[MODEL].circuit.open_until_ms > 0
            assert state.pressure_c == 0

    @pytest.mark.parametrize("fault", ["429-region", "429-region-zero", "429-zero", "429-sentence", "429-bullets@30"])
    async def test_another_project_answers(self, fault: str) -> None:
        async with whole_path(accounts=PROJECTS) as path:
            path.gemini.inject(fault)
            text_of(await path.ask())
            assert sorted(path.sent_by_key.values()) == [1, 1]

    @pytest.mark.parametrize(
        "fault",
        ["429-nested", "429-nested-twice", "429-prefixed", "429-python", "429-in-500", "429-tokens-day"],
    )
    async def test_spent_day_is_a_spent_day(self, fault: str) -> None:
        async with whole_path() as path:
            answer = await path.ask(f"[[fault:{fault}@2]]")
            assert told(answer) == (429, "daily_quota_exhausted")
            assert_until_midnight(answer)
            assert (path.sent, await path.dispatched()) == (1, 1)

    @pytest.mark.parametrize("fault", ["429-spend", "429-region-zero"])
    async def test_permanent_refusal_is_returned_at_once(self, fault: str) -> None:
        """Money, and a quota of zero: the request does not wait in the queue."""
        async with whole_path() as path:
            began_s = elapsed_s()
            answer = await path.ask(f"[[fault:{fault}]]")
            assert answer.status in (429, 503)
            assert any(words in answer.error["message"] for words in ("spend-based", "Quota exceeded"))
            assert elapsed_s() - began_s < 4
            assert (path.sent, await path.dispatched()) == (1, 1)

    async def test_monthly_cap_puts_the_account_out(self) -> None:
        async with whole_path(accounts=PROJECTS) as path:
            path.gemini.inject("429-spending-cap")
            text_of(await path.ask())
            assert list((await out(path)).values()) == ["account"]


class TestDailyQuotas:
    @ways
    async def test_daily_refusal_retries_at_midnight_pacific(self, way: str) -> None:
        async with whole_path() as path:
            answer = await path.ask("[[fault:429-day]]", way=way, timeout_s=3)
            assert answer.status == 429
            assert_until_midnight(answer)
            assert told(await path.ask(way=way, timeout_s=3))[0] == 429
            assert (path.sent, await path.dispatched()) == (1, 1)

    async def test_the_free_tiers_delay_of_seconds_is_not_believed(self) -> None:
        async with whole_path(upstream=Project(tier="free")) as path:
            answer = await path.ask("[[fault:429-day]]", timeout_s=3)
            assert answer.status == 429
            assert_until_midnight(answer)

    async def test_daily_refusal_is_returned_at_once(self) -> None:
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
    async def test_known_spent_day_is_rejected_without_gemini(self, way: str) -> None:
        async with whole_path(GEMINI_RPD=1) as path:
            text_of(await path.ask(way=way))
            answer = await path.ask(way=way, timeout_s=3)
            assert told(answer) == (429, "daily_quota_exhausted")
            assert_until_midnight(answer)
            assert (path.sent, await path.dispatched()) == (1, 1)

    async def test_spent_day_is_rejected_at_once(self) -> None:
        async with whole_path(GEMINI_RPD=1) as path:
            text_of(await path.ask())
            began_s = elapsed_s()
            assert told(await path.ask(timeout_s=5)) == (429, "daily_quota_exhausted")
            assert elapsed_s() - began_s < 4


class TestOwnLimits:
    """What the ledger does not allow is not sent."""

    async def test_request_beyond_the_minute_waits_for_the_window(self) -> None:
        async with whole_path(GEMINI_RPM=2, LEDGER_WINDOW_SECONDS=2) as path:
            answers = await asyncio.gather(*(path.ask(f"Hello {number}", way=way) for number, way in enumerate(WAYS)))
            assert all("Hello" in text_of(answer) for answer in answers)
            assert path.gemini.stats()["projects"]["server"]["models"][MODEL]["max_requests_in_window"] == 2

    @ways
    async def test_rejection_names_when_the_request_can_be_sent(self, way: str) -> None:
        async with whole_path(GEMINI_RPM=2, LEDGER_WINDOW_SECONDS=6) as path:
            for _ in range(2):
                text_of(await path.ask(way=way))
            answer = await path.ask(way=way, timeout_s=0.4)
            assert told(answer) == (429, "queue_timeout")
            assert 5 <= retry_after_s(answer) <= 7
            assert path.sent == 2

    async def test_retry_after_at_one_request_per_minute(self) -> None:
        async with whole_path(GEMINI_RPM=1, LEDGER_WINDOW_SECONDS=6) as path:
            text_of(await path.ask())
            answer = await path.ask(timeout_s=0.3)
            assert told(answer) == (429, "queue_timeout")
            assert 5 <= retry_after_s(answer) <= 13

    async def test_hopeless_request_is_rejected_at_once(self) -> None:
        async with whole_path(GEMINI_RPM=1, LEDGER_WINDOW_SECONDS=6) as path:
            text_of(await path.ask())
            began_s = elapsed_s()
            assert told(await path.ask(timeout_s=4)) == (429, "queue_timeout")
            assert elapsed_s() - began_s < 3

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
    async def test_request_above_a_whole_limit_names_the_limit(
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
            assert told(await path.ask(timeout_s=0.4)) == (429, "queue_timeout")

    async def test_two_keys_of_one_project_take_turns_within_its_limits(self) -> None:
        async with whole_path(accounts={ONE: "same", TWO: "same"}, GEMINI_RPM=2, LEDGER_WINDOW_SECONDS=6) as path:
            text_of(await path.ask())
            text_of(await path.ask())
            assert path.sent_by_key == {ONE: 1, TWO: 1}
            assert told(await path.ask(timeout_s=0.4)) == (429, "queue_timeout")
            assert (path.sent, list(await path.ledgers())) == (2, ["same"])
