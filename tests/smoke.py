"""`python -m tests.smoke https://gateway.example.com`: whether what was deployed does what it was deployed for.

Or, without a domain, `--urls FILE`: a JSON object of functions and addresses, as `terraform output -json function_urls`
prints it. With SMOKE_ADMIN_KEY (an admin key of the deployment) a few prompts are sent to Gemini, on its keys; without, what
needs one is skipped. Where only invokers may call, `--private` takes an ID token for each address from the machine's own
account, or SMOKE_ID_TOKEN has one; it travels in X-Serverless-Authorization.

GET /health is sent to every function, behind a load balancer by the header x-gateway-function, so that an account without a
right is found. What only Gemini is to blame for (an outage, a spent quota) is skipped, not failed: going back to an earlier
release would not change it. Status 1 if anything failed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import aiohttp

from shared.http.manifest import Manifest, load_all
from shared.settings.settings import DISTRIBUTION
from tests.support.routes import example_path

FUNCTIONS = Path(__file__).parents[1] / "functions"
AT_ONCE = 8
_TIMEOUT_S = 150.0
_READY_S = 180.0
_JWT = "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJzbW9rZSJ9.c2lnbmF0dXJl"
"""The form of a token that Google signs for the platform; as a bearer it must not be taken for a Gemini key."""
GEMINIS = frozenset(
    {
        "upstream_failed",
        "upstream_timeout",
        "rate_limited",
        "queue_timeout",
        "no_quota",
        "daily_quota_exhausted",
        "response_blocked",
        "empty_response",
    }
)
"""Codes of errors that say that Gemini failed, or that its quota is used up."""
GOOGLES_PROXIES = tuple(ip_network(one) for one in ("35.191.0.0/16", "130.211.0.0/22"))
"""Addresses that Google's load balancers connect from: none of them is a caller's."""
_FORGED = "192.0.2.66"
_LONG_PROMPT = "Count from one to two hundred in English words, separated by commas."


class Failed(Exception):
    """What is wrong, in a sentence."""


class Skipped(Exception):
    """Why a check does not apply here."""


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    """Names in lower case."""
    body: bytes
    pieces: int
    """How many times something arrived."""

    def json(self) -> dict[str, Any]:
        try:
            value = json.loads(self.body)
        except ValueError:
            raise Failed(f"HTTP {self.status} with {self.body[:200]!r}, which is not JSON") from None
        if not isinstance(value, dict):
            raise Failed(f"HTTP {self.status} with {self.body[:200]!r}, which is not an object")
        return value

    @property
    def error_code(self) -> str | None:
        """Of an error in the gateway's own format."""
        try:
            error = json.loads(self.body).get("error")
        except (ValueError, AttributeError):
            return None
        return error.get("code") if isinstance(error, dict) else None

    def generated(self) -> Answer:
        """Raises Skipped where Gemini failed, Failed where anything else did."""
        if self.error_code in GEMINIS:
            raise Skipped(f"Gemini did not answer ({self.error_code}, HTTP {self.status})")
        return self.must_be(200)

    def must_be(self, status: int, code: str | None = None) -> Answer:
        told = self.json().get("error") if code is not None else None
        if self.status != status or (code is not None and (not isinstance(told, dict) or told.get("code") != code)):
            wanted = f"{status} {code or ''}".strip()
            raise Failed(f"HTTP {self.status} with {self.body[:300]!r}, not {wanted}")
        return self


@dataclass(frozen=True)
class Site:
    """What was deployed, as callers see it."""

    session: aiohttp.ClientSession
    addresses: Mapping[str, str]
    """Function -> its base, without a slash at the end."""
    manifests: Sequence[Manifest]
    ledger: str
    admin_key: str | None
    tokens: Mapping[str, str] = field(default_factory=dict)
    """Address -> the platform's token."""
    edge_address: str | None = None
    """The load balancer's address."""

    async def ask(
        self, name: str, path: str, method: str = "GET", *, headers: Mapping[str, str] | None = None, **rest: Any
    ) -> Answer:
        base = self.addresses[name]
        given = dict(headers or {})
        if base in self.tokens:
            given["X-Serverless-Authorization"] = f"Bearer {self.tokens[base]}"
        pieces = []
        async with self.session.request(method, f"{base}{path}", headers=given, **rest) as response:
            async for piece in response.content.iter_any():
                pieces.append(piece)
            names = {key.lower(): value for key, value in response.headers.items()}
            return Answer(response.status, names, b"".join(pieces), len(pieces))

    async def health(self, name: str, headers: Mapping[str, str] | None = None) -> Answer:
        """GET /health of this very function."""
        return await self.ask(name, "/health", headers={"x-gateway-function": name, **(headers or {})})

    def of(self, path: str) -> str:
        """The function that has this path."""
        for manifest in self.manifests:
            if path in manifest.paths and manifest.name in self.addresses:
                return manifest.name
        raise Skipped(f"no function has {path}")

    @property
    def admin(self) -> dict[str, str]:
        if self.admin_key is None:
            raise Skipped("SMOKE_ADMIN_KEY is not set")
        return {"Admin-API-Key": self.admin_key}


async def every_function_is_healthy(site: Site) -> None:
    """Each reads the ledger with its own account. A new deployment may take a moment: rights spread, a container starts."""
    end_s = time.monotonic() + _READY_S
    for name in sorted(site.addresses):
        while True:
            try:
                health = (await site.health(name)).must_be(200).json()
                break
            except (Failed, aiohttp.ClientError) as error:
                if time.monotonic() > end_s:
                    raise Failed(f"{name}: {error}") from None
                await asyncio.sleep(2)
        ledger = health.get("ledger", {})
        if health.get("status") != "healthy" or not ledger.get("reachable"):
            raise Failed(f"{name} is {health.get('status')}: {ledger.get('reason')}")
        if ledger.get("kind") != site.ledger:
            raise Failed(f"{name} has a ledger of its own, {ledger.get('kind')}; all are to share one in {site.ledger}")
        if health.get("version") != version(DISTRIBUTION):
            raise Failed(f"{name} serves version {health.get('version')}, this checkout is {version(DISTRIBUTION)}")


async def health_tells_no_secret(site: Site) -> None:
    body = (await site.ask(site.of("/health"), "/health")).body.decode(errors="replace")
    keys = [site.admin_key] if site.admin_key else []
    if "AIza" in body or "AQ." in body or any(key in body for key in keys):
        raise Failed("GET /health shows a key")


async def callers_do_not_choose_their_address(site: Site) -> None:
    """Rates and shares count by address, so that it must be the caller's own, whatever X-Forwarded-For the caller sends."""
    name, seen = site.of("/chat"), []
    for forged in ({}, {"X-Forwarded-For": _FORGED}, {"X-Forwarded-For": f"{_FORGED}, {_FORGED}"}):
        health = (await site.health(name, {**site.admin, **forged})).must_be(200).json()
        if "client_address" not in health:
            raise Failed(f"GET /health of {name} shows no client_address: SMOKE_ADMIN_KEY is not its admin key")
        seen.append(health["client_address"])
    if len(set(seen)) != 1:
        raise Failed(f"the address depends on X-Forwarded-For, {seen}: lower CLIENT_ADDRESS_FROM_END")
    if seen[0] == site.edge_address or any(ip_address(seen[0]) in proxies for proxies in GOOGLES_PROXIES):
        raise Failed(f"{seen[0]} is the load balancer's address, not the caller's: raise CLIENT_ADDRESS_FROM_END")


async def nobody_is_served_without_a_credential(site: Site) -> None:
    for manifest, path, method in _routes(site, "credential"):
        answer = await site.ask(manifest.name, path, method, json={"prompt": "x"} if method != "GET" else None)
        answer.must_be(401)
        if "x-request-id" not in answer.headers:
            raise Failed(f"{method} {path}: no x-request-id")


async def a_wrong_key_is_refused(site: Site) -> None:
    for headers in ({"Admin-API-Key": "not-the-key"}, {"Authorization": f"Bearer {_JWT}"}):
        answer = await site.ask(site.of("/chat"), "/chat", "POST", json={"prompt": "x"}, headers=headers)
        answer.must_be(401, "unauthorized")


async def browsers_may_ask(site: Site) -> None:
    asked = {"Origin": "https://smoke.example", "Access-Control-Request-Method": "POST"}
    answer = await site.ask(site.of("/chat"), "/chat", "OPTIONS", headers=asked)
    if answer.status not in (200, 204) or "access-control-allow-methods" not in answer.headers:
        raise Failed(f"OPTIONS /chat: HTTP {answer.status} without access-control-allow-methods")


async def what_is_not_there_is_told_in_our_format(site: Site) -> None:
    name = site.of("/chat")
    (await site.ask(name, "/nowhere")).must_be(404, "not_found")
    wrong = (await site.ask(name, "/chat", "PUT")).must_be(405, "method_not_allowed")
    if "POST" not in wrong.headers.get("allow", ""):
        raise Failed("PUT /chat: no Allow")
    text = await site.ask(
        name, "/chat", "POST", data=b"x", headers={"Content-Type": "text/plain", "Admin-API-Key": "x"}
    )
    if text.status not in (401, 415):
        raise Failed(f"text/plain: HTTP {text.status}")


async def a_prompt_is_answered(site: Site) -> None:
    answer = await site.ask(
        site.of("/chat"), "/chat", "POST", json={"prompt": "Reply with the word: pong"}, headers=site.admin
    )
    body = answer.generated().json()
    if not body.get("text") or not body.get("usage", {}).get("total_tokens"):
        raise Failed(f"no text or no usage: {body}")
    missing = [name for name in ("x-request-id", "server-timing", "x-model-used") if name not in answer.headers]
    if missing:
        raise Failed(f"no {', '.join(missing)}")


async def a_stream_is_not_held_back(site: Site) -> None:
    answer = await site.ask(
        site.of("/chat"), "/chat", "POST", json={"prompt": _LONG_PROMPT, "stream": True}, headers=site.admin
    )
    answer.generated()
    events = [line for line in answer.body.splitlines() if line.startswith(b"data: ")]
    failed = [code for code in GEMINIS if f'"code":"{code}"'.encode() in answer.body]
    if failed:
        raise Skipped(f"Gemini ended the stream ({failed[0]})")
    if not answer.headers.get("content-type", "").startswith("text/event-stream") or b'"done":true' not in answer.body:
        raise Failed(f"no whole stream: {answer.body[-200:]!r}")
    if len(events) > 2 and answer.pieces < 2:
        raise Failed(f"{len(events)} events arrived at once: something on the way holds them back")


async def many_at_once_share_the_limits(site: Site) -> None:
    """Answers or a 429 that says when to come again; never anything else."""
    body = {"prompt": "Reply with the word: pong"}
    name, admin = site.of("/chat"), site.admin
    answers = await asyncio.gather(*(site.ask(name, "/chat", "POST", json=body, headers=admin) for _ in range(AT_ONCE)))
    for answer in answers:
        if answer.status == 429 and "retry-after" in answer.headers:
            continue
        answer.generated()


async def what_is_too_large_is_refused(site: Site) -> None:
    """The platform itself stops at 32 MiB, and may cut the connection."""
    try:
        answer = await site.ask(
            site.of("/chat"),
            "/chat",
            "POST",
            data=b" " * (33 * 1024 * 1024),
            headers={**site.admin, "Content-Type": "application/json"},
        )
    except aiohttp.ClientError:
        return
    if answer.status != 413:
        raise Failed(f"33 MiB: HTTP {answer.status}, not 413")


async def plain_http_is_sent_on(site: Site) -> None:
    addresses = set(site.addresses.values())
    if len(addresses) != 1 or not all(address.startswith("https://") for address in addresses):
        raise Skipped("there is no load balancer")
    plain = addresses.pop().replace("https://", "http://", 1)
    async with site.session.get(f"{plain}/health", allow_redirects=False) as response:
        if response.status not in (301, 308) or not response.headers.get("Location", "").startswith("https://"):
            raise Failed(f"{plain}: HTTP {response.status}, not a redirect to https")


CHECKS: Sequence[Callable[[Site], Awaitable[None]]] = (
    every_function_is_healthy,
    health_tells_no_secret,
    callers_do_not_choose_their_address,
    nobody_is_served_without_a_credential,
    a_wrong_key_is_refused,
    browsers_may_ask,
    what_is_not_there_is_told_in_our_format,
    a_prompt_is_answered,
    a_stream_is_not_held_back,
    many_at_once_share_the_limits,
    what_is_too_large_is_refused,
    plain_http_is_sent_on,
)


def _routes(site: Site, access: str) -> list[tuple[Manifest, str, str]]:
    return [
        (manifest, example_path(pattern, "smoke"), method)
        for manifest in site.manifests
        if manifest.access == access and manifest.name in site.addresses
        for pattern, methods in manifest.paths.items()
        for method in methods
    ]


async def check(site: Site) -> list[str]:
    """Prints a line for each; the names of those that failed. If nothing is healthy, the rest is not asked."""
    failed = []
    for one in CHECKS:
        name = one.__name__.replace("_", " ")
        try:
            await one(site)
        except Skipped as why:
            print(f"skipped  {name}: {why}")
        except (Failed, aiohttp.ClientError, TimeoutError) as error:
            print(f"FAILED   {name}: {error or type(error).__name__}")
            failed.append(name)
            if one is every_function_is_healthy:
                break
        else:
            print(f"ok       {name}")
    return failed


def own_tokens(addresses: Mapping[str, str]) -> dict[str, str]:
    """An ID token of this machine's account for each address; blocking."""
    from google.auth.transport.requests import Request
    from google.oauth2.id_token import fetch_id_token

    return {address: fetch_id_token(Request(), address) for address in set(addresses.values())}


async def run(arguments: argparse.Namespace, env: Mapping[str, str]) -> int:
    manifests = load_all(FUNCTIONS)
    if arguments.urls is not None:
        given: dict[str, str] = json.loads(arguments.urls.read_text())
    else:
        given = {manifest.name: arguments.url for manifest in manifests}
    addresses = {name: url.rstrip("/") for name, url in given.items()}
    tokens = dict.fromkeys(addresses.values(), env["SMOKE_ID_TOKEN"]) if env.get("SMOKE_ID_TOKEN") else {}
    if arguments.private and not tokens:
        tokens = await asyncio.to_thread(own_tokens, addresses)
    # The variable may have two keys, while one follows the other.
    admin_key = env.get("SMOKE_ADMIN_KEY", "").split(",")[0].strip() or None
    # `terraform output -json edge_address` prints null without a domain.
    edge_address = arguments.edge_address if arguments.edge_address not in ("", "null") else None
    timeout = aiohttp.ClientTimeout(total=_TIMEOUT_S)
    async with aiohttp.ClientSession(timeout=timeout) as session:
        failed = await check(Site(session, addresses, manifests, arguments.ledger, admin_key, tokens, edge_address))
    print(f"{len(failed)} failed." if failed else "Nothing failed.")
    return 1 if failed else 0


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.smoke", description=(__doc__ or "").partition("\n")[0])
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("url", nargs="?", help="one address for all functions")
    where.add_argument("--urls", type=Path, metavar="FILE", help="a JSON object: function -> address")
    parser.add_argument("--private", action="store_true", help="send an ID token of this machine's account")
    parser.add_argument(
        "--edge-address", metavar="IP", help="the load balancer's address, as `terraform output` prints it"
    )
    parser.add_argument("--ledger", default="firestore", help="the kind of ledger that is expected (firestore)")
    return asyncio.run(run(parser.parse_args(arguments), os.environ))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
