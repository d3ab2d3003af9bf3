"""The check of an outbound proxy, and what is shown of one."""

from __future__ import annotations

import socket
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from shared.ops.proxy_check import ProxyCheck, check_proxy, proxy_status
from shared.secret import Secret
from shared.settings.proxy import Exemption, ProxySettings
from tests.support.connect_proxy import ConnectProxy, Manner, connect_proxy
from tests.support.https_site import Site, certificate, https_site

USER = "agent:pass%40word-planted"
HOST = "gemini.invalid"
PATIENCE_S = 20.0


@pytest.fixture
def pem(tmp_path: Path) -> Path:
    return certificate(HOST, tmp_path)


@pytest.fixture
async def site(pem: Path) -> AsyncIterator[Site]:
    async with https_site("127.0.0.1", pem) as site:
        yield site


async def checked(proxy: ConnectProxy, site: Site, pem: Path | None, url: str = "") -> ProxyCheck:
    proxy.hosts[f"{HOST}:443"] = ("127.0.0.1", site.port)
    tls = True if pem is None else ssl.create_default_context(cafile=str(pem))
    return await check_proxy(Secret(url or proxy.url), f"https://{HOST}/", timeout_s=PATIENCE_S, tls=tls)


async def test_a_target_answers_through_a_tunnel(site: Site, pem: Path) -> None:
    async with connect_proxy() as proxy:
        check = await checked(proxy, site, pem)
        assert (check.outcome, proxy.asked) == ("reachable", [f"{HOST}:443"])
    assert [path for path, _ in site.asked] == ["/"]


async def test_credentials_reach_the_proxy_and_not_the_target(site: Site, pem: Path) -> None:
    async with connect_proxy("agent:pass@word-planted") as proxy:
        check = await checked(proxy, site, pem, proxy.url_for(USER))
    assert check.outcome == "reachable"
    assert "Proxy-Authorization" not in site.asked[0][1]


@pytest.mark.parametrize("user", ["agent:wrong-planted", ""])
async def test_rejected_credentials_are_not_in_the_message(site: Site, pem: Path, user: str) -> None:
    async with connect_proxy("agent:right-planted") as proxy:
        check = await checked(proxy, site, pem, proxy.url_for(user) if user else proxy.url)
        assert check.outcome == "rejected_credentials"
        assert proxy.url in check.message
    assert "planted" not in repr(check)


@pytest.mark.parametrize(("manner", "outcome"), [("refuses", "refused"), ("garbage", "broken")])
async def test_a_proxy_that_does_not_serve(site: Site, pem: Path, manner: Manner, outcome: str) -> None:
    async with connect_proxy(manner=manner) as proxy:
        assert (await checked(proxy, site, pem)).outcome == outcome


async def test_a_target_whose_certificate_is_not_trusted(site: Site) -> None:
    async with connect_proxy() as proxy:
        assert (await checked(proxy, site, None)).outcome == "untrusted"


async def test_a_silent_proxy_times_out() -> None:
    async with connect_proxy(manner="silent") as proxy:
        check = await check_proxy(Secret(proxy.url), f"https://{HOST}/", timeout_s=0.05)
    assert check.outcome == "timed_out"


async def test_nothing_listens_at_the_port() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    check = await check_proxy(Secret(f"http://u:planted@127.0.0.1:{port}"), f"https://{HOST}/", timeout_s=PATIENCE_S)
    assert check.outcome == "unreachable"
    assert "planted" not in check.message


async def test_an_http_target_is_asked_in_absolute_form() -> None:
    async with connect_proxy("agent:right-planted") as proxy, connect_proxy(manner="refuses") as target:
        proxy.hosts[f"{HOST}:80"] = ("127.0.0.1", target.port)
        rejected = await check_proxy(Secret(proxy.url), f"http://{HOST}/", timeout_s=PATIENCE_S)
        url = proxy.url_for("agent:right-planted")
        accepted = await check_proxy(Secret(url), f"http://{HOST}/", timeout_s=PATIENCE_S)
    assert (rejected.outcome, accepted.outcome) == ("rejected_credentials", "reachable")


def test_the_status_names_the_proxy_that_serves_a_target() -> None:
    target = "https://generativelanguage.googleapis.com"
    proxy = Secret("http://agent:planted@proxy.example:3128")
    last = ProxyCheck("reachable", "It answered.", 12)
    status = proxy_status(ProxySettings(https=proxy), target, last)
    assert status == {
        "proxy": "http://proxy.example:3128",
        "with_credentials": True,
        "exempt": False,
        "last_check": {"outcome": "reachable", "message": "It answered.", "took_ms": 12},
    }
    direct = {"proxy": None, "with_credentials": False, "exempt": False, "last_check": None}
    assert proxy_status(ProxySettings(http=proxy), target) == direct
    exempt = ProxySettings(https=proxy, exemptions=(Exemption(domain="googleapis.com"),))
    assert proxy_status(exempt, target) == {**direct, "exempt": True}
