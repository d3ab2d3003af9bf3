"""What an operator changes at run time, from the store to the next answer; the process is not started again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any
from unittest.mock import patch

import pytest

from shared.accounts import manage
from shared.accounts.manage import NewAccount
from shared.accounts.records import AccountRecord
from shared.configuration.document import Configuration, Proxy
from shared.configuration.store import KEY, ConfigurationStore
from shared.secret import Secret
from shared.stores.memory import MemoryStore, Shelf
from shared.stores.port import Change, Put, StoreUnavailable
from tests.support.data_keys import data_key, data_keys
from tests.support.edge import ADMIN
from tests.support.faulty_store import FaultyStore
from tests.support.whole_path import MODEL, OWN_KEY, OWN_LEDGER, WholePath, eventually, text_of, told, whole_path

KEYS = data_keys()
INVALID_KEY = "AQ.an-invalid-key-of-a-test"


class Site:
    """A running gateway without a key in its environment, and another process that changes the configuration."""

    def __init__(self, path: WholePath, elsewhere: ConfigurationStore) -> None:
        self.path, self.elsewhere = path, elsewhere

    async def add(self, key: str = OWN_KEY, project: str | None = OWN_LEDGER) -> AccountRecord:
        added = await manage.add(self.elsewhere, KEYS, [NewAccount("api_key", Secret(key), project=project)], 7)
        return added.records[0]

    async def change(self, **fields: Any) -> Configuration:
        return await self.elsewhere.change(lambda now: replace(now, **fields))

    async def recorded(self) -> AccountRecord:
        return (await self.elsewhere.accounts())[0]


@asynccontextmanager
async def site(store: MemoryStore | None = None, **settings: Any) -> AsyncIterator[Site]:
    """Each request reads the configuration again: tests do not wait for five seconds."""
    shelf = Shelf()
    given = {"accounts": {}, "ACCOUNTS_DATA_KEY": data_key().reveal(), **settings}
    with patch("shared.configuration.live.MAX_AGE_S", 0.0):
        async with whole_path(store=store or MemoryStore(shelf), **given) as path:
            yield Site(path, ConfigurationStore(store or MemoryStore(shelf)))


class TestAccounts:
    async def test_added_account_serves_the_next_request(self) -> None:
        async with site() as it:
            assert told(await it.path.ask()) == (503, "no_server_key")
            await it.add()
            text_of(await it.path.ask())
            assert it.path.sent_by_key == {OWN_KEY: 1}

    async def test_disabled_account_serves_no_more_and_ends_what_it_began(self) -> None:
        async with site() as it:
            record = await it.add()
            async with it.path.asking("[[latency:1000]]") as under_way:
                await eventually(lambda: it.path.open_upstream == 1)
                await manage.disable(it.elsewhere, [record.id])
                assert told(await it.path.ask()) == (503, "no_server_key")
                text_of(await under_way)
            await manage.enable(it.elsewhere, [record.id])
            text_of(await it.path.ask())
            assert it.path.sent == 2

    async def test_waiting_requests_are_served_by_another_account(self) -> None:
        """One account at a time: each switch leaves its requests to the other."""
        keys = ("AQ.a-key-of-account-1", "AQ.a-key-of-account-2")
        async with site(callers=keys, GEMINI_CONCURRENCY_LIMIT=1, REQUEST_TIMEOUT_SECONDS=60) as it:
            first, second = [await it.add(key, f"u-{Secret(key).fingerprint('ledger')}") for key in keys]
            await manage.disable(it.elsewhere, [second.id])
            asked = [asyncio.create_task(it.path.ask("[[latency:100]]", timeout_s=50)) for _ in range(12)]
            await eventually(lambda: it.path.waiting >= 10)
            for out, back in ((first, second), (second, first), (first, second)):
                await manage.enable(it.elsewhere, [back.id])
                await manage.disable(it.elsewhere, [out.id])
                served = it.path.sent_by_key.copy()
                await it.path.services.refresh()
                key = keys[back is second]
                await eventually(
                    lambda served=served, key=key: it.path.sent_by_key.get(key, 0) > served.get(key, 0), 30
                )
            for answer in await asyncio.gather(*asked):
                text_of(answer)

    async def test_switch_reaches_the_requests_that_wait_for_a_cooldown(self) -> None:
        async with site(KEY_COOLDOWN_SECONDS=1) as it:
            first = await it.add()
            second = await it.add("AQ.a-key-of-account-2", "other")
            await it.path.services.refresh()
            cooldown = it.path.services.cooldown
            assert cooldown is not None
            with patch.object(cooldown, "accounts_changed") as told_accounts:
                await manage.disable(it.elsewhere, [first.id])
                await it.path.services.refresh()
            assert [account.id for account in told_accounts.call_args.args[0]] == [second.id]

    async def test_rejected_key_is_recorded_for_every_process(self) -> None:
        async with site() as it:
            record = await it.add(INVALID_KEY, "rejected")
            assert told(await it.path.ask()) == (503, "no_server_key")
            for _ in range(500):
                if (await it.recorded()).out is not None:
                    break
                await asyncio.sleep(0.01)
            out = (await it.recorded()).out
            assert out is not None
            assert out.kind == "key_invalid"
            assert INVALID_KEY not in repr(await it.elsewhere.read())
            sent = it.path.sent
            it.path.services.pool._disabled.clear()  # As in a process that has just started.
            it.path.services.live._seen = None
            assert told(await it.path.ask()) == (503, "no_server_key")
            assert it.path.sent == sent
            await manage.replace_secret(it.elsewhere, KEYS, record.id, Secret(OWN_KEY))
            await manage.assign_project(it.elsewhere, [record.id], OWN_LEDGER)
            text_of(await it.path.ask())

    async def test_account_of_another_data_key_is_out_with_its_reason(self) -> None:
        async with site(ACCOUNTS_DATA_KEY=data_key("x").reveal()) as it:
            await it.add()
            answer = await it.path.ask()
            assert told(answer) == (503, "no_server_key")
            assert "Sealed with another key" in answer.error["message"]


class TestSettings:
    async def test_values_reach_callers(self) -> None:
        async with site() as it:
            await it.add()
            await it.change(
                concurrency=3,
                limits={"rpm": 42},
                models={"chat": "gemini-3.6-flash"},
                aliases={"fast": "gemini-3.5-flash-lite"},
                cors_origins=("https://app.example",),
            )
            answer = await it.path.ask()
            assert answer.json()["model"] == "gemini-3.6-flash"
            assert answer.headers["x-ratelimit-limit-requests"] == "42"
            assert answer.headers.get("access-control-allow-origin") is None
            answer = await it.path.send(
                content=b'{"prompt": "x", "model": "fast"}', headers={**ADMIN, "origin": "https://app.example"}
            )
            assert answer.json()["model"] == "gemini-3.5-flash-lite"
            assert answer.headers["access-control-allow-origin"] == "https://app.example"
            health = (await it.path.send("GET", "/health")).json()
            assert (health["concurrency_limit"], health["limits"]["default"]["rpm"]) == (3, 42)

    async def test_limits_change_under_load(self) -> None:
        """The project's client is at work: it takes the newer limits, larger and smaller ones."""
        async with site() as it:
            await it.add()
            for rpm in (20, 300, 40):
                await it.change(limits={"rpm": rpm})
                for _ in range(2):
                    text_of(answer := await it.path.ask())
                assert answer.headers["x-ratelimit-limit-requests"] == str(rpm)

    async def test_environment_wins(self) -> None:
        async with site(GEMINI_RPM=9, GEMINI_MODEL_TYPE=MODEL) as it:
            await it.add()
            await it.change(limits={"rpm": 42}, models={"chat": "gemini-3.6-flash"})
            answer = await it.path.ask()
            assert (answer.json()["model"], answer.headers["x-ratelimit-limit-requests"]) == (MODEL, "9")

    async def test_proxy_is_switched_on_and_off(self) -> None:
        """The offline Gemini is on this machine, which no proxy is used for; so Gemini's host is another name here."""
        async with site() as it:
            client = it.path.services.kinds.upstreams["api_key"]
            it.path.services.kinds._clients[0] = (client, "https://gemini.example")
            sealed = KEYS.seal("proxy:credential", b"user:pass")
            for enabled, url in (
                (True, "http://user:pass@proxy.example:3128"),
                (False, None),
                (True, "http://user:pass@proxy.example:3128"),
            ):
                await it.change(proxy=Proxy("http://proxy.example:3128", sealed, enabled))
                await it.path.services.refresh()
                assert client._proxy == url


class TestFailures:
    async def test_hostile_document_leaves_the_last_one_in_use(self, capfd: pytest.CaptureFixture[str]) -> None:
        async with site() as it:
            await it.add()
            text_of(await it.path.ask())
            for hostile in (b'{"concurrency": "<script>"}', b"[" * 800_000, b'{"tier": "tier3", "version": 9}'):
                store = it.path.services.store
                await store.transact([KEY], lambda _, now_ms, hostile=hostile: Change(None, {KEY: Put(hostile)}))
                it.path.services.configurations._failure = None
                text_of(await it.path.ask())
            assert "<script>" not in capfd.readouterr().out

    async def test_nothing_is_sent_before_the_configuration_is_known(self) -> None:
        """It may have lower limits than the environment."""
        store = FaultyStore()
        async with site(store, accounts={"AQ.a-key-of-the-server": "server"}) as it:
            reads = store.read

            async def failing(key: str, *, timeout_s: float = 5.0) -> Any:
                if key == KEY:
                    raise StoreUnavailable("the store fails")
                return await reads(key, timeout_s=timeout_s)

            store.read = failing  # type: ignore[method-assign]
            for key in (None, OWN_KEY):
                assert told(await it.path.ask(key=key)) == (503, "ledger_unavailable")
            assert (await it.path.send("GET", "/health")).status == 200
            assert it.path.sent == 0
            store.read = reads  # type: ignore[method-assign]
            text_of(await it.path.ask())
            store.read = failing  # type: ignore[method-assign]
            text_of(await it.path.ask())

    async def test_no_secret_is_in_the_log_or_the_store(self, capfd: pytest.CaptureFixture[str]) -> None:
        shelf = Shelf()
        async with site(MemoryStore(shelf)) as it:
            await it.add(INVALID_KEY)
            await it.path.ask()
            await it.path.send("GET", "/health")
            await eventually(lambda: b"key_invalid" in shelf.entries[KEY].put.value)
            for secret in (INVALID_KEY, data_key().reveal()):
                assert secret.encode() not in shelf.entries[KEY].put.value
                assert secret not in "".join(capfd.readouterr())
