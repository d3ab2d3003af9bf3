"""The stored configuration on every store: two writers at once, and what another process sees."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from shared.accounts import manage
from shared.accounts.manage import NewAccount
from shared.configuration.document import Configuration
from shared.configuration.store import ConfigurationStore
from shared.errors import StaleConfiguration
from shared.secret import Secret
from tests.contract.conftest import Backing
from tests.support.data_keys import data_keys


def raised(now: Configuration) -> Configuration:
    return replace(now, concurrency=(now.concurrency or 0) + 1)


async def test_no_change_of_two_writers_is_lost(backing: Backing) -> None:
    writers = [ConfigurationStore(backing.client()) for _ in range(2)]
    for _ in range(5):
        await asyncio.gather(*(writer.change(raised) for writer in writers))
    found = await ConfigurationStore(backing.client()).read()
    assert (found.concurrency, found.version) == (10, 10)


async def test_only_one_of_two_edits_of_a_version_is_saved(backing: Backing) -> None:
    writers = [ConfigurationStore(backing.client()) for _ in range(2)]
    results = await asyncio.gather(
        *(writer.change(raised, expected_version=0) for writer in writers), return_exceptions=True
    )
    (error,) = [result for result in results if isinstance(result, BaseException)]
    assert isinstance(error, StaleConfiguration)
    assert error.details == {"version": 1, "changed": ["concurrency"]}


async def test_account_is_seen_by_another_process(backing: Backing) -> None:
    """With 500 accounts: one change, and the entry stays within the store's limit."""
    secrets = [Secret(f"AQ.a-key-of-a-test-{number:05}") for number in range(500)]
    added = await manage.add(
        ConfigurationStore(backing.client()), data_keys(), [NewAccount("api_key", one) for one in secrets], 7
    )
    records = await ConfigurationStore(backing.client()).accounts()
    assert records == added.records
    assert [manage.secret_of(data_keys(), record) for record in records] == secrets


async def test_change_after_a_removed_document_begins_anew(backing: Backing) -> None:
    store = ConfigurationStore(backing.client())
    await store.change(raised)
    backing.put_elsewhere("configuration/main", None)
    assert await store.read(0.0) == Configuration()
