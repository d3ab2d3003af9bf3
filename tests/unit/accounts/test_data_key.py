"""Where the data key comes from, with a stand-in for the system's keyring."""

from __future__ import annotations

import sys
from types import ModuleType

import pytest

from shared.accounts.data_key import find_data_keys, need_data_keys
from shared.accounts.sealing import NoDataKey
from tests.support.data_keys import data_key, data_keys


class KeyringError(Exception):
    pass


class Keyring(ModuleType):
    def __init__(self) -> None:
        super().__init__("keyring")
        self.kept: dict[tuple[str, str], str] = {}
        self.broken = False

    def get_password(self, service: str, name: str) -> str | None:
        if self.broken:
            raise KeyringError("No recommended backend was available.")
        return self.kept.get((service, name))

    def set_password(self, service: str, name: str, value: str) -> None:
        self.kept[service, name] = value


@pytest.fixture
def keyring(monkeypatch: pytest.MonkeyPatch) -> Keyring:
    made, errors = Keyring(), ModuleType("keyring.errors")
    errors.KeyringError = KeyringError  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "keyring", made)
    monkeypatch.setitem(sys.modules, "keyring.errors", errors)
    return made


def test_environment_wins_over_the_keyring(keyring: Keyring) -> None:
    keyring.broken = True
    sealed = data_keys("a").seal("a-1", b"secret")
    for find in (find_data_keys, need_data_keys):
        assert find([data_key("a")], deployed=False).open("a-1", sealed) == b"secret"


def test_key_is_made_once_and_kept(keyring: Keyring) -> None:
    assert not find_data_keys([], deployed=False)
    sealed = need_data_keys([], deployed=False).seal("a-1", b"secret")
    for find in (find_data_keys, need_data_keys):
        assert find([], deployed=False).open("a-1", sealed) == b"secret"
    assert len(keyring.kept) == 1


def test_deployed_function_never_asks_a_keyring(keyring: Keyring) -> None:
    need_data_keys([], deployed=False)
    assert not find_data_keys([], deployed=True)
    with pytest.raises(NoDataKey, match="openssl rand -base64 32"):
        need_data_keys([], deployed=True)


def test_keyring_without_a_backend_is_no_keyring(keyring: Keyring) -> None:
    keyring.broken = True
    assert not find_data_keys([], deployed=False)
    with pytest.raises(NoDataKey, match="openssl rand -base64 32"):
        need_data_keys([], deployed=False)


def test_missing_package_is_no_keyring(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "keyring", None)
    assert not find_data_keys([], deployed=False)
    with pytest.raises(NoDataKey, match=r"`keyring`.*openssl rand -base64 32"):
        need_data_keys([], deployed=False)


def test_foreign_entry_is_neither_used_nor_replaced(keyring: Keyring) -> None:
    need_data_keys([], deployed=False)
    keyring.kept = dict.fromkeys(keyring.kept, "planted")
    with pytest.raises(NoDataKey) as found:
        need_data_keys([], deployed=False)
    assert "planted" not in str(found.value)
    assert list(keyring.kept.values()) == ["planted"]
