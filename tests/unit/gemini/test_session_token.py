"""The token of a browser's session: how it is signed, and what a rejection means."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
from typing import Any

import orjson
import pytest

from shared.gemini.errors import UpstreamFailure
from shared.gemini.session_token import API, WEB, SessionMint, signed_token, signer_of
from shared.gemini.upstream import Exchange
from shared.secret import Secret
from tests.support.connect_proxy import connect_proxy
from tests.unit.gemini.conftest import Connection, Received, Upstream

NOW_S = 1_800_000_000
KEY = bytes(range(32))
ISSUED = {"xsrfToken": base64.urlsafe_b64encode(KEY).decode().rstrip("="), "keyId": "key-1"}
COOKIES = {"secure_c_ses": "CSE.planted", "host_c_oses": "COS.planted"}


def signer(credential: Any = COOKIES, **place: str) -> Secret:
    where = {"csesidx": "12", "user_agent": "Firefox", **place}
    return signer_of(Exchange(Secret(orjson.dumps(credential).decode()), "m", "v", b"", 1.0, place=where))


def decoded(part: str) -> bytes:
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))


def answers(upstream: Upstream, status: int, body: bytes, *headers: str) -> None:
    async def script(connection: Connection, request: Received) -> None:
        await connection.answer(status, body, "application/json", *headers)

    upstream.script = script


async def minted(upstream: Upstream, given: Secret | None = None, proxy: Secret | None = None) -> str:
    mint = SessionMint(upstream.url, lambda url: proxy, lambda: NOW_S + 0.9)
    return (await asyncio.to_thread(mint, given or signer())).token.reveal()


async def rejected(upstream: Upstream, given: Secret | None = None) -> UpstreamFailure:
    with pytest.raises(UpstreamFailure) as raised:
        await minted(upstream, given)
    assert "planted" not in f"{raised.value!r} {raised.value.message}"
    assert raised.value.written is False
    return raised.value


def test_a_token_names_the_session_and_its_time() -> None:
    head, claims, signature = signed_token(b")]}'\n" + orjson.dumps(ISSUED), "12", NOW_S).split(".")
    assert orjson.loads(decoded(head)) == {"alg": "HS256", "typ": "JWT", "kid": "key-1"}
    expected = {"iss": WEB, "aud": API, "sub": "csesidx/12", "iat": NOW_S, "nbf": NOW_S, "exp": NOW_S + 300}
    assert orjson.loads(decoded(claims)) == expected
    assert decoded(signature) == hmac.digest(KEY, f"{head}.{claims}".encode(), hashlib.sha256)


@pytest.mark.parametrize(
    "issued",
    [
        b"",
        b"[]",
        b"null",
        b"<html>",
        b'{"keyId": "k"}',
        b'{"keyId": "k", "xsrfToken": "?"}',
        b'{"keyId": "", "xsrfToken": "AA"}',
    ],
)
def test_without_a_key_nothing_is_signed(issued: bytes) -> None:
    with pytest.raises(UpstreamFailure) as raised:
        signed_token(issued, "12", NOW_S)
    assert raised.value.kind == "token"


async def test_the_cookies_are_exchanged_for_a_key(upstream: Upstream) -> None:
    answers(upstream, 200, b")]}'" + orjson.dumps(ISSUED))
    assert await minted(upstream) == signed_token(orjson.dumps(ISSUED), "12", NOW_S)
    (request,) = upstream.requests
    assert request.line == "GET /auth/getoxsrf?csesidx=12 HTTP/1.1"
    assert request.headers["cookie"] == "__Secure-C_SES=CSE.planted; __Host-C_OSES=COS.planted"
    assert request.headers["user-agent"] == "Firefox"


async def test_the_key_is_fetched_through_the_proxy(upstream: Upstream) -> None:
    answers(upstream, 200, orjson.dumps(ISSUED))
    async with connect_proxy("agent:planted") as proxy:
        await minted(upstream, proxy=Secret(proxy.url_for("agent:planted")))
        assert proxy.asked == [upstream.url.removeprefix("http://")]


@pytest.mark.parametrize("status", [302, 401, 403])
async def test_dead_cookies_put_the_account_out(upstream: Upstream, status: int) -> None:
    answers(upstream, status, b"CSE.planted", "Location: https://accounts.google.com/")
    assert (await rejected(upstream)).remedy == "account_out"


@pytest.mark.parametrize(("status", "body"), [(500, b""), (429, b""), (200, b"{}"), (200, b" " * 100_000)])
async def test_a_failure_of_the_service_passes(upstream: Upstream, status: int, body: bytes) -> None:
    answers(upstream, status, body)
    assert (await rejected(upstream)).kind == "token"


async def test_a_service_that_is_not_there_is_asked_again(upstream: Upstream) -> None:
    async def script(connection: Connection, request: Received) -> None:
        connection.reset()

    upstream.script = script
    assert (await rejected(upstream)).kind == "token"


@pytest.mark.parametrize(
    "given",
    [
        signer({**COOKIES, "secure_c_ses": "planted; x=y"}),
        signer({**COOKIES, "host_c_oses": "planted\r\nX-Planted: 1"}),
        signer({**COOKIES, "host_c_oses": 5}),
        signer({**COOKIES, "host_c_oses": ""}),
        signer(csesidx="1&planted"),
        signer(csesidx=""),
    ],
)
async def test_what_is_no_session_is_not_sent(upstream: Upstream, given: Secret) -> None:
    assert (await rejected(upstream, given)).remedy == "account_out"
    assert not upstream.requests


@pytest.mark.parametrize("credential", [{}, [], "planted", None, {"secure_c_ses": "planted"}])
def test_a_credential_without_cookies_is_named(credential: Any) -> None:
    with pytest.raises(UpstreamFailure, match="secure_c_ses and host_c_oses") as raised:
        signer(credential)
    assert "planted" not in raised.value.message


def test_an_odd_browser_name_is_not_sent() -> None:
    agents = [signer(user_agent=text).reveal() for text in ("Firefox\r\nX: 1", "é", "", "x" * 600)]
    assert all('"user_agent":"Mozilla/5.0"' in agent for agent in agents)
