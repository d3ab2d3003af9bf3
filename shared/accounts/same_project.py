"""Which accounts belong to one Google project, where nobody said so: each uploads a marker, and all look whose markers they see.

A file of the Files API belongs to the project of the key that uploaded it, and uploading, listing and deleting are not metered.
So an account that lists another one's marker is of the same project. An absent marker, a rejection or a failure proves nothing:
the project stays unknown. The markers are deleted afterwards; Google deletes what is left of them after two days."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from shared.accounts.account import Account
from shared.secret import Secret

log = logging.getLogger(__name__)

MARKER = "files/gateway-marker-"
MAX_AT_ONCE = 8
MAX_LISTED = 2_000
"""Files of one account that are looked through: a project may have many of its own."""


class Files(Protocol):
    """Google's Files API, with the key of one account for each call. Every call raises `failed` where Google rejects it or cannot
    be reached; its message holds no secret."""

    failed: type[Exception]

    async def upload(self, key: Secret, name: str) -> None: ...

    def names(self, key: Secret) -> AsyncIterator[str]: ...

    async def delete(self, key: Secret, name: str) -> None: ...


@dataclass(frozen=True, slots=True)
class Found:
    """`groups`: the ids of accounts that are of one project, for each project that has several. `unknown`: the ids of tested
    accounts whose test proved nothing, and why, where it failed."""

    groups: tuple[tuple[str, ...], ...]
    unknown: Mapping[str, str]


async def find_same_projects(files: Files, tested: Sequence[Account], others: Iterable[Account] = ()) -> Found:
    """Compare the projects of the `tested` accounts with each other and with those of the `others`. Only keys of the Gemini API
    have files: for accounts of other kinds nothing is known."""
    markers = {account.id: MARKER + secrets.token_hex(8) for account in tested if _has_files(account)}
    listing = {account.id: account for account in (*others, *tested) if _has_files(account)}
    failures = {account.id: "this kind of account has no files" for account in tested if not _has_files(account)}
    bound = asyncio.Semaphore(MAX_AT_ONCE)

    async def attempt(account: Account, seen: frozenset[str] | None) -> frozenset[str]:
        """Upload the account's marker, or (`seen`: the markers of all) find those that it sees."""
        try:
            async with bound:
                if seen is None:
                    await files.upload(account.credential, markers[account.id])
                    return frozenset()
                return await _listed(files, account, seen)
        except files.failed as error:
            failures[account.id] = str(error)
            return frozenset()

    try:
        await asyncio.gather(*(attempt(listing[i], None) for i in markers))
        uploaded = {marker: i for i, marker in markers.items() if i not in failures}
        seen = await asyncio.gather(*(attempt(account, frozenset(uploaded)) for account in listing.values()))
    finally:
        await asyncio.shield(_delete(files, [(listing[i].credential, marker) for i, marker in markers.items()]))
    pairs = [(i, uploaded[marker]) for i, found in zip(listing, seen, strict=True) for marker in found]
    groups = grouped(pairs)
    known = {i for group in groups for i in group}
    return Found(groups, {one.id: failures.get(one.id, "") for one in tested if one.id not in known})


def _has_files(account: Account) -> bool:
    return account.kind == "api_key"


async def _listed(files: Files, account: Account, markers: frozenset[str]) -> frozenset[str]:
    """Those of `markers` that the account sees among its files."""
    found: set[str] = set()
    listed = 0
    async for name in files.names(account.credential):
        listed += 1
        if name in markers:
            found.add(name)
        if len(found) == len(markers) or listed >= MAX_LISTED:
            break
    return frozenset(found)


async def _delete(files: Files, uploaded: Sequence[tuple[Secret, str]]) -> None:
    for key, marker in uploaded:
        try:
            await files.delete(key, marker)
        except files.failed as error:
            log.info("a marker could not be deleted, which ends in two days: %s", error)


def grouped(pairs: Iterable[tuple[str, str]]) -> tuple[tuple[str, ...], ...]:
    """The groups that pairs of equal things form, each of two or more; sorted."""
    group_of: dict[str, set[str]] = {}
    for one, other in pairs:
        if one != other:
            joined = group_of.get(one, {one}) | group_of.get(other, {other})
            group_of.update(dict.fromkeys(joined, joined))
    return tuple(sorted({tuple(sorted(group)) for group in group_of.values()}))
