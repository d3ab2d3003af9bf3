"""What `python -m shared.accounts configuration` shows of each field: its value, where that comes from, what locks it."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest

from shared.accounts.records import AccountRecord
from shared.accounts.sealing import DataKeys
from shared.configuration.document import Configuration, Proxy
from shared.configuration.effective import locked_fields
from shared.configuration.stored_proxy import stored
from shared.errors import BadRequest
from shared.ops.accounts_configuration import FieldRow, _text, field_rows
from shared.secret import Secret
from shared.settings.settings import Settings
from tests.support.data_keys import data_key

KEYS = DataKeys([data_key("k")])
STORED = Configuration(
    version=4,
    accounts=(AccountRecord("a-1", "api_key", "1.x.y", last4="0001"),),
    concurrency=7,
    tier="free",
    limits={"tpm": "unlimited", "ipm": 3},
    model_limits={"gemini-4-argon": {"rpm": 2}},
    models={"chat": "gemini-3.6-flash"},
    aliases={"our-model": "gemini-3.8-flash"},
    proxy=stored(Secret("http://agent:a-planted-password@proxy.example:3128"), KEYS),
    cors_origins=("https://app.example",),
    caller_weights={"team-a": 2.5},
)
VARIABLES = {
    "GEMINI_CONCURRENCY_LIMIT": "9",
    "GEMINI_TIER": "tier2",
    "GEMINI_RPM": "11",
    "GEMINI_TPM": "12",
    "GEMINI_IPM": "13",
    "GEMINI_RPD": "14",
    "GEMINI_LIMITS": '{"gemini-3.8-flash": {"rpm": 5}}',
    "GEMINI_MODEL_TYPE": "gemini-3.5-flash-lite",
    "HTTPS_PROXY": "http://user:planted@other.example:1",
    "CORS_ORIGIN": "https://b.example",
    "CALLER_WEIGHTS": '{"team-b": 3}',
}


def rows(configuration: Configuration = STORED, **env: str) -> dict[str, FieldRow]:
    settings = Settings.from_environment({"LEDGER_URL": "memory://", **env})
    return {row.field: row for row in field_rows(settings, configuration, KEYS)}


def test_every_field_is_listed() -> None:
    shown = {name.partition(".")[0] for name in rows()}
    internal = {"version", "format", "imported", "unknown", "log"}
    assert shown == {field.name for field in fields(Configuration)} - internal


def test_without_anything_set_all_are_defaults() -> None:
    found = rows(Configuration())
    assert {row.source for row in found.values()} == {"default"}
    assert {row.locked_by for row in found.values()} == {None}
    assert (found["tier"].value, found["limits.rpm"].value, found["proxy"].value) == ("tier1", 300, None)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("concurrency", 7),
        ("tier", "free"),
        ("limits.tpm", "unlimited"),
        ("limits.ipm", 3),
        ("model_limits", {"gemini-4-argon": {"rpm": 2, "tpm": "unlimited", "ipm": 3, "rpd": 25}}),
        ("models.chat", "gemini-3.6-flash"),
        ("aliases", {"our-model": "gemini-3.8-flash"}),
        ("proxy", "http://proxy.example:3128, password ...word"),
        ("cors_origins", ["https://app.example"]),
        ("caller_weights", {"team-a": 2.5}),
    ],
)
def test_a_stored_value_replaces_a_default(field: str, value: Any) -> None:
    found = rows()[field]
    assert (found.value, found.source, found.locked_by) == (value, "stored", None)


def test_what_the_environment_sets_is_locked() -> None:
    found = rows(**VARIABLES)
    locked = locked_fields(VARIABLES)
    assert {name: row.locked_by for name, row in found.items() if row.locked_by} == locked
    assert {name: row.source for name, row in found.items() if name in locked} == locked
    assert (found["limits.rpm"].value, found["concurrency"].value, found["models.chat"].value) == (
        11, 9, "gemini-3.5-flash-lite",
    )  # fmt: skip
    assert found["proxy"].value == "http://other.example:1, password not shown"
    assert found["proxy"].stored == "http://proxy.example:3128, password ...word (on)"
    assert found["concurrency"].stored == 7


def test_text_names_the_lock_and_the_unused_value() -> None:
    lines = {line.split()[0]: line for line in _text(list(rows(**VARIABLES).values())).splitlines()}
    assert lines["limits.rpm"].split() == ["limits.rpm", "11", "GEMINI_RPM", "locked", "by", "GEMINI_RPM"]
    assert lines["concurrency"].endswith("locked by GEMINI_CONCURRENCY_LIMIT; stored: 7")
    assert lines["aliases"].split() == ["aliases", '{"our-model":"gemini-3.8-flash"}', "stored"]


def test_a_proxy_that_is_off_is_not_used() -> None:
    found = rows(Configuration(version=1, proxy=Proxy("http://proxy.example:3128", enabled=False)))["proxy"]
    assert (found.value, found.source, found.stored) == (None, "default", "http://proxy.example:3128 (off)")


def test_secrets_are_their_last_four_characters() -> None:
    """None of a short one."""
    env = {"GEMINI_API_KEY_1": "AQ.a-planted-key-0002", "GEMINI_API_KEY_2": "planted-key"}
    found = rows(**VARIABLES, **env)
    assert found["accounts"].value == ["...0002", "gemini-api-key-2", "...0001"]
    assert found["accounts"].source == "GEMINI_API_KEY_1, GEMINI_API_KEY_2, stored"
    assert "planted" not in str(found) + _text(list(found.values()))


def test_what_does_not_fit_the_environment_is_named() -> None:
    with pytest.raises(BadRequest, match="does not fit the environment"):
        rows(Configuration(version=1, tier="tier3"))
