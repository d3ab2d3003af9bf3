"""The part of an account's test that finds out its Google project: accounts of one project get one ledger."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from shared.accounts.account import Account
from shared.accounts.same_project import Files, Found, find_same_projects
from shared.admission.merge_ledgers import merge_accounts
from shared.stores.port import Store


async def merge_same_projects(
    store: Store, files: Files, accounts: Sequence[Account], tested: Collection[str], window_ms: int
) -> Found:
    """Compares the accounts whose ids are `tested` with each other and with the rest of `accounts`, and merges the ledgers of
    those that are of one project. Raises StoreError."""
    found = await find_same_projects(
        files,
        [account for account in accounts if account.id in tested],
        [account for account in accounts if account.id not in tested],
    )
    await merge_accounts(store, accounts, found.groups, window_ms)
    return found
