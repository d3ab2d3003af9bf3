"""Which of two values holds: the environment's, or the stored one."""

from __future__ import annotations

import pytest

from shared.configuration.document import Configuration
from shared.configuration.effective import effective, locked_fields
from shared.errors import BadRequest
from shared.ledger.limits import Limits
from shared.secret import Secret
from shared.settings.settings import Settings

STORED = Configuration(
    version=4,
    concurrency=7,
    tier="free",
    limits={"tpm": "unlimited", "ipm": 3},
    model_limits={"gemini-4-argon": {"rpm": 2}},
    models={"chat": "gemini-3.6-flash"},
    cors_origins=("https://app.example", "https://b.example"),
    caller_weights={"team-a": 2.5},
)


def settings(**env: str) -> Settings:
    return Settings.from_environment({"LEDGER_URL": "memory://", **env})


def test_stored_values_replace_defaults() -> None:
    found, locked = effective(settings(), STORED)
    limits = Limits(requests=5, input_tokens=None, images=3, requests_per_day=25)
    assert (found.concurrency_limit, found.tier, found.limits) == (7, "free", limits)
    assert found.model_limits == {"gemini-4-argon": limits._replace(requests=2)}
    assert (found.cors_origins, found.caller_weights) == (STORED.cors_origins, {"team-a": 2.5})
    assert found.models.default_model("chat", "tier1") == "gemini-3.6-flash"
    assert locked == {}


def test_environment_wins_and_locks() -> None:
    given = settings(
        GEMINI_CONCURRENCY_LIMIT="9", GEMINI_TPM="10", CORS_ORIGIN="*", GEMINI_MODEL_TYPE="gemini-3.8-flash"
    )
    found, locked = effective(given, STORED)
    assert (found.concurrency_limit, found.limits.input_tokens, found.cors_origins) == (9, 10, ("*",))
    assert found.limits.images == 3
    assert locked == {
        "concurrency": "GEMINI_CONCURRENCY_LIMIT",
        "limits.tpm": "GEMINI_TPM",
        "cors_origins": "CORS_ORIGIN",
        **{f"models.{name}": "GEMINI_MODEL_TYPE" for name in ("chat", "generate_text", "stream", "batch")},
    }


def test_nothing_stored_changes_nothing() -> None:
    given = settings(GEMINI_RPM="9")
    assert effective(given, Configuration())[0] == given


def test_second_version_is_put_below_the_same_environment() -> None:
    """Not below the first version's values."""
    first, _ = effective(settings(), STORED)
    assert first.environment == settings().environment
    assert effective(first, Configuration())[0].environment == settings().environment


def test_number_of_a_given_tier_is_still_a_default() -> None:
    found, _ = effective(settings(GEMINI_TIER="tier2"), Configuration(limits={"rpm": 42}))
    assert (found.limits.requests, found.limits.input_tokens) == (42, 2_000_000)


def test_custom_tier_needs_its_numbers_from_either_side() -> None:
    with pytest.raises(BadRequest, match=r"does not fit the environment.*GEMINI_RPM"):
        effective(settings(), Configuration(tier="tier3"))
    given = settings(GEMINI_RPM="5", GEMINI_TPM="6")
    assert effective(given, Configuration(tier="tier3", limits={"rpd": 7}))[0].limits == Limits(5, 6, None, 7)


def test_proxy_serves_where_the_environment_has_none() -> None:
    proxy = Secret("http://user:planted@proxy.example:3128")
    found, _ = effective(settings(), Configuration(), proxy)
    assert found.proxy_for("https://generativelanguage.googleapis.com") == proxy
    assert found.proxy_for("http://127.0.0.1:1") is None
    for name in ("HTTPS_PROXY", "http_proxy", "ALL_PROXY"):
        own, locked = effective(settings(**{name: "http://other.example:1"}), Configuration(), proxy)
        assert locked == {"proxy": name}
        assert own.proxy_for("https://x.example") != proxy


def test_every_locked_variable_is_one_that_the_settings_read() -> None:
    names = ("GEMINI_TIER", "GEMINI_RPM", "GEMINI_TPM", "GEMINI_IPM", "GEMINI_RPD", "GEMINI_LIMITS", "CALLER_WEIGHTS")
    assert set(locked_fields(dict.fromkeys(names, "x")).values()) == set(names)


def test_repr_of_settings_has_no_environment() -> None:
    assert "planted" not in repr(settings(GEMINI_API_KEY="AQ.planted-key-of-a-test"))
