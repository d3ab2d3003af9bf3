"""When a new version is applied, when nothing is, and how often it is read."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from shared.accounts import manage
from shared.accounts.manage import NewAccount
from shared.accounts.records import OutReason
from shared.configuration.document import Proxy
from shared.configuration.live import UNUSED_AGE_S, Applied, LiveConfiguration
from shared.configuration.rejections import Rejections
from shared.configuration.store import KEY, MAX_AGE_S, RETRY_S, ConfigurationStore
from shared.errors import GatewayError, LedgerUnavailable
from shared.secret import Secret
from shared.settings.settings import Settings
from shared.stores.port import Change, Put, StoreUnavailable
from tests.support.data_keys import data_key, data_keys
from tests.support.faulty_store import FaultyStore

ACCOUNT = NewAccount("api_key", Secret("AQ.a-key-of-a-test-0001"))


class Clock:
    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


class Process:
    """One process on `store`, and what its configuration applied, held and logged."""

    def __init__(self, store: FaultyStore, **env: str) -> None:
        self.applied: list[Applied] = []
        self.held: list[GatewayError] = []
        self.logged: list[str] = []
        self.clock = Clock()
        self.store = ConfigurationStore(store, elapsed=self.clock, log=self.logged.append)
        settings = Settings.from_environment({"LEDGER_URL": "memory://", **env})
        self.live = LiveConfiguration(
            settings, self.store, apply=self.applied.append, hold=self.held.append, log=self.logged.append
        )

    async def later(self, seconds: float = 2 * MAX_AGE_S) -> None:
        self.clock.now_s += seconds
        await self.live.refresh()


@pytest.fixture
def store() -> FaultyStore:
    return FaultyStore()


@pytest.fixture
def elsewhere(store: FaultyStore) -> ConfigurationStore:
    return ConfigurationStore(store)


async def set_to(elsewhere: ConfigurationStore, **fields: Any) -> None:
    await elsewhere.change(lambda now: replace(now, **fields))


async def test_each_version_is_applied_once(store: FaultyStore, elsewhere: ConfigurationStore) -> None:
    process = Process(store)
    for concurrency in (5, 6):
        await set_to(elsewhere, concurrency=concurrency)
        for _ in range(3):
            await process.later()
    assert [one.settings.concurrency_limit for one in process.applied] == [5, 6]
    assert [one.version for one in process.applied] == [1, 2]


async def test_concurrent_requests_apply_it_once(store: FaultyStore, elsewhere: ConfigurationStore) -> None:
    await set_to(elsewhere, concurrency=5)
    process = Process(store)
    await asyncio.gather(*(process.live.refresh() for _ in range(50)))
    assert len(process.applied) == 1


@pytest.mark.parametrize(
    ("env", "used", "age_s"),
    [
        ({"K_SERVICE": "chat"}, False, UNUSED_AGE_S),
        ({"K_SERVICE": "chat"}, True, MAX_AGE_S),
        ({"K_SERVICE": "chat", "ACCOUNTS_DATA_KEY": data_key().reveal()}, False, MAX_AGE_S),
        ({}, False, MAX_AGE_S),
    ],
)
async def test_unused_configuration_is_read_once_a_minute(
    store: FaultyStore, elsewhere: ConfigurationStore, env: dict[str, str], used: bool, age_s: float
) -> None:
    if used:
        await set_to(elsewhere, concurrency=5)
    process, reads = Process(store, **env), 0
    read = store.read

    async def counted(key: str, *, timeout_s: float = 5.0) -> Any:
        nonlocal reads
        reads += 1
        return await read(key, timeout_s=timeout_s)

    store.read = counted  # type: ignore[method-assign]
    await process.later(0)
    await process.later(age_s - 0.1)
    assert reads == 1
    await process.later(0.2)
    assert reads == 2


async def test_unknown_configuration_is_held_and_then_applied(store: FaultyStore) -> None:
    process = Process(store)
    store.failure = StoreUnavailable
    await process.later()
    assert isinstance(process.held[0], LedgerUnavailable)
    assert process.applied == []
    store.failure = None
    await process.later()
    assert len(process.applied) == 1


async def test_known_configuration_outlives_the_store(store: FaultyStore) -> None:
    process = Process(store)
    await process.later()
    store.failure = StoreUnavailable
    await process.later()
    await process.later()
    assert (len(process.applied), process.held, len(process.logged)) == (1, [], 1)


async def test_version_that_does_not_fit_is_not_applied(store: FaultyStore, elsewhere: ConfigurationStore) -> None:
    process = Process(store)
    await set_to(elsewhere, concurrency=5)
    await process.later()
    await set_to(elsewhere, tier="tier3")
    await process.later()
    await process.later()
    assert [one.version for one in process.applied] == [1]
    assert len(process.logged) == 1
    assert "Version 2" in process.logged[0]
    started = Process(store)
    await started.later()
    assert started.applied == []
    assert len(started.held) == 1


async def test_accounts_need_a_data_key(store: FaultyStore, elsewhere: ConfigurationStore) -> None:
    await manage.add(elsewhere, data_keys(), [ACCOUNT], 7)
    without, with_key = Process(store, K_SERVICE="chat"), Process(store, ACCOUNTS_DATA_KEY=data_key().reveal())
    for process in (without, with_key):
        await process.later()
    assert without.applied[0].stored.accounts == ()
    assert "ACCOUNTS_DATA_KEY" in without.logged[0]
    assert [one.credential for one in with_key.applied[0].stored.accounts] == [ACCOUNT.secret]


async def test_public_function_does_not_complain(store: FaultyStore, elsewhere: ConfigurationStore) -> None:
    """It has no key on purpose."""
    await manage.add(elsewhere, data_keys(), [ACCOUNT], 7)
    process = Process(store, K_SERVICE="health", GEMINI_PROJECTS="GEMINI_API_KEY=p")
    await process.later()
    assert process.logged == []


async def test_connections_grow_with_the_accounts(store: FaultyStore, elsewhere: ConfigurationStore) -> None:
    accounts = [replace(ACCOUNT, secret=Secret(f"AQ.a-key-of-a-test-{n:04}")) for n in range(20)]
    await manage.add(elsewhere, data_keys(), accounts, 7)
    env = {"ACCOUNTS_DATA_KEY": data_key().reveal(), "GEMINI_CONCURRENCY_LIMIT": "15"}
    for more, connections in (({}, 300), ({"MAX_CONNECTIONS": "50"}, 50)):
        process = Process(store, **env, **more)
        await process.later()
        assert process.applied[0].settings.max_connections == connections


async def test_proxy_that_no_key_opens_is_not_left_out(store: FaultyStore, elsewhere: ConfigurationStore) -> None:
    """Requests must not go past it."""
    sealed = data_keys("x").seal("proxy:credential", b"user:planted")
    await set_to(elsewhere, proxy=Proxy("http://proxy.example:3128", sealed))
    process = Process(store, ACCOUNTS_DATA_KEY=data_key().reveal())
    await process.later()
    assert (process.applied, len(process.held)) == ([], 1)


class TestRejections:
    OUT = OutReason("key_invalid", "API key not valid.", 5)

    async def recorded(self, elsewhere: ConfigurationStore) -> OutReason | None:
        return (await elsewhere.accounts())[0].out

    async def test_is_written_once(self, store: FaultyStore, elsewhere: ConfigurationStore) -> None:
        added = await manage.add(elsewhere, data_keys(), [ACCOUNT], 7)
        rejections = Rejections(ConfigurationStore(store))
        rejections.add(added.records[0].id, 0, self.OUT)
        rejections.add(added.records[0].id, 0, self.OUT)
        await rejections.aclose()
        assert await self.recorded(elsewhere) == self.OUT
        assert (await elsewhere.read()).version == 2

    async def test_failed_write_is_tried_again(self, store: FaultyStore, elsewhere: ConfigurationStore) -> None:
        added = await manage.add(elsewhere, data_keys(), [ACCOUNT], 7)
        clock = Clock()
        rejections = Rejections(ConfigurationStore(store), clock)
        store.failure = StoreUnavailable
        rejections.add(added.records[0].id, 0, self.OUT)
        await rejections.aclose()
        store.failure = None
        rejections.flush()
        await rejections.aclose()
        assert await self.recorded(elsewhere) is None
        clock.now_s += RETRY_S
        rejections.flush()
        await rejections.aclose()
        assert await self.recorded(elsewhere) == self.OUT

    async def test_hostile_document_stops_no_request(self, store: FaultyStore) -> None:
        await store.transact([KEY], lambda _, now_ms: Change(None, {KEY: Put(b"[")}))
        rejections = Rejections(ConfigurationStore(store))
        rejections.add("a-1", 0, self.OUT)
        await rejections.aclose()
