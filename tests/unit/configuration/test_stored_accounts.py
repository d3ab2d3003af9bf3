"""The stored accounts as accounts of the pool."""

from __future__ import annotations

import orjson
import pytest

from shared.accounts import manage
from shared.accounts.manage import NewAccount
from shared.accounts.records import AccountRecord, OutReason
from shared.accounts.sealing import DataKeys
from shared.configuration.document import Configuration
from shared.configuration.store import ConfigurationStore
from shared.configuration.stored_accounts import SecretCache, StoredAccounts, stored_accounts
from shared.secret import Secret
from shared.settings.settings import Settings
from shared.stores.memory import MemoryStore
from tests.support.data_keys import data_keys

KEY = Secret("AQ.a-key-of-a-test-0001")
KEYS = data_keys()
SESSION = NewAccount(
    "enterprise_session",
    Secret('{"secure_c_ses": "cookie-one-of-a-test", "host_c_oses": "cookie-two-of-a-test"}'),
    place={"team_id": "t1", "csesidx": "7"},
)


def settings(**env: str) -> Settings:
    return Settings.from_environment({"LEDGER_URL": "memory://", **env})


async def stored(*given: NewAccount) -> Configuration:
    store = ConfigurationStore(MemoryStore())
    await manage.add(store, KEYS, given, 7)
    return await store.read()


def opened(configuration: Configuration, keys: DataKeys = KEYS, **env: str) -> StoredAccounts:
    return stored_accounts(settings(**env), configuration, keys, SecretCache())


async def test_account_has_the_limits_of_the_configuration() -> None:
    """And its version."""
    configuration = await stored(NewAccount("api_key", KEY, project="my-project"))
    (account,) = opened(configuration, GEMINI_RPM="9", GEMINI_CONCURRENCY_LIMIT="3").accounts
    assert (account.credential, account.ledger_id, account.kind) == (KEY, "my-project", "api_key")
    assert (account.limits.requests, account.concurrency, account.limits_version) == (9, 3, 1)


async def test_key_without_a_project_counts_as_one_of_its_own() -> None:
    """Under the same name as a key of the environment, so that it may move there."""
    (account,) = opened(await stored(NewAccount("api_key", KEY))).accounts
    (key,) = settings(GEMINI_API_KEY=KEY.reveal()).server_keys
    assert account.ledger_id == key.project


async def test_two_backends_of_a_project_have_two_ledgers() -> None:
    file = {"type": "service_account", "client_email": "a@b", "private_key": "x", "token_uri": "https://x"}
    vertex = NewAccount("vertex", Secret(orjson.dumps(file).decode()), place={"project": "my-project"})
    accounts = opened(await stored(NewAccount("api_key", KEY, project="my-project"), vertex)).accounts
    assert [account.ledger_id for account in accounts] == ["my-project", "vertex~my-project"]


async def test_environment_serves_a_key_that_both_have() -> None:
    configuration = await stored(NewAccount("api_key", KEY))
    assert opened(configuration, GEMINI_API_KEY_3=KEY.reveal()) == StoredAccounts()


async def test_disabled_account_is_left_out() -> None:
    assert opened(await stored(NewAccount("api_key", KEY, enabled=False))) == StoredAccounts()


async def test_session_accounts_are_left_out_unless_allowed() -> None:
    configuration = await stored(SESSION)
    assert opened(configuration) == StoredAccounts()
    (account,) = opened(configuration, ALLOW_SESSION_ACCOUNTS="1").accounts
    assert account.ledger_id == "enterprise_session~t1"


async def test_account_of_another_key_is_out_and_says_so() -> None:
    configuration = await stored(NewAccount("api_key", KEY))
    found = opened(configuration, data_keys("other"[0]))
    (account,) = found.accounts
    assert not account.credential
    assert found.out[account.id].kind == "sealed"
    assert "Sealed with another key" in found.out[account.id].message


async def test_recorded_rejection_is_out() -> None:
    reason = OutReason("key_invalid", "API key not valid.", 5)
    found = opened(await stored(NewAccount("api_key", KEY, out=reason)))
    assert list(found.out.values()) == [reason]


async def test_process_without_a_data_key_has_no_stored_accounts() -> None:
    assert opened(await stored(NewAccount("api_key", KEY)), DataKeys([])) == StoredAccounts()


async def test_secret_is_decrypted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    configuration, cache, count = await stored(NewAccount("api_key", KEY)), SecretCache(), 0

    def counted(keys: DataKeys, record: AccountRecord) -> Secret:
        nonlocal count
        count += 1
        return manage.secret_of(keys, record)

    monkeypatch.setattr("shared.configuration.stored_accounts.secret_of", counted)
    for _ in range(3):
        stored_accounts(settings(), configuration, KEYS, cache)
    assert count == 1


async def test_no_secret_is_in_repr() -> None:
    configuration = await stored(NewAccount("api_key", KEY), SESSION)
    shown = repr(configuration) + repr(opened(configuration, ALLOW_SESSION_ACCOUNTS="1")) + repr(SESSION)
    assert KEY.reveal() not in shown
    assert "cookie-" not in shown
