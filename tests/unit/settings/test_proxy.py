"""Which requests go through a proxy: the variables, their precedence, and what NO_PROXY exempts."""

from __future__ import annotations

import pytest

from shared.settings.environment import Environment
from shared.settings.proxy import ProxySettings

PROXY, OTHER = "http://proxy.example:3128", "http://other.example:8080"


def proxy(url: str, **env: str) -> str | None:
    """The proxy that a request to `url` goes through."""
    found = ProxySettings.read(Environment(env)).proxy_for(url)
    return found.reveal() if found else None


@pytest.mark.parametrize("name", ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"])
def test_plain_targets_use_the_proxy_for_http(name: str) -> None:
    assert proxy("http://gemini.example", **{name: PROXY}) == PROXY


@pytest.mark.parametrize("name", ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"])
def test_tls_targets_use_the_proxy_for_https(name: str) -> None:
    assert proxy("https://gemini.example", **{name: PROXY}) == PROXY


def test_the_targets_scheme_chooses_the_proxy() -> None:
    env = {"HTTP_PROXY": PROXY, "https_proxy": OTHER}
    assert proxy("http://gemini.example", **env) == PROXY
    assert proxy("https://gemini.example", **env) == OTHER
    assert proxy("https://gemini.example", HTTP_PROXY=PROXY) is None


def test_lower_case_has_precedence() -> None:
    assert proxy("http://gemini.example", HTTP_PROXY=OTHER, http_proxy=PROXY) == PROXY
    assert proxy("http://gemini.example", HTTP_PROXY=PROXY, NO_PROXY="*", no_proxy="elsewhere.example") == PROXY
    assert proxy("http://gemini.example", HTTP_PROXY=PROXY, http_proxy=" ") == PROXY


def test_all_proxy_serves_schemes_without_their_own() -> None:
    env = {"ALL_PROXY": PROXY, "HTTPS_PROXY": OTHER}
    assert proxy("http://gemini.example", **env) == PROXY
    assert proxy("https://gemini.example", **env) == OTHER


def test_an_all_proxy_that_no_scheme_needs_is_not_read() -> None:
    env = {"ALL_PROXY": "socks5://proxy.example", "HTTPS_PROXY": OTHER, "HTTP_PROXY": PROXY}
    assert proxy("http://gemini.example", **env) == PROXY


def test_a_proxy_without_a_scheme_is_http() -> None:
    assert proxy("https://gemini.example", HTTPS_PROXY="proxy.example:3128") == PROXY


@pytest.mark.parametrize(
    ("no_proxy", "url"),
    [
        ("*", "http://gemini.example"),
        ("gemini-gateway.internal,localhost", "http://gemini-gateway.internal:8080"),
        ("other.example, gemini.example", "http://gemini.example"),
        ("other.example gemini.example", "http://gemini.example"),
        ("other.example,*", "http://gemini.example"),
        ("example", "http://gemini.example"),
        (".example", "http://gemini.example"),
        ("*.example", "http://a.gemini.example"),
        (".gemini.example", "http://gemini.example"),
        ("GEMINI.example.", "http://gemini.EXAMPLE"),
        ("gemini.example", "http://gemini.example."),
        ("gemini.example:80", "http://gemini.example"),
        ("gemini.example:8443", "http://gemini.example:8443"),
        ("192.0.2.7", "http://192.0.2.7:9000"),
        ("192.0.2.7:9000", "http://192.0.2.7:9000"),
        ("192.0.2.0/24", "http://192.0.2.7"),
        ("2001:db8::1", "http://[2001:DB8::1]"),
        ("[2001:db8::1]:90", "http://[2001:db8:0::1]:90"),
        ("2001:db8::/32", "http://[2001:db8::1]"),
    ],
)
def test_an_exempt_target_is_reached_directly(no_proxy: str, url: str) -> None:
    assert proxy(url, HTTP_PROXY=PROXY, NO_PROXY=no_proxy) is None
    assert proxy(url, ALL_PROXY=PROXY, no_proxy=no_proxy) is None


@pytest.mark.parametrize(
    ("no_proxy", "url"),
    [
        ("", "http://gemini.example"),
        (" , ", "http://gemini.example"),
        ("mini.example", "http://gemini.example"),
        ("gemini.example", "http://gemini.example.org"),
        ("gemini.example:81", "http://gemini.example"),
        ("192.0.2.7", "http://192.0.2.70"),
        ("192.0.2.0/24", "http://192.0.3.7"),
        ("192.0.2.0/24", "http://gemini.example"),
        ("[2001:db8::1]:90", "http://[2001:db8::1]"),
    ],
)
def test_another_target_goes_through_the_proxy(no_proxy: str, url: str) -> None:
    assert proxy(url, HTTP_PROXY=PROXY, NO_PROXY=no_proxy) == PROXY


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST.", "a.localhost", "127.0.0.1:8080", "127.9.9.9", "[::1]:80"])
def test_this_machine_is_never_reached_through_a_proxy(host: str) -> None:
    assert proxy(f"http://{host}/x", ALL_PROXY=PROXY) is None
