"""The stored configuration: what it refuses, and what differs between two versions."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import orjson
import pytest

from shared.accounts.records import AccountRecord, OutReason
from shared.configuration.document import (
    MAX_ACCOUNTS,
    MAX_DOCUMENT_BYTES,
    Configuration,
    LoggedChange,
    Proxy,
    differences,
    dump,
    parse,
)
from shared.errors import BadRequest
from shared.gemini.models import TABLE

SCRIPT = "<script>alert(1)</script>"


def record(number: int = 1, **fields: Any) -> AccountRecord:
    return AccountRecord(**{"id": f"a-{number}", "kind": "api_key", "sealed": "1.k.s", **fields})


FULL = Configuration(
    version=3,
    accounts=(
        record(1, label=SCRIPT, out=OutReason("key_invalid", "no", 5), unknown={"x": [1, {"y": None}]}),
        record(2, kind="vertex", place={"project": "p", "location": "global"}, enabled=False, project="p"),
    ),
    concurrency=20,
    tier="tier2",
    limits={"rpm": 5, "tpm": "unlimited"},
    model_limits={"gemini-4-argon": {"rpd": 0}},
    models={"chat": "gemini-4-argon", "image": "gemini-5-image"},
    aliases={"fast": "gemini-3.5-flash-lite"},
    proxy=Proxy("http://proxy.example:3128", "1.k.s", enabled=False),
    cors_origins=("https://app.example", "http://[::1]:3000"),
    caller_weights={"team-a": 2.5},
    imported=("0" * 64,),
    unknown={"theme": SCRIPT},
    log=(LoggedChange(3, 9, ("limits.rpm",)),),
)


@pytest.mark.parametrize("configuration", [Configuration(), FULL])
def test_json_gives_the_same_value_again(configuration: Configuration) -> None:
    assert parse(dump(configuration)) == configuration


@pytest.mark.parametrize(
    ("text", "path"),
    [
        (b"", None),
        (b"\xff", None),
        (b"[]", None),
        (b"[" * 100_000, None),
        (b'{"unknown": {"a": ' + b"[" * 5_000 + b"]" * 5_000 + b"}}", None),
        (b'{"nothing": 1}', "nothing"),
        (b'{"format": 2}', "format"),
        (b'{"version": "1"}', "version"),
        (b'{"version": -1}', "version"),
        (b'{"concurrency": 0}', "concurrency"),
        (b'{"concurrency": true}', "concurrency"),
        (b'{"tier": "gold"}', "tier"),
        (b'{"limits": {"rpm": -1}}', "limits.rpm"),
        (b'{"limits": {"rps": 1}}', "limits.rps.[key]"),
        (b'{"limits": {"rpm": 1e999}}', "limits.rpm.int"),
        (b'{"model_limits": {"../x": {"rpm": 1}}}', "model_limits"),
        (b'{"models": {"chat": "../x"}}', "models.chat"),
        (b'{"aliases": {"A b": "gemini-3.8-flash"}}', "aliases"),
        (b'{"aliases": {"a": "b", "b": "a"}}', "aliases"),
        (b'{"proxy": {"url": "socks5://x:1"}}', "proxy.url"),
        (b'{"cors_origins": ["*", "https://x.example"]}', "cors_origins"),
        (b'{"cors_origins": ["https://x.example/path"]}', "cors_origins"),
        (b'{"caller_weights": {"a": 0}}', "caller_weights"),
        (b'{"imported": ["x"]}', "imported"),
        (b'{"accounts": [{"id": "a-1", "kind": "api_key"}]}', "accounts.0.sealed"),
        (b'{"accounts": [{"id": "a-1", "kind": "api_key", "sealed": "s", "more": 1}]}', "accounts.0.more"),
        (b'{"accounts": {"id": "a-1"}}', "accounts"),
    ],
)
def test_wrong_document_is_rejected_with_its_field(text: bytes, path: str | None) -> None:
    with pytest.raises(BadRequest) as found:
        parse(text)
    assert (found.value.details or {}).get("field") == path


def test_large_document_is_rejected_before_it_is_parsed() -> None:
    began_s = time.process_time()
    for text in (b"[" * 10_000_000, b'{"unknown": {"a": "' + b"x" * 10_000_000 + b'"}}'):
        with pytest.raises(BadRequest, match="may have at most"):
            parse(text)
    assert time.process_time() - began_s < 1


def test_many_values_are_rejected_before_they_are_parsed() -> None:
    with pytest.raises(BadRequest, match="values and field names"):
        parse(b'{"unknown": {"a": [' + b"0," * 400_000 + b"0]}}")


def test_proxy_with_a_password_is_rejected_without_repeating_it() -> None:
    with pytest.raises(BadRequest) as found:
        parse(b'{"proxy": {"url": "http://user:planted@proxy.example:3128"}}')
    assert "planted" not in found.value.message


def test_script_in_a_name_stays_text() -> None:
    """It is data: stored and returned as it is. What shows it escapes it."""
    assert parse(dump(FULL)).accounts[0].label == SCRIPT
    assert SCRIPT in str(orjson.loads(dump(FULL)))


def test_control_characters_of_a_field_name_are_not_repeated() -> None:
    with pytest.raises(BadRequest) as found:
        parse(b'{"\\u001b[31m\\u0000x": 1}')
    assert found.value.message.isprintable()


def test_accounts_are_bounded_and_differ() -> None:
    with pytest.raises(BadRequest, match="at most 1000"):
        Configuration(accounts=tuple(record(number) for number in range(MAX_ACCOUNTS + 1)))
    with pytest.raises(BadRequest, match="twice"):
        Configuration(accounts=(record(1), record(1)))


def test_too_large_change_is_rejected_with_a_remedy() -> None:
    large = Configuration(accounts=tuple(record(number, sealed="x" * 10_000) for number in range(100)))
    with pytest.raises(BadRequest, match=f"{MAX_DOCUMENT_BYTES:,}.*Remove accounts"):
        dump(large)


def test_a_thousand_api_keys_fit() -> None:
    accounts = tuple(record(number, sealed="x" * 120, label="y" * 40, last4="1234") for number in range(MAX_ACCOUNTS))
    assert len(dump(Configuration(accounts=accounts))) < MAX_DOCUMENT_BYTES


def test_differences_name_single_fields_and_accounts() -> None:
    changed = replace(
        FULL,
        accounts=(replace(FULL.accounts[0], label="x"), record(3)),
        limits={"rpm": 6, "tpm": "unlimited"},
        concurrency=None,
    )
    assert set(differences(FULL, changed)) == {
        "accounts.a-1",
        "accounts.a-2",
        "accounts.a-3",
        "limits.rpm",
        "concurrency",
    }
    assert list(differences(FULL, replace(FULL, accounts=FULL.accounts[::-1]))) == ["accounts.order"]
    assert list(differences(FULL, FULL)) == []


class TestVersions:
    def test_each_change_is_the_next_version_with_what_it_changed(self) -> None:
        first = Configuration().following(Configuration(concurrency=5), 10)
        second = first.following(replace(first, tier="free"), 20)
        assert second.version == 2
        assert second.log == (LoggedChange(1, 10, ("concurrency",)), LoggedChange(2, 20, ("tier",)))

    def test_stale_change_is_told_what_changed_since(self) -> None:
        now = Configuration()
        for concurrency, rpm in ((5, 1), (5, 2), (7, 2)):
            now = now.following(replace(now, concurrency=concurrency, limits={"rpm": rpm}), 10)
        error = now.stale(1)
        assert error.details == {"version": 3, "changed": ["limits.rpm", "concurrency"]}
        assert "limits.rpm, concurrency" in error.message

    def test_log_is_bounded_and_says_what_it_lost(self) -> None:
        now = Configuration()
        for number in range(1, 101):
            now = now.following(replace(now, concurrency=number), 10)
        assert (len(now.log), now.stale(10).details) == (50, {"version": 100, "changed": ["more than is recorded"]})

    def test_a_change_of_many_accounts_is_one_short_entry(self) -> None:
        added = Configuration(accounts=tuple(record(number) for number in range(500)))
        assert Configuration().following(added, 10).log[0].changed[-1] == "490 more"


class TestTable:
    def test_is_the_built_in_one_without_changes(self) -> None:
        assert Configuration().table is TABLE

    def test_defaults_and_aliases_are_the_operators(self) -> None:
        table = FULL.table
        assert table.default_model("chat", "tier1") == "gemini-4-argon"
        assert table.default_model("generate_text", "tier1") == "gemini-3.8-flash"
        assert table.resolve("fast").canonical == "gemini-3.5-flash-lite"
        assert table.models["gemini-5-image"].image_output
