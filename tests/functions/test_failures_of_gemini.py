"""What a caller is told when Gemini fails: every kind of failure over real sockets, and nothing left of it afterwards."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from shared.clock import elapsed_s
from tests.support.tied import free_port
from tests.support.whole_path import MODEL, WAYS, WholePath, eventually, text_of, told, whole_path

TWO = {"AQ.key-one": "one", "AQ.key-two": "two"}
FOUR_TRIES = 4

ways = pytest.mark.parametrize("way", WAYS)


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pauses between tries are as many as ever, and short."""
    monkeypatch.setattr("shared.gateway.retry.BACKOFF_S", 0.02)
    monkeypatch.setattr("shared.gateway.retry.PRESSURE_DELAY_S", 0.05)


async def total_dispatched(path: WholePath, *projects: str) -> int:
    return sum([await path.dispatched(project) for project in projects])


class TestNoAnswer:
    @ways
    async def test_unreachable_gemini_costs_no_permit(self, way: str) -> None:
        async with whole_path(base_url=f"http://127.0.0.1:{free_port()}") as path:
            answer = await path.ask(way=way)
            assert told(answer) == (502, "upstream_failed")
            assert "could not be reached" in answer.error["message"]
            assert await path.dispatched() == 0

    @ways
    async def test_hanging_gemini_times_out_without_a_retry(self, way: str) -> None:
        async with whole_path() as path:
            began_s = elapsed_s()
            answer = await path.ask("[[fault:hang]]", way=way, timeout_s=2)
            assert told(answer) == (504, "upstream_timeout")
            assert 2 <= elapsed_s() - began_s < 20
            await eventually(lambda: path.open_upstream == 0)
            assert path.gemini.stats()["disconnects"] == 1
            assert (path.sent, await path.dispatched()) == (1, 1)

    async def test_without_a_deadline_of_the_callers_the_servers_own_holds(self) -> None:
        async with whole_path(REQUEST_TIMEOUT_SECONDS=2) as path:
            assert told(await path.ask("[[fault:hang]]")) == (504, "upstream_timeout")
            assert path.sent == 1

    async def test_no_retry_after_a_pause_past_the_deadline(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("shared.gateway.attempts.random", SimpleNamespace(random=lambda: 1.0))
        monkeypatch.setattr("shared.gateway.retry.BACKOFF_S", 10.0)
        async with whole_path() as path:
            began_s = elapsed_s()
            assert told(await path.ask("[[fault:503]]")) == (502, "upstream_failed")
            assert elapsed_s() - began_s < 2
            assert (path.sent, await path.dispatched()) == (1, 1)

    async def test_gemini_deadline_error_is_not_retried(self) -> None:
        async with whole_path() as path:
            assert told(await path.ask("[[latency:5000]]", timeout_s=1.6)) == (504, "upstream_timeout")
            assert path.sent == 1


class TestRefusals:
    @ways
    async def test_invalid_argument_is_passed_on_without_a_retry(self, way: str) -> None:
        async with whole_path() as path:
            answer = await path.ask("[[fault:400]]", way=way)
            assert told(answer) == (400, "rejected_by_gemini")
            assert "Request contains an invalid argument." in answer.error["message"]
            assert answer.error["details"] == {"upstream_status": 400, "model": MODEL}
            assert (path.sent, await path.dispatched()) == (1, 1)

    @ways
    async def test_a_model_that_gemini_does_not_know_is_not_found(self, way: str) -> None:
        async with whole_path() as path:
            answer = await path.ask("[[fault:404]]", way=way)
            assert told(answer) == (404, "model_not_found")
            assert f"models/{MODEL} is not found" in answer.error["message"]
            assert path.sent == 1


class TestPassingFailures:
    """One failure, and then an answer: the caller does not notice, and the ledger counts both."""

    @ways
    @pytest.mark.parametrize("fault", ["500", "503", "504", "reset"])
    async def test_it_is_tried_again_on_the_same_account_with_a_new_permit(self, fault: str, way: str) -> None:
        async with whole_path(accounts=TWO) as path:
            assert "Hello" in text_of(await path.ask(f"Hello [[fault:{fault}x1]]", way=way))
            assert list(path.sent_by_key.values()) == [2]
            assert await total_dispatched(path, *TWO.values()) == 2

    @pytest.mark.parametrize("way", ["chat", "generate_text"])
    async def test_an_answer_that_breaks_off_is_asked_for_again(self, way: str) -> None:
        async with whole_path() as path:
            assert "Hello" in text_of(await path.ask("Hello [[fault:cutx1]]", way=way))
            assert (path.sent, await path.dispatched()) == (2, 2)

    async def test_the_next_try_waits_for_a_permit_of_its_own(self) -> None:
        async with whole_path(GEMINI_RPM=1, LEDGER_WINDOW_SECONDS=6) as path:
            answer = await path.ask("[[fault:500x1]]", timeout_s=1)
            assert told(answer) == (429, "queue_timeout")
            assert 1 <= int(answer.headers["retry-after"]) <= 7
            assert (path.sent, await path.dispatched()) == (1, 1)


class TestLastingFailures:
    @pytest.mark.parametrize(
        ("fault", "error", "upstream_status", "reason"),
        [
            ("500", (502, "upstream_failed"), 500, "An internal error has occurred"),
            ("503", (502, "upstream_failed"), 503, "experiencing high demand"),
            ("504", (504, "upstream_timeout"), 504, "did not answer in time"),
            ("reset", (502, "upstream_failed"), None, "The connection to Gemini broke"),
            ("cut", (502, "upstream_failed"), 200, "The connection to Gemini broke"),
        ],
    )
    async def test_four_failures_return_googles_reason(
        self, fault: str, error: tuple[int, str], upstream_status: int | None, reason: str
    ) -> None:
        async with whole_path() as path:
            answer = await path.ask(f"[[fault:{fault}]]")
            assert told(answer) == error
            assert reason in answer.error["message"]
            assert answer.error["details"].get("upstream_status") == upstream_status
            assert (path.sent, await path.dispatched()) == (FOUR_TRIES, FOUR_TRIES)

    @pytest.mark.parametrize("way", ["generate_text", "stream"])
    async def test_other_ways_report_the_same_error(self, way: str) -> None:
        async with whole_path() as path:
            assert told(await path.ask("[[fault:503]]", way=way)) == (502, "upstream_failed")
            assert path.sent == FOUR_TRIES


DELAYED = ("503-delay", "503-retry-info", "503-sentence", "503-page", "500-delay")
delayed = pytest.mark.parametrize("fault", DELAYED)


class TestDelays:
    """A 5xx that says how long to wait."""

    @delayed
    async def test_its_delay_is_waited_for_on_the_same_account(self, fault: str) -> None:
        async with whole_path(accounts=TWO) as path:
            began_s = elapsed_s()
            text_of(await path.ask(f"[[fault:{fault}@0.6x1]]"))
            assert elapsed_s() - began_s >= 0.6
            assert list(path.sent_by_key.values()) == [2]
            assert await total_dispatched(path, *TWO.values()) == 2

    @delayed
    async def test_delay_beyond_the_deadline_is_returned_at_once(self, fault: str) -> None:
        async with whole_path() as path:
            began_s = elapsed_s()
            answer = await path.ask(f"[[fault:{fault}@7]]")
            assert told(answer) == (502, "upstream_failed")
            assert answer.headers["retry-after"] == "7"
            assert elapsed_s() - began_s < 4
            assert (path.sent, await path.dispatched()) == (1, 1)

    @ways
    async def test_every_way_of_asking(self, way: str) -> None:
        async with whole_path() as path:
            answer = await path.ask("[[fault:503-delay@7]]", way=way)
            assert (told(answer), answer.headers["retry-after"]) == ((502, "upstream_failed"), "7")
            assert path.sent == 1

    async def test_lasting_failure_carries_the_delay(self) -> None:
        async with whole_path() as path:
            answer = await path.ask("[[fault:503-delay@0.05]]")
            assert (told(answer), answer.headers["retry-after"]) == ((502, "upstream_failed"), "1")
            assert (path.sent, await path.dispatched()) == (FOUR_TRIES, FOUR_TRIES)

    async def test_no_delay_is_invented(self) -> None:
        async with whole_path() as path:
            answer = await path.ask("[[fault:503]]")
            assert told(answer) == (502, "upstream_failed")
            assert "retry-after" not in answer.headers


class TestWholeAnswersThatCannotBeRead:
    @ways
    async def test_they_are_not_paid_for_again(self, way: str) -> None:
        """The one error says what came."""
        async with whole_path(accounts=TWO) as path:
            answer = await path.ask("[[fault:malformed]]", way=way)
            assert told(answer) == (502, "upstream_failed")
            assert answer.error["details"]["upstream_status"] == 200
            assert "beginning with “" in answer.error["message"]
            assert (path.sent, await total_dispatched(path, *TWO.values())) == (1, 1)


class TestStreams:
    async def test_cut_stream_ends_with_an_error_event(self) -> None:
        async with whole_path() as path:
            answer = await path.ask("[[fault:cut]]", way="stream")
            *texts, (name, event) = answer.events()
            assert (answer.status, answer.complete, name) == (200, True, "error")
            assert texts and all(event["text"] for _, event in texts)
            assert event["error"]["code"] == "upstream_failed"
            assert event["error"]["request_id"] == answer.headers["x-request-id"]
            assert (path.sent, await path.dispatched()) == (1, 1)

    async def test_slow_stream_ends_at_the_deadline(self) -> None:
        async with whole_path() as path:
            began_s = elapsed_s()
            answer = await path.ask("[[fault:slow@0.3]] [[words:200]]", way="stream", timeout_s=3)
            *texts, (name, event) = answer.events()
            assert (len(texts) > 1, name, event["error"]["code"]) == (True, "error", "upstream_timeout")
            assert 2 <= elapsed_s() - began_s < 30
            await eventually(lambda: path.open_upstream == 0)
            assert path.sent == 1

    async def test_stream_that_gemini_times_out_is_a_timeout(self) -> None:
        async with whole_path() as path:
            answer = await path.ask("[[fault:slow@0.7]] [[words:200]]", way="stream", timeout_s=2.9)
            name, event = answer.events()[-1]
            assert (name, event["error"]["code"], event["error"]["status"]) == ("error", "upstream_timeout", 504)


class TestAnswersWithoutText:
    @ways
    async def test_blocked_prompt_is_a_400_with_the_reason(self, way: str) -> None:
        async with whole_path() as path:
            answer = await path.ask("[[fault:block]]", way=way)
            assert told(answer) == (400, "prompt_blocked")
            assert answer.error["details"] == {"block_reason": "SAFETY"}
            assert (path.sent, await path.dispatched()) == (1, 1)

    @pytest.mark.parametrize("way", ["chat", "generate_text"])
    @pytest.mark.parametrize(
        ("fault", "code", "reason"),
        [("safety", "response_blocked", "SAFETY"), ("max_tokens", "empty_response", "MAX_TOKENS")],
    )
    async def test_answer_without_text_is_an_error_with_reason(
        self, fault: str, code: str, reason: str, way: str
    ) -> None:
        async with whole_path() as path:
            answer = await path.ask(f"[[fault:{fault}]]", way=way)
            assert told(answer) == (502, code)
            assert (answer.error["details"], reason in answer.error["message"]) == ({"finish_reason": reason}, True)
            assert (path.sent, await path.dispatched()) == (1, 1)

    @pytest.mark.parametrize(
        ("fault", "code", "reason"),
        [("safety", "response_blocked", "SAFETY"), ("max_tokens", "empty_response", "MAX_TOKENS")],
    )
    async def test_stream_without_text_ends_with_an_error_event(self, fault: str, code: str, reason: str) -> None:
        async with whole_path() as path:
            ((name, event),) = (await path.ask(f"[[fault:{fault}]]", way="stream")).events()
            assert (name, event["error"]["code"]) == ("error", code)
            assert event["error"]["details"] == {"finish_reason": reason}
            assert path.sent == 1
