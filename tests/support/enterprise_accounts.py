"""Accounts of Gemini Enterprise, and a real gateway in front of the offline one."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from shared.accounts.account import Account, Kind
from shared.accounts.pool import Pool
from shared.bootstrap import Services
from shared.clock import elapsed_s
from shared.emulator import Emulator, EmulatorConfig, running
from shared.gateway.generator import Generator
from shared.generation import Caller, JsonObject, Timeline
from shared.ledger.limits import Limits
from shared.secret import Secret
from shared.settings.settings import Settings
from tests.support.service_accounts import EMAIL, public_key, service_account

PROJECT = "a-project"
COOKIES = {"secure_c_ses": "CSE.planted-secure-cookie", "host_c_oses": "COS.planted-host-cookie"}
PATIENCE_S = 30.0
_ENVIRONMENT = {
    "ADMIN_API_KEY": "an-admin-key-of-the-tests",
    "GEMINI_CANCELS": "1",
    "LEDGER_URL": "memory://",
    "LEDGER_WINDOW_SECONDS": "6",
    "ALLOW_SESSION_ACCOUNTS": "1",
}


def enterprise_account(name: str = "enterprise-1", **place: str) -> Account:
    where = {"project": PROJECT, "location": "global", "engine": "an-app", "assistant": "default_assistant"}
    return _account(name, "enterprise", service_account(), {**where, **place})


def session_account(name: str = "session-1", *, cookies: JsonObject = COOKIES, **place: str) -> Account:
    where = {"team_id": "team-7", "csesidx": "1234567", "user_agent": "Mozilla/5.0 (X11) planted-browser"}
    return _account(name, "enterprise_session", json.dumps(cookies), {**where, **place})


def key_account(name: str = "key-1") -> Account:
    return _account(name, "api_key", "AQ.planted-api-key-of-the-tests", {})


def _account(name: str, kind: Kind, credential: str, place: dict[str, str]) -> Account:
    limits = Limits(requests=1000, input_tokens=10_000_000)
    return Account(name, f"p-{name}", Secret(credential), 15, limits, kind=kind, place=place)


@dataclass
class Deployment:
    services: Services
    gemini: Emulator

    def generator(self, timeline: Timeline | None = None) -> Generator:
        caller = Caller("a-caller", "admin")
        return self.services.gateway.bind(caller, elapsed_s() + PATIENCE_S, "interactive", timeline or Timeline())

    async def texts(self, body: JsonObject, model: str = "gemini-3.8-flash") -> list[str]:
        """The texts of a streamed answer, frame by frame."""
        found: list[str] = []
        async with self.generator().stream(model, body) as reply:
            async for frame in reply:
                for part in frame["candidates"][0]["content"].get("parts", []):
                    found.append(part["text"])
        return found


@asynccontextmanager
async def deployment(
    accounts: Sequence[Account], *, config: EmulatorConfig | None = None, **environment: Any
) -> AsyncIterator[Deployment]:
    """A gateway with these accounts. `environment` has more variables."""
    config = config or EmulatorConfig(service_accounts={EMAIL: public_key()})
    async with running(config) as emulator:
        urls = {
            "GEMINI_BASE_URL": emulator.url,
            "OAUTH_TOKEN_URL": f"{emulator.url}/token",
            "ENTERPRISE_BASE_URL": emulator.url,
            "ENTERPRISE_SESSION_BASE_URL": emulator.url,
        }
        services = Services(Settings.from_environment({**_ENVIRONMENT, **urls, **environment}))
        pool = Pool(accounts, caller_limits=Limits(), caller_concurrency=15)
        services.pool = services.gateway.pool = pool
        try:
            yield Deployment(services, emulator)
        finally:
            await services.aclose()
