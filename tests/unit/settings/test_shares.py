"""Which shares bind: only those of one kind of caller where the other one exists."""

from __future__ import annotations

import pytest

from shared.settings.settings import Settings
from shared.settings.shares import caller_key_connections, fetch_limit, shares_day
from tests.support.edge import ENVIRONMENT

SERVER_KEY = {"GEMINI_API_KEY": "AQ.a-key-of-the-server"}


def settings(**given: str) -> Settings:
    return Settings.from_environment({**ENVIRONMENT, **given})


@pytest.mark.parametrize(("connections", "most"), [("100", 50), ("5", 2), ("1", 1)])
def test_own_keys_have_half_of_the_connections(connections: str, most: int) -> None:
    assert caller_key_connections(settings(MAX_CONNECTIONS=connections, **SERVER_KEY)) == most
    assert caller_key_connections(settings(MAX_CONNECTIONS=connections)) is None


@pytest.mark.parametrize(("limit", "most"), [("60", 60), ("2", 14), ("unlimited", None)])
def test_fetches_have_the_rate_and_room_for_one_request(limit: str, most: int | None) -> None:
    assert fetch_limit(settings(RATE_LIMIT_PER_MINUTE=limit)) == most


@pytest.mark.parametrize(
    ("given", "shared"),
    [
        ({}, False),
        ({"HOST": "localhost"}, False),
        ({"HOST": "::1"}, False),
        ({"HOST": "0.0.0.0"}, True),
        ({"HOST": "0.0.0.0", "ADMIN_API_KEY": ""}, False),
        ({"K_SERVICE": "chat", "GOOGLE_CLOUD_PROJECT": "p"}, True),
    ],
)
def test_the_day_is_shared_where_others_can_reach_it(given: dict[str, str], shared: bool) -> None:
    assert shares_day(settings(**given)) is shared
