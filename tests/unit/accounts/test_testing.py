"""Testing accounts: how many at once, progress, and what a verdict changes in a record."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from shared.accounts.account import Kind
from shared.accounts.records import AccountRecord, OutReason
from shared.accounts.testing import MAX_TESTS_AT_ONCE, Candidate, Verdict, record_verdicts, run_tests
from shared.secret import Secret
from tests.unit.accounts.test_manage import MemoryBook

OUT = OutReason("key_invalid", "API key not valid.", 5)
OK, REJECTED, UNKNOWN = Verdict("ok"), Verdict("rejected", "key_invalid", "No."), Verdict("unknown", "connect", "No.")
RECORD = AccountRecord("a-1", "api_key", "sealed", revision=3)


def candidate(name: str = "a-1", kind: Kind = "api_key", revision: int | None = 3) -> Candidate:
    return Candidate(name, kind, Secret("AQ.a-key-of-a-test"), {}, revision)


async def test_tests_run_a_few_at_once_and_tell_progress() -> None:
    running, most, told = 0, 0, []

    async def tester(account: Candidate) -> Verdict:
        nonlocal running, most
        running += 1
        most = max(most, running)
        for _ in range(3):
            await asyncio.sleep(0)
        running -= 1
        return OK

    given = [candidate(f"a-{number}") for number in range(50)]
    verdicts = await run_tests(given, {"api_key": tester}, lambda done, of: told.append((done, of)))
    assert list(verdicts) == [account.id for account in given]
    assert most == MAX_TESTS_AT_ONCE
    assert told == [(done, 50) for done in range(1, 51)]


async def test_a_kind_without_a_test_is_unknown() -> None:
    verdicts = await run_tests([candidate(kind="vertex")], {}, lambda done, of: None)
    assert (verdicts["a-1"].result, verdicts["a-1"].kind) == ("unknown", "no_test")


async def after(record: AccountRecord, verdict: Verdict, given: Candidate | None = None) -> AccountRecord:
    book = MemoryBook()
    book.records = (record, replace(RECORD, id="a-2"))
    changed = await record_verdicts(book, [given or candidate()], {"a-1": verdict}, now_ms=9)
    assert changed == tuple(one for one, old in zip(book.records, (record, None), strict=True) if old and one != old)
    assert book.records[1] == replace(RECORD, id="a-2")
    return book.records[0]


async def test_rejected_account_is_out() -> None:
    assert await after(RECORD, REJECTED) == replace(RECORD, out=OutReason("key_invalid", "No.", 9))


async def test_earlier_reason_stays() -> None:
    assert await after(replace(RECORD, out=OUT), REJECTED) == replace(RECORD, out=OUT)


async def test_accepted_account_is_no_longer_out() -> None:
    assert await after(replace(RECORD, out=OUT), OK) == replace(RECORD, revision=4)


async def test_unknown_verdict_changes_nothing() -> None:
    assert await after(replace(RECORD, out=OUT), UNKNOWN) == replace(RECORD, out=OUT)
    assert await after(RECORD, UNKNOWN) == RECORD


async def test_disabled_account_stays_disabled_with_its_reason() -> None:
    disabled = replace(RECORD, enabled=False, out=OUT)
    assert await after(disabled, OK) == disabled


async def test_account_that_changed_meanwhile_stays() -> None:
    assert await after(replace(RECORD, revision=4), REJECTED) == replace(RECORD, revision=4)


async def test_account_of_the_environment_is_not_stored() -> None:
    assert await after(RECORD, REJECTED, candidate(revision=None)) == RECORD
