"""Changes to the stored accounts: add, enable, disable, remove, rename, replace a secret, encrypt anew.

The command line and the management API call these functions. Each is one optimistic change of the stored configuration; a
failed one changes nothing. Nothing here returns or logs a secret.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from shared.accounts.account import Kind
from shared.accounts.credentials import checked, last4, place_in
from shared.accounts.records import AccountRecord, OutReason, place_of
from shared.accounts.sealing import DataKeys, Unsealable
from shared.errors import NotFound
from shared.secret import Secret

Records = tuple[AccountRecord, ...]
_ID_BYTES = 6


class Book(Protocol):
    """Where the records are kept: `configuration.store.ConfigurationStore`."""

    async def accounts(self) -> Records: ...

    async def change_accounts(
        self, changer: Callable[[Records], Records], expected_version: int | None = None
    ) -> Records: ...


@dataclass(frozen=True, slots=True)
class NewAccount:
    """An account that is not stored yet. `secret` is as `Account.credential`."""

    kind: Kind
    secret: Secret
    label: str = ""
    project: str | None = None
    place: Mapping[str, str] = field(default_factory=dict)
    enabled: bool = True
    out: OutReason | None = None
    unknown: Mapping[str, Any] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class Added:
    """`duplicates` are positions in what was given: the same secret came before, is stored, or is in the environment."""

    records: Records
    duplicates: tuple[int, ...] = ()


async def add(
    book: Book, keys: DataKeys, given: Sequence[NewAccount], now_ms: int, environment: Collection[Secret] = ()
) -> Added:
    """Stores the given accounts in one change, except duplicates. `environment`: the keys that the environment sets. Raises
    BadRequest for an invalid account (then none is stored), NoDataKey, Unavailable."""
    made = [_sealed(keys, new, now_ms) for new in given]
    duplicates: list[int] = []

    def changer(records: Records) -> Records:
        duplicates.clear()
        seen = {*environment, *(secret for record in records if (secret := readable(keys, record)) is not None)}
        kept = []
        for at, new in enumerate(given):
            if new.secret in seen and _is_unique(new):
                duplicates.append(at)
                continue
            seen.add(new.secret)
            kept.append(made[at])
        return (*records, *kept)

    records = await book.change_accounts(changer)
    ids = {record.id for record in made}
    return Added(tuple(record for record in records if record.id in ids), tuple(duplicates))


async def enable(book: Book, ids: Collection[str]) -> Records:
    """Enables the accounts, also those that Gemini rejected: they are tried again. Raises NotFound, Unavailable."""
    return await _change_each(
        book, ids, lambda record: replace(record, enabled=True, out=None, revision=record.revision + 1)
    )


async def disable(book: Book, ids: Collection[str]) -> Records:
    """Requests in flight finish; waiting requests are served by other accounts. Raises NotFound, Unavailable."""
    return await _change_each(book, ids, lambda record: replace(record, enabled=False))


async def remove(book: Book, ids: Collection[str]) -> Records:
    """Deletes the accounts with their secrets, and returns what they were. Raises NotFound, Unavailable."""
    removed: list[AccountRecord] = []

    def changer(records: Records) -> Records:
        removed[:] = _named(records, ids)
        return tuple(record for record in records if record.id not in ids)

    await book.change_accounts(changer)
    return tuple(removed)


async def rename(book: Book, account_id: str, label: str) -> AccountRecord:
    """Raises BadRequest, NotFound, Unavailable."""
    return await _change_one(book, account_id, lambda record: replace(record, label=label))


async def assign_project(book: Book, ids: Collection[str], project: str) -> Records:
    """Accounts of one project share its limits. The caller first merges the two ledgers (`ops/accounts_projects.py`): what an
    account sent in the last minute is counted in the ledger that it leaves. Raises BadRequest, NotFound, Unavailable."""
    return await _change_each(book, ids, lambda record: replace(record, project=project))


async def replace_secret(book: Book, keys: DataKeys, account_id: str, secret: Secret) -> AccountRecord:
    """Also ends a rejection of the earlier secret. Raises BadRequest, NotFound, NoDataKey, Unavailable."""

    def changed(record: AccountRecord) -> AccountRecord:
        sealed = keys.seal(record.id, checked(record.kind, secret).reveal().encode())
        shown = last4(record.kind, secret)
        return replace(record, sealed=sealed, last4=shown, out=None, revision=record.revision + 1)

    return await _change_one(book, account_id, changed)


async def report_out(book: Book, account_id: str, revision: int, reason: OutReason) -> Records:
    """Records that Gemini rejected the account. Does nothing if the account was removed, has another revision, or has a reason
    already. Raises Unavailable."""

    def changer(records: Records) -> Records:
        return tuple(
            replace(record, out=reason)
            if (record.id, record.revision, record.out) == (account_id, revision, None)
            else record
            for record in records
        )

    return await book.change_accounts(changer)


async def reseal(book: Book, keys: DataKeys) -> tuple[int, tuple[str, ...]]:
    """Encrypts each secret that an earlier data key encrypted with the current one, in one change. Returns how many, and the
    ids of accounts that no given key opens; these stay as they are. Raises NoDataKey, Unavailable."""
    unreadable: list[str] = []
    counted = [0]

    def changer(records: Records) -> Records:
        unreadable.clear()
        counted[0] = 0
        return tuple(map(resealed, records))

    def resealed(record: AccountRecord) -> AccountRecord:
        if keys.is_current(record.sealed):
            return record
        secret = readable(keys, record)
        if secret is None:
            unreadable.append(record.id)
            return record
        counted[0] += 1
        return replace(record, sealed=keys.seal(record.id, secret.reveal().encode()))

    keys.require()
    await book.change_accounts(changer)
    return counted[0], tuple(unreadable)


def secret_of(keys: DataKeys, record: AccountRecord) -> Secret:
    """The record's credential. Raises Unsealable."""
    return Secret(keys.open(record.id, record.sealed).decode())


def readable(keys: DataKeys, record: AccountRecord) -> Secret | None:
    """The record's credential; None if no key opens it."""
    try:
        return secret_of(keys, record)
    except Unsealable:
        return None


def _sealed(keys: DataKeys, new: NewAccount, now_ms: int) -> AccountRecord:
    """Raises BadRequest, NoDataKey."""
    secret = checked(new.kind, new.secret)
    account_id = f"a-{secrets.token_hex(_ID_BYTES)}"
    return AccountRecord(
        id=account_id,
        kind=new.kind,
        sealed=keys.seal(account_id, secret.reveal().encode()),
        label=new.label,
        project=new.project,
        enabled=new.enabled,
        out=new.out,
        added_ms=now_ms,
        place=place_of(new.kind, {**place_in(new.kind, secret), **new.place}),
        last4=last4(new.kind, secret),
        unknown=new.unknown,
    )


def _is_unique(new: NewAccount) -> bool:
    """Whether one secret means one account. One service account may serve in several projects and locations."""
    return new.kind in ("api_key", "enterprise_session")


def _named(records: Records, ids: Collection[str]) -> list[AccountRecord]:
    known = {record.id: record for record in records}
    missing = [account_id for account_id in ids if account_id not in known]
    if missing:
        raise NotFound(f"There is no stored account {', '.join(missing[:10])}; list the accounts for their ids.")
    return [known[account_id] for account_id in dict.fromkeys(ids)]


async def _change_each(book: Book, ids: Collection[str], change: Callable[[AccountRecord], AccountRecord]) -> Records:
    """The changed records."""

    def changer(records: Records) -> Records:
        _named(records, ids)
        return tuple(change(record) if record.id in ids else record for record in records)

    return tuple(record for record in await book.change_accounts(changer) if record.id in ids)


async def _change_one(book: Book, account_id: str, change: Callable[[AccountRecord], AccountRecord]) -> AccountRecord:
    return (await _change_each(book, [account_id], change))[0]
