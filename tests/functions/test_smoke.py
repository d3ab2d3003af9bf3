"""The smoke test of a deployment, against the local server, and against servers that are wrong in one way each."""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import ClientSession, web

from shared.http.manifest import load_all
from tests import smoke
from tests.support.processes import ADMIN_KEY, ROOT, Running, served, started

Handler = Callable[[web.Request, web.Response], Awaitable[web.Response]]


@asynccontextmanager
async def smoked(*arguments: str, **env: str) -> AsyncIterator[Running]:
    async with started([sys.executable, "-m", "tests.smoke", *arguments], env) as running:
        yield running


@asynccontextmanager
async def spoiled(url: str, spoil: Handler) -> AsyncIterator[str]:
    """A proxy before the server at `url` that does what `spoil` makes of its answers."""

    async def passed_on(request: web.Request) -> web.Response:
        headers = {name: value for name, value in request.headers.items() if name != "Host"}
        async with (
            ClientSession() as session,
            session.request(
                request.method, url + request.path_qs, headers=headers, data=await request.read()
            ) as answer,
        ):
            kept = {
                name: value
                for name, value in answer.headers.items()
                if name not in ("Content-Length", "Transfer-Encoding")
            }
            return await spoil(request, web.Response(status=answer.status, headers=kept, body=await answer.read()))

    app = web.Application(client_max_size=2**26)
    app.router.add_route("*", "/{path:.*}", passed_on)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def test_good_server_passes_with_one_or_many_urls(tmp_path: Path) -> None:
    async with served({"EMULATOR_CHUNK_DELAY_MS": "30"}) as server:
        async with smoked(server.url, "--ledger", "memory", SMOKE_ADMIN_KEY=f"{ADMIN_KEY},another") as run:
            assert await run.ended() == 0, run.output
            assert "ok       a prompt is answered" in run.output
            assert "ok       a stream is not held back" in run.output
            assert ADMIN_KEY not in run.output
        file = tmp_path / "urls.json"
        file.write_text(json.dumps({manifest.name: server.url for manifest in load_all(ROOT / "functions")}))
        async with smoked("--urls", str(file), "--ledger", "memory") as run:
            assert await run.ended() == 0, run.output
            assert "skipped  a prompt is answered: SMOKE_ADMIN_KEY is not set" in run.output


async def test_instances_that_do_not_share_a_ledger_are_found() -> None:
    async with served({}) as server, smoked(server.url) as run:
        assert await run.ended() == 1
        assert "has a ledger of its own, memory; all are to share one in firestore" in run.output


async def open_to_all(request: web.Request, answer: web.Response) -> web.Response:
    return web.json_response({"text": "Hi"}) if answer.status == 401 else answer


async def key_shown(request: web.Request, answer: web.Response) -> web.Response:
    if request.path == "/health":
        return web.json_response({**json.loads(answer.body or b"{}"), "key": ADMIN_KEY})
    return answer


async def another_version(request: web.Request, answer: web.Response) -> web.Response:
    if request.path == "/health":
        return web.json_response({**json.loads(answer.body or b"{}"), "version": "0.0.0"})
    return answer


async def always_busy(request: web.Request, answer: web.Response) -> web.Response:
    return web.json_response({}, status=503) if request.method == "POST" and answer.status == 200 else answer


def with_address(address: str | None) -> Handler:
    """A server that takes this as every caller's address, or the first of X-Forwarded-For."""

    async def spoil(request: web.Request, answer: web.Response) -> web.Response:
        if request.path != "/health" or "Admin-API-Key" not in request.headers:
            return answer
        seen = address or request.headers.get("X-Forwarded-For", "198.51.100.2").split(",")[0]
        return web.json_response({**json.loads(answer.body or b"{}"), "client_address": seen})

    return spoil


async def without_cors(request: web.Request, answer: web.Response) -> web.Response:
    return web.Response(status=404) if request.method == "OPTIONS" else answer


async def a_page_for_what_is_not_there(request: web.Request, answer: web.Response) -> web.Response:
    return web.Response(status=404, text="<html>Not found</html>") if answer.status == 404 else answer


async def unchanged(request: web.Request, answer: web.Response) -> web.Response:
    return answer


@pytest.mark.parametrize(
    ("spoil", "failed"),
    [
        (open_to_all, "nobody is served without a credential"),
        (key_shown, "health tells no secret"),
        (another_version, "every function is healthy"),
        (with_address(None), "callers do not choose their address"),
        (with_address("35.191.4.7"), "callers do not choose their address"),
        (with_address("203.0.113.10"), "callers do not choose their address"),
        (always_busy, "a prompt is answered"),
        (without_cors, "browsers may ask"),
        (a_page_for_what_is_not_there, "what is not there is told in our format"),
        (unchanged, "a stream is not held back"),
    ],
)
async def test_a_server_that_is_wrong_does_not_pass(
    spoil: Handler, failed: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The proxy reads a whole answer before it passes it on, which is what nothing before a stream may do."""
    async with served({}) as server, spoiled(server.url, spoil) as url, ClientSession() as session:
        manifests = load_all(ROOT / "functions")
        addresses: Mapping[str, str] = {manifest.name: url for manifest in manifests}
        found = await smoke.check(smoke.Site(session, addresses, manifests, "memory", ADMIN_KEY, {}, "203.0.113.10"))
    assert failed in found, capsys.readouterr().out


@pytest.mark.parametrize(
    ("status", "code"),
    [(502, "upstream_failed"), (429, "rate_limited"), (503, "no_quota"), (429, "daily_quota_exhausted")],
)
async def test_gemini_outage_does_not_fail_a_release(
    status: int, code: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Going back to an earlier release would not mend Gemini, or give a spent day back."""

    async def without_gemini(request: web.Request, answer: web.Response) -> web.Response:
        if request.method != "POST" or answer.status != 200:
            return answer
        return web.json_response(
            {"error": {"code": code, "message": "Gemini failed.", "status": status}}, status=status
        )

    async with served({}) as server, spoiled(server.url, without_gemini) as url, ClientSession() as session:
        manifests = load_all(ROOT / "functions")
        addresses: Mapping[str, str] = {manifest.name: url for manifest in manifests}
        found = await smoke.check(smoke.Site(session, addresses, manifests, "memory", ADMIN_KEY))
    assert found == []
    printed = capsys.readouterr().out
    assert f"skipped  a prompt is answered: Gemini did not answer ({code}, HTTP {status})" in printed
    assert "skipped  a stream is not held back: Gemini did not answer" in printed


async def test_health_is_sent_to_every_function_by_name() -> None:
    """Behind a load balancer /health is one function's; the header chooses another."""
    seen: list[str] = []

    async def noted(request: web.Request, answer: web.Response) -> web.Response:
        seen.append(request.headers["x-gateway-function"])
        return answer

    async with served({}) as server, spoiled(server.url, noted) as url, ClientSession() as session:
        manifests = load_all(ROOT / "functions")
        addresses = {manifest.name: url for manifest in manifests}
        await smoke.every_function_is_healthy(smoke.Site(session, addresses, manifests, "memory", None))
    assert seen == sorted(addresses)


async def test_an_id_token_travels_beside_the_gateways_own_credential() -> None:
    seen: list[Mapping[str, str]] = []

    async def noted(request: web.Request, answer: web.Response) -> web.Response:
        seen.append(request.headers)
        return answer

    async with served({}) as server, spoiled(server.url, noted) as url, ClientSession() as session:
        manifests = load_all(ROOT / "functions")
        site = smoke.Site(session, {"chat": url}, manifests, "memory", ADMIN_KEY, {url: "an-id-token"})
        await smoke.a_prompt_is_answered(site)
    (headers,) = seen
    assert headers["X-Serverless-Authorization"] == "Bearer an-id-token"
    assert headers["Admin-API-Key"] == ADMIN_KEY
    assert "Authorization" not in headers
