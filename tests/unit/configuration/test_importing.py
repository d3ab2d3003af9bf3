"""The import at a process's start: once for each file, as a whole, and never in the way of serving."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import orjson
import pytest

from shared.accounts.old_file import read_old_file, secrets_of, write_old_file
from shared.accounts.sealing import seal_with_passphrase
from shared.bootstrap import Services
from shared.configuration.document import Configuration
from shared.configuration.importing import import_at_start, import_old_file
from shared.configuration.old_program import NO_SECRET, exported
from shared.configuration.store import ConfigurationStore
from shared.secret import Secret
from shared.settings.settings import Settings
from shared.stores.memory import MemoryStore
from shared.stores.port import StoreUnavailable
from tests.support.data_keys import data_key, data_keys
from tests.support.old_files import COOKIE, TOKEN, document

KEYS = data_keys()


class Start:
    """A process's start in `folder`. The configuration outlives it."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(folder)
        self.folder = folder
        self.store = ConfigurationStore(MemoryStore())

    def write(self, value: object, name: str = "business_gemini_session.json") -> None:
        (self.folder / name).write_bytes(orjson.dumps(value))

    async def run(self, **env: str) -> list[str]:
        """What is logged."""
        said: list[str] = []
        settings = Settings.from_environment({"ACCOUNTS_DATA_KEY": data_key().reveal(), **env})
        assert await import_at_start(self.store, settings, 5, lambda sentence, severity: said.append(sentence))
        assert not [text for text in (COOKIE, TOKEN) if text in "".join(said)]
        return said

    async def stored(self) -> Configuration:
        return await self.store.read(max_age_s=0)


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Start:
    return Start(tmp_path, monkeypatch)


async def test_without_a_file_nothing_is_read_or_logged(start: Start) -> None:
    assert await start.run() == []
    assert (await start.stored()).version == 0


async def test_the_file_in_the_folder_is_imported_once(start: Start) -> None:
    start.write(document())
    (said,) = await start.run()
    assert said.startswith("Imported accounts: 2 new, 0 updated, 0 unchanged; models: 2; and the proxy. Disabled: 2.")
    assert await start.run() == []
    assert (await start.stored()).version == 1


async def test_an_account_that_was_removed_stays_removed(start: Start) -> None:
    start.write(document())
    await start.run()
    await start.store.change_accounts(lambda records: records[:1])
    assert await start.run() == []
    assert len((await start.stored()).accounts) == 1


async def test_a_changed_file_is_imported_again(start: Start) -> None:
    start.write(document())
    await start.run()
    start.write(document(proxy_enabled=False))
    (said,) = await start.run()
    assert said.startswith("Imported accounts: 0 new, 0 updated, 2 unchanged;")


async def test_accounts_file_names_another_file(start: Start) -> None:
    start.write(document())
    start.write({"accounts": []}, "other.json")
    (said,) = await start.run(ACCOUNTS_FILE="other.json")
    assert said.startswith("Imported accounts: 0 new")


@pytest.mark.parametrize(
    ("value", "env", "words"),
    [
        (document(proxy=5), {}, "The accounts file was not imported: proxy is a number; it must be"),
        (document(), {"ACCOUNTS_FILE": "missing.json"}, "ACCOUNTS_FILE cannot be read: No such file or directory."),
        (document(), {"ACCOUNTS_FILE": "."}, "ACCOUNTS_FILE cannot be read: Is a directory."),
    ],
)
async def test_a_file_that_cannot_be_used_is_logged(
    start: Start, value: dict[str, Any], env: dict[str, str], words: str
) -> None:
    start.write(value)
    (said,) = await start.run(**env)
    assert said.startswith(words)
    assert (await start.stored()).version == 0


async def test_without_a_data_key_the_sentence_says_how_to_set_one(start: Start) -> None:
    start.write(document())
    (said,) = await start.run(ACCOUNTS_DATA_KEY="", K_SERVICE="chat", LEDGER_URL="memory://")
    assert "openssl rand -base64 32" in said
    assert (await start.stored()).version == 0


async def test_encrypted_secrets_need_the_command(start: Start) -> None:
    """At a start nobody can type the passphrase, so the accounts arrive without secrets."""
    original = read_old_file(orjson.dumps(document()))
    given = {
        "accounts": [],
        "encrypted_secrets": seal_with_passphrase(secrets_of(original, {}), Secret("a long passphrase")),
    }
    plain = orjson.loads(write_old_file(original))
    start.write(plain | {"encrypted_secrets": given["encrypted_secrets"]})
    await start.run()
    assert [one.out and one.out.kind for one in (await start.stored()).accounts] == [NO_SECRET, NO_SECRET]
    data = (start.folder / "business_gemini_session.json").read_bytes()
    await import_old_file(
        start.store, KEYS, data, sessions_allowed=True, now_ms=6, passphrase=lambda: Secret("a long passphrase")
    )
    assert exported(await start.stored(), KEYS).file == original


async def test_a_store_that_fails_is_tried_again(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    start.write(document())
    store = MemoryStore()
    start.store = ConfigurationStore(store)
    settings = Settings.from_environment({"ACCOUNTS_DATA_KEY": data_key().reveal()})

    async def failing(*_: object, **__: object) -> None:
        raise StoreUnavailable("The store is gone.")

    with monkeypatch.context() as patched:
        patched.setattr(store, "transact", failing)
        assert not await import_at_start(start.store, settings, 5, lambda *said: pytest.fail(str(said)))
    assert len(await start.run()) == 1


async def test_services_import_at_the_first_request(
    start: Start, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Concurrent first requests import once."""
    start.write(document())
    services = Services(
        Settings.from_environment({"LEDGER_URL": "memory://", "ACCOUNTS_DATA_KEY": data_key().reveal()})
    )
    await asyncio.gather(services.refresh(), services.refresh())
    await services.refresh()
    configuration = await services.configurations.read()
    assert (configuration.version, len(configuration.accounts)) == (1, 2)
    assert capsys.readouterr().out.count("Imported accounts: 2 new") == 1
    await services.aclose()
