"""Merging the ledgers of accounts that turn out to belong to one Google project, in any process, and in several at once."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence

from shared.accounts.account import Account
from shared.admission.ledger_document import Merge
from shared.ledger.packing import UnreadableState, unpack
from shared.ledger.state import COLLECTION
from shared.stores.port import CommitUnknown, Store, StoreContended, read_all

log = logging.getLogger(__name__)

MAX_TRIES = 20
"""A merge begins again when a ledger was merged into another one meanwhile, or when its commit failed because instances changed a
document; each such try is a transaction, which repeats itself for seconds."""


async def merge_ledgers(store: Store, ledger: str, other: str, window_ms: int) -> str:
    """Merge two ledgers, or those that they were merged into before. Returns the id of the one that is left, which sorts first.

    Repeating it changes nothing, and an interrupted merge has either happened or not. Raises StoreError."""
    tries = 0
    while ledger != other:
        tries += 1
        merge = Merge(ledger, other, window_ms)
        try:
            outcome = await store.transact(merge.keys, merge.step)
        except (CommitUnknown, StoreContended) as error:
            if tries >= MAX_TRIES:
                raise
            log.info("the merge of two ledgers is tried again: %s", error)
            continue
        survivor, closed = min(ledger, other), max(ledger, other)
        if outcome.result == ("", ""):
            log.warning("the ledger %s was merged into %s: their accounts are of one project", closed, survivor)
            return survivor
        ledger, other = outcome.result[0] or survivor, outcome.result[1] or closed
    return ledger


async def find_merges(store: Store, ledgers: Iterable[str], *, timeout_s: float) -> dict[str, str]:
    """By ledger that was closed: the one that it was merged into; also for the ledgers that these lead to. Raises StoreError."""
    found: dict[str, str] = {}
    asked = set(ledgers)
    read: set[str] = set()
    while asked:
        names = sorted(asked)
        values = await read_all(store, [COLLECTION + name for name in names], timeout_s)
        moved = {name: _moved(values[COLLECTION + name]) for name in names}
        found.update({name: survivor for name, survivor in moved.items() if survivor})
        read |= asked
        asked = set(found.values()) - read
    return found


def _moved(blob: bytes | None) -> str:
    """The ledger that this one was merged into; "" if it was not, or if its document cannot be read, which its client reports."""
    try:
        return unpack(blob).moved if blob else ""
    except UnreadableState:
        return ""


async def merge_accounts(
    store: Store, accounts: Sequence[Account], groups: Iterable[Sequence[str]], window_ms: int
) -> dict[str, str]:
    """Merge the ledgers of the accounts in each group, which is of one project and one kind. Returns, by id of such an account,
    the ledger that counts it from now on. Raises StoreError."""
    by_id = {account.id: account for account in accounts}
    result: dict[str, str] = {}
    for group in groups:
        survivor = ""
        for ledger in dict.fromkeys(by_id[i].ledger_id for i in group):
            survivor = await merge_ledgers(store, survivor, ledger, window_ms) if survivor else ledger
        result.update(dict.fromkeys(group, survivor))
    return result
