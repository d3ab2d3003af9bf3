"""Each arrow of the drawing in `accounts/states.py`, driven by messages to the ledger, with times of Pacific days."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime
from zoneinfo import ZoneInfo

import pytest

from shared.accounts.states import ANY_MODEL, AVAILABLE, AccountState, Facts, Out, states
from shared.gateway.failures import refusal_of
from shared.gemini.errors import UpstreamFailure, Violation
from shared.generation import Cost
from shared.ledger.grid import Grid
from shared.ledger.limits import Limits
from shared.ledger.packing import pack, unpack
from shared.ledger.state import AS_USUAL, Demand, Exhaustion, QuotaSignal, RenewRequest, State
from shared.ledger.step import renew
from shared.settings.settings import Settings

PACIFIC = ZoneInfo("America/Los_Angeles")
GRID = Grid.of(60)
MINUTE_MS, HOUR_MS = 60_000, 3_600_000
RULE = Exhaustion(wait=1.0, rejections=3, full_wait=60.0)
DAILY, MINUTE, ZERO = (
    Violation("requests", "day", 250),
    Violation("requests", "minute", 5),
    Violation("requests", "day", 0),
)
SPEND = Violation("spend", "other")
WORDS = "You exceeded your current quota."


def at(text: str) -> int:
    """Milliseconds since 1970 of a Pacific time of day."""
    return int(datetime.fromisoformat(text).replace(tzinfo=PACIFIC).timestamp() * 1000)


HUNDRED = Limits(10, requests_per_day=100)
NOON_MS = at("2026-11-30 12:00")


@dataclass
class Account:
    """An account with the models `m` and `n`, its ledger, and one process that sends and reports."""

    now_ms: int = NOON_MS
    limits: Limits = HUNDRED
    exhaustion: Exhaustion = RULE
    ledger: State = field(default_factory=lambda: State(GRID.window_ms))
    number: int = 0

    def renew(self, *refusals: QuotaSignal, answered_ms: int = 0, settled: int = 0) -> int:
        """One renew; a request for `m` waits. Returns the right to probe."""
        self.number += 1
        counts = {GRID.slot(self.now_ms): Cost(settled)} if settled else {}
        demand = Demand(
            self.limits, settled=counts, wants=((Cost(1), 1),), head=True, reach_ms=90_000, waiting=True,
            answered_ms=answered_ms,
        )  # fmt: skip
        message = RenewRequest(
            "i", self.number, self.now_ms, 5, 9_000, lease_ms=10_000, want_slots=1,
            demands={"m": demand, "n": Demand(self.limits)}, refusals=refusals, exhaustion=self.exhaustion,
        )  # fmt: skip
        grant = renew(self.ledger, message, self.now_ms, GRID).allotments["m"]
        self.ledger = unpack(pack(self.ledger))
        return grant.probe_ms

    def rejected(self, *violations: Violation, delay_s: float | None = None) -> None:
        """Gemini rejects a request for `m` that was dispatched just now."""
        failure = UpstreamFailure("quota", WORDS, status=429, violations=violations, retry_delay_s=delay_s)
        refusal = refusal_of(failure, "m", self.now_ms, self.now_ms, 60.0, self.exhaustion)
        assert refusal is not None
        self.renew(refusal)

    def rejected_in_a_row(self) -> None:
        """As often as makes the model fully exhausted."""
        self.rejected(MINUTE)
        for _ in range(self.exhaustion.rejections - 1):
            self.probe()
            self.rejected(MINUTE)

    def probe(self) -> int:
        """Pass the time until the next probe, and claim it."""
        self.now_ms = self.ledger.sections["m"].circuit.open_until_ms + 300
        right = self.renew()
        assert right
        return right

    def answered_probe(self) -> None:
        self.renew(answered_ms=self.probe())

    def states(self, **facts: object) -> dict[str, AccountState]:
        known = Facts(self.now_ms, self.ledger, lambda model: self.limits, self.exhaustion)
        return states(replace(known, **facts))  # type: ignore[arg-type]

    def state(self, **facts: object) -> AccountState:
        found = self.states(**facts)
        assert found.get("n", found[ANY_MODEL]).name == found[ANY_MODEL].name, "only m is concerned"
        return found.get("m", found[ANY_MODEL])


def test_without_a_ledger_an_account_is_available() -> None:
    assert states(Facts(NOON_MS)) == {ANY_MODEL: AVAILABLE}


class TestTemporarilyExhausted:
    def test_a_rejected_quota_lasts_for_geminis_delay(self) -> None:
        account = Account()
        account.rejected(MINUTE, delay_s=14.0)
        assert account.state() == ("TEMPORARILY_EXHAUSTED", NOON_MS, NOON_MS + 14_001, WORDS)
        account.now_ms += 14_001
        assert account.state() == AVAILABLE

    def test_without_a_delay_it_lasts_for_the_configured_wait(self) -> None:
        account = Account(exhaustion=Exhaustion(wait=0.5))
        account.rejected(MINUTE)
        assert account.state().until_ms == NOON_MS + 30_001

    def test_an_answered_probe_ends_it(self) -> None:
        account = Account()
        account.rejected(MINUTE)
        account.answered_probe()
        assert account.state() == AVAILABLE

    def test_a_rejection_without_a_quota_changes_nothing(self) -> None:
        account = Account()
        for _ in range(5):
            account.renew(QuotaSignal("m", pressure=True))
        assert account.state() == AVAILABLE


class TestFullyExhausted:
    def test_rejections_in_a_row_have_a_longest_time(self) -> None:
        account = Account()
        account.rejected_in_a_row()
        since_ms = account.now_ms
        state = account.state()
        assert state == ("FULLY_EXHAUSTED", since_ms, since_ms + HOUR_MS, f"3 requests in a row were rejected. {WORDS}")
        account.now_ms = since_ms + HOUR_MS
        assert account.state() == AVAILABLE

    def test_a_probe_is_sent_every_15_minutes(self) -> None:
        account = Account()
        account.rejected_in_a_row()
        for _ in range(3):
            since_ms = account.now_ms
            account.probe()
            assert account.now_ms == since_ms + 15 * MINUTE_MS + 300
            assert account.state().name == "FULLY_EXHAUSTED"
            account.rejected(MINUTE)

    def test_an_answered_probe_ends_the_row(self) -> None:
        account = Account()
        account.rejected_in_a_row()
        account.answered_probe()
        assert account.state() == AVAILABLE

    def test_no_quota_lasts_until_a_probe_is_answered(self) -> None:
        account = Account()
        account.rejected(ZERO)
        assert account.state() == ("FULLY_EXHAUSTED", NOON_MS, NOON_MS + 15 * MINUTE_MS + 1, WORDS)
        account.now_ms += 20 * MINUTE_MS
        assert account.state().name == "FULLY_EXHAUSTED"
        account.answered_probe()
        assert account.state() == AVAILABLE

    def test_the_spend_limit_concerns_every_model(self) -> None:
        account = Account()
        account.rejected(SPEND)
        assert {state.name for state in account.states().values()} == {"FULLY_EXHAUSTED"}

    def test_a_day_that_the_ledger_counted_ends_at_midnight(self) -> None:
        account = Account()
        account.renew(settled=100)
        assert account.state() == (
            "FULLY_EXHAUSTED",
            None,
            at("2026-12-01 00:00"),
            "100 of 100 requests of this day are used.",
        )
        account.now_ms = at("2026-12-01 00:00")
        assert account.state() == AVAILABLE


@pytest.mark.parametrize(
    ("sent", "midnight", "hours"),
    [
        ("2026-11-30 12:00", "2026-12-01 00:00", 12),
        ("2026-03-08 01:30", "2026-03-09 00:00", 21.5),
        ("2026-03-08 00:30", "2026-03-09 00:00", 22.5),
        ("2026-03-07 23:59", "2026-03-08 00:00", 1 / 60),
        ("2026-11-01 00:30", "2026-11-02 00:00", 24.5),
        ("2026-11-01 12:00", "2026-11-02 00:00", 12),
    ],
)
def test_a_spent_day_ends_at_the_next_pacific_midnight(sent: str, midnight: str, hours: float) -> None:
    """Whatever delay Google names. The day of 2026-03-08 has 23 hours, that of 2026-11-01 has 25."""
    account = Account(now_ms=at(sent))
    account.rejected(DAILY, delay_s=14.0)
    state = account.state()
    assert state == ("FULLY_EXHAUSTED", at(sent), at(midnight) + 1, WORDS)
    assert state.until_ms == at(sent) + round(hours * HOUR_MS) + 1
    account.now_ms = at(midnight)
    assert account.state().name == "FULLY_EXHAUSTED"
    account.now_ms += 1
    assert account.state() == AVAILABLE


class TestCooldown:
    def cooling(self, *, ends_ms: tuple[int, ...] = (), open_slots: int = 0) -> State:
        """The cooldown's ledger, after an instance took its one slot and, where it is idle, left its end there."""
        ledger, limits = State(GRID.window_ms), Limits()
        demand = Demand(limits, wants=((Cost(1), 1),), head=True, reach_ms=9_000, waiting=True)
        first = RenewRequest("i", 1, NOON_MS, 1, 9_000, lease_ms=10_000, want_slots=1, demands={"c": demand})
        renew(ledger, first, NOON_MS, GRID)
        after = RenewRequest(
            "i", 2, NOON_MS, 1, 9_000, hold=1, ends_ms=ends_ms, want_slots=open_slots, demands={"c": Demand(limits)}
        )
        renew(ledger, after, NOON_MS, GRID)
        return ledger

    def test_a_dispatch_begins_it_and_its_time_ends_it(self) -> None:
        account, cooldown = Account(), self.cooling(ends_ms=(NOON_MS + 5_000,))
        facts = {"cooldown": cooldown, "cooldown_ms": 5_000}
        state = account.state(**facts)
        assert (state.name, state.since_ms, state.until_ms) == ("COOLDOWN", NOON_MS, NOON_MS + 5_000)
        account.now_ms += 5_000
        assert account.state(**facts) == AVAILABLE

    def test_its_end_is_unknown_while_an_instance_goes_on(self) -> None:
        assert Account().state(cooldown=self.cooling(open_slots=1))[:3] == ("COOLDOWN", None, None)

    def test_an_exhausted_model_is_not_only_cooling(self) -> None:
        account = Account()
        account.rejected(MINUTE)
        found = account.states(cooldown=self.cooling(ends_ms=(NOON_MS + 5_000,)))
        assert (found["m"].name, found["n"].name) == ("TEMPORARILY_EXHAUSTED", "COOLDOWN")


class TestOut:
    def test_a_rejected_credential_lasts_until_a_person_acts(self) -> None:
        account = Account()
        account.rejected(DAILY)
        found = account.states(out=Out("key_invalid", "API key not valid.", NOON_MS))
        assert set(found.values()) == {AccountState("FAILED_INIT", NOON_MS, None, "key_invalid: API key not valid.")}
        account.now_ms += 365 * 24 * HOUR_MS
        assert account.states(out=Out("key_invalid"))["m"].name == "FAILED_INIT"
        assert account.states()["m"].name == "AVAILABLE"

    def test_a_pause_ends_by_itself(self) -> None:
        account, pause = Account(), Out("restricted", "", NOON_MS, NOON_MS + 600_000)
        assert account.state(out=pause) == ("FAILED_INIT", NOON_MS, NOON_MS + 600_000, "restricted")
        account.now_ms += 600_000
        assert account.state(out=pause) == AVAILABLE

    def test_a_person_disables_and_enables(self) -> None:
        account, out = Account(), Out("key_invalid")
        assert account.state(enabled=False).name == "DISABLED"
        assert account.state(enabled=False, out=out).name == "DISABLED"
        assert account.state(enabled=True, out=out).name == "FAILED_INIT"
        assert account.state(enabled=True) == AVAILABLE

    def test_an_enabled_account_is_as_the_ledger_says(self) -> None:
        account = Account()
        account.rejected(DAILY)
        assert account.states(enabled=False)["m"].name == "DISABLED"
        assert account.states()["m"].name == "FULLY_EXHAUSTED"


def test_the_environment_says_how_long_a_model_rests() -> None:
    env = {"EXHAUSTED_WAIT_SECONDS": "30", "MAX_EXHAUSTED_RETRIES": "7", "FULLY_EXHAUSTED_WAIT_SECONDS": "3600"}
    found = Settings.from_environment({"LEDGER_URL": "memory://", **env}).accounts.exhaustion
    assert found == Exhaustion(wait=0.5, rejections=7, full_wait=60.0)
    assert Settings.from_environment({"LEDGER_URL": "memory://"}).accounts.exhaustion == AS_USUAL
