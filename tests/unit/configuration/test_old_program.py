"""Importing and exporting the old program's file: what changes in the configuration, and what an export gives back."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import orjson
import pytest

from shared.accounts.manage import secret_of
from shared.accounts.old_file import OldFile, read_old_file, secrets_of, with_secrets, write_old_file
from shared.accounts.records import AccountRecord, OutReason
from shared.accounts.sealing import DataKeys, NoDataKey
from shared.configuration.document import Configuration, Proxy, dump, parse
from shared.configuration.old_program import (
    KEPT,
    NO_SECRET,
    NOT_ALLOWED,
    UNAVAILABLE,
    Import,
    exported,
    imported,
)
from shared.configuration.resealing import resealed
from shared.errors import BadRequest
from shared.secret import Secret
from shared.settings.accounts import WHY_NO_SESSION_ACCOUNTS
from tests.support.data_keys import data_keys
from tests.support.old_files import COOKIE, HOST_COOKIE, TOKEN, account, document, model

KEYS = data_keys()
DIGEST = "ab" * 32


def imported_file(
    value: dict[str, Any] | OldFile,
    current: Configuration | None = None,
    *,
    allowed: bool = False,
    now_ms: int = 5,
    others: dict[str, Secret] | None = None,
) -> Configuration:
    file = value if isinstance(value, OldFile) else read_old_file(orjson.dumps(value))
    return imported(current or Configuration(), Import(file, DIGEST, now_ms, allowed, others or {}), KEYS)


def written(configuration: Configuration) -> dict[str, Any]:
    found: dict[str, Any] = orjson.loads(write_old_file(exported(configuration, None).file))
    return found


class TestImport:
    def test_session_accounts_arrive_disabled_with_the_sentence(self) -> None:
        first, second = imported_file(document()).accounts
        assert (first.kind, first.state, second.state) == ("enterprise_session", "DISABLED", "DISABLED")
        assert first.out is not None and (first.out.kind, first.out.since_ms) == (NOT_ALLOWED, 5)
        assert first.out.message == WHY_NO_SESSION_ACCOUNTS
        assert first.place["team_id"] == "3f0a9a62-team" and first.last4 == "okie"
        assert orjson.loads(secret_of(KEYS, first).reveal()) == {
            "secure_c_ses": COOKIE, "host_c_oses": HOST_COOKIE,
        }  # fmt: skip

    def test_allowed_accounts_are_enabled_as_the_file_marks_them(self) -> None:
        first, second = imported_file(document(), allowed=True).accounts
        assert (first.state, second.state) == ("ENABLED", "DISABLED")
        assert second.out is not None and second.out.kind == UNAVAILABLE

    def test_an_account_without_cookies_waits_for_a_file_with_them(self) -> None:
        without = imported_file({"accounts": [account(secure_c_ses="", host_c_oses="", jwt=TOKEN)]}, allowed=True)
        (record,) = without.accounts
        assert record.out is not None and (record.out.kind, record.enabled) == (NO_SECRET, False)
        (record,) = imported_file({"accounts": [account()]}, without, allowed=True).accounts
        assert (record.state, record.last4) == ("ENABLED", "okie")

    def test_a_second_import_changes_nothing(self) -> None:
        once = imported_file(document(), now_ms=5)
        assert imported_file(document(), once, now_ms=9) == once

    def test_an_import_keeps_what_the_operator_changed(self) -> None:
        once = imported_file(document())
        enabled = replace(once, accounts=tuple(replace(one, enabled=True, out=None) for one in once.accounts))
        again = imported_file(document(accounts=[account(host_c_oses="COS.another-cookie")], models=[]), enabled)
        assert [one.state for one in again.accounts] == ["ENABLED", "ENABLED"]
        assert again.accounts[0].revision == enabled.accounts[0].revision + 1
        assert "another" in secret_of(KEYS, again.accounts[0]).reveal()

    def test_a_plain_export_never_takes_a_secret_away(self) -> None:
        once = imported_file(document())
        again = imported_file(written(once), once)
        assert again == once

    def test_other_accounts_and_settings_stay(self) -> None:
        other = AccountRecord("a-1", "api_key", KEYS.seal("a-1", b"AQ.a-key-of-a-test"))
        current = Configuration(
            accounts=(other,), concurrency=7, proxy=Proxy("http://stays.example:1"), unknown={"x": 1}
        )
        after = imported_file({"accounts": [account()]}, current)
        assert (after.accounts[0], after.concurrency, after.proxy) == (other, 7, current.proxy)
        assert after.unknown == {"x": 1}
        assert after.imported == (DIGEST,)

    def test_proxy_credential_is_sealed(self) -> None:
        proxy = imported_file(document()).proxy
        assert proxy is not None and (proxy.url, proxy.enabled) == ("http://proxy.example:3128", True)
        assert KEYS.open("proxy:credential", proxy.sealed) == b"user:planted-password"

    def test_no_secret_is_in_the_document(self) -> None:
        text = dump(imported_file(document(models=[model(api_key=TOKEN)]))).decode()
        assert not [secret for secret in (COOKIE, HOST_COOKIE, TOKEN, "planted-password") if secret in text]

    def test_without_a_data_key_nothing_is_imported(self) -> None:
        with pytest.raises(NoDataKey, match="ACCOUNTS_DATA_KEY"):
            imported(Configuration(), Import(read_old_file(orjson.dumps(document())), DIGEST, 5, False), DataKeys([]))

    def test_an_id_of_another_kind_is_rejected(self) -> None:
        file = document(other_accounts=[{"id": "a-1", "kind": "vertex", "place": {"project": "p"}}])
        with pytest.raises(BadRequest, match="a-1 is stored as api_key"):
            imported_file(file, Configuration(accounts=(AccountRecord("a-1", "api_key", ""),)))


class TestExport:
    def test_imported_exported_and_imported_again_is_the_same(self) -> None:
        once = imported_file(document())
        export = exported(once, KEYS)
        file, others = with_secrets(
            read_old_file(write_old_file(export.file)), secrets_of(export.file, export.other_secrets)
        )
        assert file == read_old_file(orjson.dumps(document()))
        again = imported_file(file, others=others)
        assert (written(again), exported(again, KEYS)) == (written(once), exported(once, KEYS))
        assert [(one.id, one.place, one.out, one.unknown) for one in again.accounts] == [
            (one.id, one.place, one.out, one.unknown) for one in once.accounts
        ]

    def test_plain_export_has_the_old_shape_without_secrets(self) -> None:
        shown = written(imported_file(document()))
        plain = document()
        plain["proxy"] = "http://proxy.example:3128"
        plain["accounts"] = [one | {"secure_c_ses": "", "host_c_oses": ""} for one in plain["accounts"]]
        del plain["accounts"][1]["jwt"], plain["api_tokens"]
        assert shown == plain

    def test_other_kinds_are_exported_and_imported(self) -> None:
        key = b"AQ.a-key-of-a-test"
        stored = Configuration(
            accounts=(
                AccountRecord(
                    "a-1", "api_key", KEYS.seal("a-1", key), label="one", project="p", enabled=False, last4="test"
                ),
            )
        )
        export = exported(stored, KEYS)
        assert export.other_secrets == {"a-1": Secret(key.decode())}
        file = read_old_file(write_old_file(export.file))
        (record,) = imported_file(file, others=dict(export.other_secrets)).accounts
        assert (record.id, record.label, record.project, record.enabled, record.last4) == (
            "a-1",
            "one",
            "p",
            False,
            "test",
        )
        (record,) = imported_file(file).accounts
        assert record.out is not None and record.out.kind == NO_SECRET

    def test_available_is_what_holds_here_once_an_account_was_used(self) -> None:
        first, second = imported_file(document()).accounts
        used = Configuration(
            accounts=(
                replace(first, out=OutReason("key_invalid", "no", 3), enabled=True),
                replace(second, out=None, enabled=True),
            )
        )
        assert [one["available"] for one in written(used)["accounts"]] == [False, True]

    def test_a_model_follows_its_account(self) -> None:
        once = imported_file(document())
        without = replace(once, accounts=once.accounts[1:])
        assert [one["account_index"] for one in written(without)["models"]] == [None, 0]

    def test_unreadable_accounts_are_named(self) -> None:
        once = imported_file(document())
        export = exported(once, data_keys("z"))
        assert export.unreadable == tuple(one.id for one in once.accounts)

    def test_an_empty_configuration_is_an_empty_file(self) -> None:
        assert written(Configuration()) == {"proxy": "", "proxy_enabled": False, "accounts": [], "models": []}


def test_secrets_of_no_account_are_encrypted_anew() -> None:
    once = imported_file(document())
    after, count, unreadable = resealed(once, data_keys("n", "k"))
    assert (count, unreadable) == (2, ())
    assert exported(replace(after, accounts=()), data_keys("n")) == exported(replace(once, accounts=()), KEYS)
    assert resealed(after, data_keys("n")) == (after, 0, ())
    assert resealed(once, data_keys("z"))[1:] == (0, ("proxy:credential", "import:business_gemini_session"))
    assert resealed(Configuration(), KEYS) == (Configuration(), 0, ())


def test_stored_document_is_read_again() -> None:
    once = imported_file(document())
    assert parse(dump(once)) == once
    assert KEPT in once.unknown
