"""Fetching an access token with google-auth: from the offline Gemini, and from endpoints that answer oddly."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from google.auth.exceptions import DefaultCredentialsError

from shared.emulator import Emulator, EmulatorConfig, running
from shared.gemini.errors import UpstreamFailure
from shared.gemini.minting import Mint
from shared.gemini.oauth import Minted
from shared.secret import Secret
from tests.support.service_accounts import (
    DISABLED,
    EMAIL,
    known_service_accounts,
    private_key,
    public_key,
    service_account,
)

CONFIG = EmulatorConfig(service_accounts=known_service_accounts())
KEY_LINES = [line for line in private_key().splitlines() if len(line) > 40]


def direct(_: str) -> None:
    return None


async def mint(
    url: str, credential: str | None = None, proxy_for: Callable[[str], Secret | None] = direct
) -> Minted | UpstreamFailure:
    """A token or a failure, which never shows what was sent."""
    try:
        return await asyncio.to_thread(Mint(url, proxy_for), Secret(credential or service_account()))
    except UpstreamFailure as failure:
        assert (failure.written, failure.status) == (False, None)
        assert (failure.__cause__, failure.__suppress_context__) == (None, True) or failure.__context__ is None
        assert not any(line in str(failure) for line in KEY_LINES)
        return failure


async def kind_and_text(*args: Any, **rest: Any) -> tuple[str, str]:
    got = await mint(*args, **rest)
    assert isinstance(got, UpstreamFailure)
    return got.kind, got.message


@pytest.fixture
async def google() -> AsyncIterator[Emulator]:
    async with running(CONFIG) as emulator:
        yield emulator


@pytest.fixture
async def answering() -> AsyncIterator[Callable[..., Awaitable[str]]]:
    """Makes a token endpoint that gives one answer, and returns its URL."""
    runners: list[web.ServerRunner] = []

    async def make(answer: Callable[[Any], Awaitable[web.Response]]) -> str:
        runner = web.ServerRunner(web.Server(answer))  # type: ignore[arg-type]
        runners.append(runner)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        return f"http://127.0.0.1:{runner.addresses[0][1]}/token"

    yield make
    for runner in runners:
        await runner.cleanup()


async def test_a_service_account_gets_a_token(google: Emulator) -> None:
    got = await mint(f"{google.url}/token")
    assert isinstance(got, Minted)
    assert got.token.reveal().startswith("ya29.")
    assert 3500 < got.lifetime_s <= 3600
    assert google.stats()["access_tokens"]["issued"] == {EMAIL: 1}


async def test_application_default_credentials_get_one(
    google: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "adc.json"
    file.write_text(service_account())
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(file))
    assert isinstance(await mint(f"{google.url}/token", '{"type": "adc"}'), Minted)


async def test_a_machine_without_default_credentials_pauses_the_account(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(**_: Any) -> None:
        raise DefaultCredentialsError("none here")

    monkeypatch.setattr("google.auth.default", none)
    kind, text = await kind_and_text("http://127.0.0.1:9/token", '{"type": "adc"}')
    assert kind == "restricted"
    assert "Application Default Credentials" in text


async def test_the_request_goes_through_the_proxy(google: Emulator) -> None:
    asked: list[str] = []

    def proxy_for(url: str) -> Secret:
        asked.append(url)
        return Secret(google.url)

    assert isinstance(await mint("http://tokens.invalid/token", proxy_for=proxy_for), Minted)
    assert asked == ["http://tokens.invalid/token"]


@pytest.mark.parametrize("name", ["HTTP_PROXY", "http_proxy"])
async def test_a_proxy_of_the_environment_alone_is_not_used(
    google: Emulator, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The settings decide, which also know NO_PROXY as this gateway reads it."""
    monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert isinstance(await mint(f"{google.url}/token"), Minted)


@pytest.mark.parametrize(
    ("credential", "reason"),
    [
        (service_account(key=1), "invalid_grant: Invalid JWT Signature."),
        (service_account("nobody@x.iam.gserviceaccount.com"), "invalid_grant: Invalid grant: account not found"),
        (service_account(DISABLED), "invalid_grant: Invalid grant: account not found"),
    ],
    ids=["another key", "unknown", "disabled"],
)
async def test_a_refused_account_is_out_with_googles_reason(google: Emulator, credential: str, reason: str) -> None:
    got = await mint(f"{google.url}/token", credential)
    assert isinstance(got, UpstreamFailure)
    assert (got.kind, got.remedy, got.reason) == ("key_invalid", "account_out", "invalid_grant")
    assert got.message.endswith(reason)


@pytest.mark.parametrize(
    "credential",
    [
        "",
        "[]",
        "{}",
        "AQ.an-api-key",
        '{"type": "authorized_user", "refresh_token": "1"}',
        '{"type": "service_account", "client_email": 5, "private_key": ""}',
        service_account(private_key="no key"),
        service_account(private_key=""),
        service_account(private_key=public_key()),
        service_account(private_key=private_key()[:400]),
    ],
)
async def test_a_credential_that_is_none_is_out_unsent(google: Emulator, credential: str) -> None:
    kind, text = await kind_and_text(f"{google.url}/token", credential or " ")
    assert kind == "key_invalid"
    assert "an-api-key" not in text
    assert google.stats()["access_tokens"] == {"issued": {}, "refused": {}}


async def test_the_machines_wrong_clock_does_not_disable_an_account() -> None:
    async with running(CONFIG, wall_clock=lambda: time.time() - 86_400) as google:
        kind, text = await kind_and_text(f"{google.url}/token")
    assert kind == "token"
    assert "clock" in text


async def test_an_endpoint_that_fails_is_transient(google: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("google.auth._exponential_backoff.time.sleep", lambda _: None)
    google.app.tokens.fail(3)
    assert await kind_and_text(f"{google.url}/token") == ("token", "Google's token endpoint failed.")
    google.app.tokens.fail(1)
    assert isinstance(await mint(f"{google.url}/token"), Minted)


async def test_an_endpoint_out_of_reach_is_transient() -> None:
    assert await kind_and_text("http://127.0.0.1:9/token") == ("token", "Google's token endpoint could not be reached.")


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (200, {}, "token"),
        (200, {"access_token": 5, "expires_in": 10}, "token"),
        (200, {"access_token": "a\r\nb", "expires_in": 10}, "token"),
        (200, {"access_token": "no expiry"}, "token"),
        (200, "text", "token"),
        (403, "a page", "token"),
        (400, [], "token"),
        (400, {"error": {"code": 400}}, "token"),
        (302, {}, "token"),
        (400, {"error": "access_denied", "error_description": "By policy."}, "restricted"),
        (401, {"error": "unauthorized_client"}, "key_invalid"),
    ],
)
async def test_odd_answers_are_failures(answering: Any, status: int, body: Any, kind: str) -> None:
    async def answer(request: Any) -> web.Response:
        text = body if isinstance(body, str) else json.dumps(body)
        return web.Response(status=status, text=text, headers={"Location": "http://127.0.0.1:9/"})

    assert (await kind_and_text(await answering(answer)))[0] == kind


async def test_an_echo_of_what_was_sent_is_not_shown(answering: Any) -> None:
    sent: list[str] = []

    async def answer(request: Any) -> web.Response:
        sent.append((await request.post())["assertion"])
        return web.json_response({"error": "invalid_grant", "error_description": f"Bad: {sent[0]}"}, status=400)

    kind, text = await kind_and_text(await answering(answer))
    assert kind == "key_invalid"
    assert not any(part in text for part in sent[0].split("."))
