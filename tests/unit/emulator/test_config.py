"""The environment of the emulator's command, and what it refuses."""

from __future__ import annotations

import pytest

from shared.emulator.config import ConfigError, EmulatorConfig, Limits, Project, from_env


def test_an_empty_environment_is_no_limit_and_the_defaults_given() -> None:
    assert from_env({}) == EmulatorConfig()
    slow = from_env({}, latency_ms=300, chunk_delay_ms=30)
    assert (slow.latency_s, slow.chunk_delay_s) == (0.3, 0.03)
    assert from_env({"EMULATOR_LATENCY_MS": "0"}, latency_ms=300).latency_s == 0


def test_every_variable_is_read() -> None:
    config = from_env(
        {
            "EMULATOR_RPM": "5",
            "EMULATOR_TPM": "1000",
            "EMULATOR_RPD": "unlimited",
            "EMULATOR_CONCURRENCY": "3",
            "EMULATOR_TIER": "free",
            "EMULATOR_CHUNK_DELAY_MS": "2.5",
            "LEDGER_WINDOW_SECONDS": "1.5",
            "EMULATOR_KEYS": '{"k1": "p", "k2": "p"}',
            "EMULATOR_SERVICE_ACCOUNTS": '{"a@p.iam.gserviceaccount.com": "a key"}',
            "EMULATOR_TOKEN_LIFETIME_S": "4",
            "EMULATOR_PROJECTS": '{"p": {"tier": "free", "concurrency": 2, "rpm": 9, "models": {"m": {"rpd": 0}}}}',
        }
    )
    assert config.default_project == Project("free", Limits(rpm=5, tpm=1000), concurrency=3)
    assert config.chunk_delay_s == 0.0025
    assert config.window_s == 1.5
    assert config.keys == {"k1": "p", "k2": "p"}
    assert config.service_accounts == {"a@p.iam.gserviceaccount.com": "a key"}
    assert config.token_lifetime_s == 4
    project = config.project("p")
    assert project.concurrency == 2
    assert project.limits_for("other") == Limits(rpm=9)
    assert project.limits_for("m") == Limits(rpd=0)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("EMULATOR_RPM", "-1"),
        ("EMULATOR_RPM", "five"),
        ("EMULATOR_TIER", "gold"),
        ("EMULATOR_LATENCY_MS", "nan"),
        ("EMULATOR_LATENCY_MS", "-1"),
        ("LEDGER_WINDOW_SECONDS", "0"),
        ("EMULATOR_KEYS", "[]"),
        ("EMULATOR_KEYS", '{"k": 1}'),
        ("EMULATOR_ALIASES", '{"alias": 1}'),
        ("EMULATOR_SERVICE_ACCOUNTS", '{"address": 1}'),
        ("EMULATOR_TOKEN_LIFETIME_S", "-1"),
        ("EMULATOR_PROJECTS", "{"),
        ("EMULATOR_PROJECTS", '{"p": []}'),
        ("EMULATOR_PROJECTS", '{"p": {"rpm": "5"}}'),
        ("EMULATOR_PROJECTS", '{"p": {"rmp": 5}}'),
        ("EMULATOR_PROJECTS", '{"p": {"models": {"m": 5}}}'),
    ],
)
def test_bad_setting_error_names_the_variable(name: str, value: str) -> None:
    with pytest.raises(ConfigError, match=name):
        from_env({name: value})
