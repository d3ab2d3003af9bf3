"""The accounts command's `test`: whether Google accepts the accounts' secrets, and which accounts are of one project."""

from __future__ import annotations

import argparse
import sys

from shared.accounts import manage
from shared.accounts.same_project import Found
from shared.accounts.testing import Candidate, record_verdicts, run_tests
from shared.ops.accounts_desk import Desk, checked_ids, now_ms, print_result
from shared.ops.accounts_table import table
from shared.ops.terminal import InputError
from shared.settings.keys import account_id


async def test_accounts(options: argparse.Namespace, desk: Desk) -> int:
    records = await desk.configuration.accounts()
    ids = checked_ids(options.ids)
    given = [
        Candidate(account_id(key.source), "api_key", key.secret, {})
        for key in desk.settings.server_keys
        if not ids or account_id(key.source) in ids
    ]
    unreadable = []
    for record in records:
        if ids and record.id not in ids:
            continue
        secret = manage.readable(desk.keys, record)
        if secret is None:
            unreadable.append(record.id)
        else:
            given.append(Candidate(record.id, record.kind, secret, record.place, record.revision))
    missing = ids - {account.id for account in given} - set(unreadable)
    if missing:
        raise InputError(f"There is no account {', '.join(sorted(missing)[:10])}; list the accounts for their ids.")
    verdicts = await run_tests(given, desk.testers, _progress)
    await record_verdicts(desk.configuration, given, verdicts, now_ms())
    accepted = {name for name, verdict in verdicts.items() if verdict.result == "ok"}
    projects = await desk.same_projects(accepted) if accepted and not options.no_marker else Found((), {})
    found: list[tuple[str, str, str]] = [(name, verdict.result, verdict.message) for name, verdict in verdicts.items()]
    found += [(name, "unreadable", "No key of ACCOUNTS_DATA_KEY decrypts its secret.") for name in unreadable]
    counts = {
        result: sum(one[1] == result for one in found)
        for result in ("ok", "rejected", "restricted", "unknown", "unreadable")
    }
    summary = ", ".join(f"{count} {result}" for result, count in counts.items() if count or result == "ok")
    print_result(
        options,
        {
            **counts,
            "accounts": [{"id": name, "result": result, "why": why} for name, result, why in found],
            "one_project": [list(group) for group in projects.groups],
        },
        f"{table(('ID', 'RESULT', 'WHY'), found)}{summary}\n"
        + "".join(f"One Google project, whose limits they share: {', '.join(group)}\n" for group in projects.groups),
    )
    return 0 if counts["ok"] == len(found) else 1


def _progress(done: int, of: int) -> None:
    if sys.stderr.isatty():
        sys.stderr.write(f"\rtested {done} of {of}" + ("\n" if done == of else ""))
        sys.stderr.flush()
    elif done == of or done % 50 == 0:
        sys.stderr.write(f"tested {done} of {of}\n")
