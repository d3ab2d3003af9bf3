"""Sealed secrets: who can open them, and what they reveal."""

from __future__ import annotations

import pytest

from shared.accounts.sealing import (
    MIN_PASSPHRASE_CHARS,
    DataKeys,
    NoDataKey,
    Unsealable,
    open_with_passphrase,
    seal_with_passphrase,
)
from shared.errors import BadRequest
from shared.secret import Secret
from tests.support.data_keys import data_key, data_keys

PLAIN = b"AQ.a-key-of-the-operator"


def test_what_is_sealed_opens_with_the_same_key() -> None:
    sealed = data_keys().seal("a-1", PLAIN)
    assert data_keys().open("a-1", sealed) == PLAIN
    assert PLAIN.decode() not in sealed


def test_two_sealed_texts_of_one_secret_differ() -> None:
    assert data_keys().seal("a-1", PLAIN) != data_keys().seal("a-1", PLAIN)


def test_a_sealed_text_opens_only_for_its_account() -> None:
    sealed = data_keys().seal("a-1", PLAIN)
    with pytest.raises(Unsealable, match="belongs to another account"):
        data_keys().open("a-2", sealed)


def test_any_changed_character_is_noticed() -> None:
    sealed = data_keys().seal("a-1", PLAIN)
    for at in range(len("1.12345678."), len(sealed) - 1):
        changed = sealed[:at] + ("A" if sealed[at] != "A" else "B") + sealed[at + 1 :]
        with pytest.raises(Unsealable):
            data_keys().open("a-1", changed)


@pytest.mark.parametrize("text", ["", "1", "1.", "1..", "2.x.y", "1.4a4a4a4a.!!", "\x00", "p1.AAAA", "é.é.é"])
def test_what_was_never_sealed_does_not_open(text: str) -> None:
    with pytest.raises(Unsealable):
        data_keys().open("a-1", text)


def test_another_key_does_not_open_and_the_message_says_so() -> None:
    with pytest.raises(Unsealable, match="Sealed with another key"):
        data_keys("x").open("a-1", data_keys("k").seal("a-1", PLAIN))


def test_first_key_seals_and_every_key_opens() -> None:
    old, both = data_keys("a"), data_keys("b", "a")
    sealed = old.seal("a-1", PLAIN)
    assert both.open("a-1", sealed) == PLAIN
    assert (old.is_current(sealed), both.is_current(sealed), both.is_current(both.seal("a-1", PLAIN))) == (
        True,
        False,
        True,
    )


def test_without_a_key_the_error_says_how_to_set_one() -> None:
    none = DataKeys([])
    assert not none
    for attempt in (lambda: none.seal("a-1", PLAIN), lambda: none.open("a-1", data_keys().seal("a-1", PLAIN))):
        with pytest.raises(NoDataKey, match="openssl rand -base64 32"):
            attempt()
    assert not none.is_current(data_keys().seal("a-1", PLAIN))


def test_no_key_and_no_secret_is_shown() -> None:
    shown = repr(vars(data_keys()))
    assert data_key().reveal() not in shown


class TestPassphrase:
    PASSPHRASE = Secret("correct horse battery")

    def test_opens_with_the_passphrase_alone(self) -> None:
        sealed = seal_with_passphrase(PLAIN, self.PASSPHRASE)
        assert open_with_passphrase(sealed, self.PASSPHRASE) == PLAIN
        with pytest.raises(Unsealable, match="passphrase is wrong"):
            open_with_passphrase(sealed, Secret("correct horse batterz"))

    def test_short_one_is_rejected(self) -> None:
        with pytest.raises(BadRequest, match=f"at least {MIN_PASSPHRASE_CHARS}"):
            seal_with_passphrase(PLAIN, Secret("x" * (MIN_PASSPHRASE_CHARS - 1)))

    @pytest.mark.parametrize("text", ["", "p1.", "p1.!", "1.a.b", "p1.AAAA"])
    def test_what_is_no_export_does_not_open(self, text: str) -> None:
        with pytest.raises(Unsealable):
            open_with_passphrase(text, self.PASSPHRASE)
