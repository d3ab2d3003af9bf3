"""Testing accounts: what a test found out, many tests at once, and what a result changes in the records."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from shared.accounts.account import Kind
from shared.accounts.manage import Book, Records
from shared.accounts.records import AccountRecord, OutReason
from shared.secret import Secret

MAX_TESTS_AT_ONCE = 8


@dataclass(frozen=True, slots=True)
class Candidate:
    """One account to test. `revision` is None for an account of the environment, whose state is not stored."""

    id: str
    kind: Kind
    secret: Secret
    place: Mapping[str, str]
    revision: int | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """`ok`: Google accepts the credential. `rejected`: it does not, until a person acts. `restricted`: its project is not set up,
    or the key may not be used from here; that may pass, and changes nothing. `unknown`: the test could not tell, and changes
    nothing. `message` is for the operator, and contains no secret."""

    result: Literal["ok", "rejected", "restricted", "unknown"]
    kind: str = ""
    message: str = ""


Tester = Callable[[Candidate], Awaitable[Verdict]]


async def run_tests(
    given: Sequence[Candidate], testers: Mapping[Kind, Tester], progress: Callable[[int, int], None]
) -> dict[str, Verdict]:
    """The verdict on each account, by its id. `progress(done, of)` is called after each test."""
    free = asyncio.Semaphore(MAX_TESTS_AT_ONCE)
    found: dict[str, Verdict] = {}

    async def run(account: Candidate) -> None:
        tester = testers.get(account.kind)
        if tester is None:
            found[account.id] = Verdict(
                "unknown", "no_test", f"There is no test for accounts of the kind {account.kind}."
            )
        else:
            async with free:
                found[account.id] = await tester(account)
        progress(len(found), len(given))

    async with asyncio.TaskGroup() as tasks:
        for account in given:
            tasks.create_task(run(account))
    return {account.id: found[account.id] for account in given}


async def record_verdicts(
    book: Book, given: Sequence[Candidate], verdicts: Mapping[str, Verdict], now_ms: int
) -> Records:
    """Stores what the tests found out, in one change: a rejected account is out, and one that Google accepts again is not. An
    account that has changed since its test stays as it is. Returns the changed records. Raises Unavailable."""
    revisions = {account.id: account.revision for account in given if account.revision is not None}
    changed: list[AccountRecord] = []

    def changer(records: Records) -> Records:
        changed.clear()
        return tuple(map(after_test, records))

    def after_test(record: AccountRecord) -> AccountRecord:
        if revisions.get(record.id) != record.revision or record.id not in verdicts:
            return record
        verdict = verdicts[record.id]
        if verdict.result == "rejected" and record.out is None:
            after = replace(record, out=OutReason.of(verdict.kind, verdict.message, now_ms))
        elif verdict.result == "ok" and record.state == "FAILED_INIT":
            after = replace(record, out=None, revision=record.revision + 1)
        else:
            return record
        changed.append(after)
        return after

    await book.change_accounts(changer)
    return tuple(changed)
