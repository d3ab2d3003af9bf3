"""How long a caller waits, read from its headers."""

from __future__ import annotations

import pytest

from shared.errors import BadRequest
from shared.http.patience import Patience, patience_of

MAX_S = 120.0


def patience(**headers: str) -> Patience:
    return patience_of({name.replace("_", "-"): value for name, value in headers.items()}, MAX_S)


def test_without_a_header_it_is_the_servers() -> None:
    assert patience() == Patience(MAX_S, stated=False)


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"x_request_timeout": "2.5"}, Patience(2.5, True)),
        ({"x_server_timeout": "30"}, Patience(30, True)),
        ({"x_stainless_read_timeout": "30.5"}, Patience(30.5, True, True)),
        ({"x_stainless_timeout": "60"}, Patience(60, True, True)),
    ],
)
def test_each_header_is_read_as_seconds(headers: dict[str, str], expected: Patience) -> None:
    assert patience(**headers) == expected


def test_our_own_header_has_precedence_and_then_the_total_time() -> None:
    sdk = {"x_stainless_read_timeout": "30", "x_stainless_timeout": "40"}
    assert patience(x_request_timeout="10", x_server_timeout="20", **sdk).timeout_s == 10
    assert patience(x_server_timeout="20", **sdk).timeout_s == 20
    assert patience(**sdk).timeout_s == 30


@pytest.mark.parametrize("name", ["x_server_timeout", "x_stainless_read_timeout", "x_stainless_timeout"])
@pytest.mark.parametrize("value", ["121", "600", "1e9", "inf"])
def test_an_sdks_header_is_capped(name: str, value: str) -> None:
    """600 is what the SDKs of openai send by default."""
    assert patience(**{name: value})[:2] == (MAX_S, True)


@pytest.mark.parametrize("name", ["x_server_timeout", "x_stainless_read_timeout", "x_stainless_timeout"])
@pytest.mark.parametrize("value", ["", "0", "-1", "nan", "soon", "None", "10, 20"])
def test_a_malformed_header_of_an_sdk_is_ignored(name: str, value: str) -> None:
    """openai-node rounds down, so that it sends 0 for half a second."""
    assert patience(**{name: value}) == Patience(MAX_S)


@pytest.mark.parametrize("value", ["0", "-1", "121", "soon", "nan", "inf", ""])
def test_our_own_header_is_refused_where_it_cannot_be_kept(value: str) -> None:
    with pytest.raises(BadRequest, match="at most 120"):
        patience(x_request_timeout=value, x_server_timeout="20")
