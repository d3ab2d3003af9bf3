"""Accounts of Gemini Enterprise, and the whole path with them."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from shared.accounts.account import Account, Kind
from shared.clock import elapsed_s
from shared.gateway.generator import Generator
from shared.generation import Caller, JsonObject, Timeline
from shared.ledger.limits import Limits
from shared.secret import Secret
from tests.support.service_accounts import PROJECT, service_account
from tests.support.whole_path import MODEL, SERVER_KEY, WholePath, whole_path

COOKIES = {"secure_c_ses": "CSE.planted-secure-cookie", "host_c_oses": "COS.planted-host-cookie"}
PATIENCE_S = 50.0


def enterprise_account(name: str = "enterprise-1", **place: str) -> Account:
    where = {"project": PROJECT, "location": "global", "engine": "an-app", "assistant": "default_assistant", **place}
    return _account(name, "enterprise", f"enterprise-{where['project']}", service_account(), where)


def session_account(name: str = "session-1", *, cookies: JsonObject = COOKIES, **place: str) -> Account:
    where = {"team_id": "team-7", "csesidx": "1234567", "user_agent": "Mozilla/5.0 (X11) planted-browser", **place}
    return _account(name, "enterprise_session", f"session-{where['csesidx']}", json.dumps(cookies), where)


def _account(name: str, kind: Kind, ledger_id: str, credential: str, place: dict[str, str]) -> Account:
    limits = Limits(requests=1000, input_tokens=10_000_000)
    return Account(name, ledger_id, Secret(credential), 15, limits, kind=kind, place=place)


class EnterprisePath:
    """A gateway with accounts of Gemini Enterprise, asked as use cases ask it."""

    def __init__(self, path: WholePath) -> None:
        self.path, self.services, self.gemini = path, path.services, path.gemini

    def generator(self) -> Generator:
        caller, deadline_s = Caller("a-caller", "admin"), elapsed_s() + PATIENCE_S
        return self.services.gateway.bind(caller, deadline_s, "interactive", Timeline())

    async def texts(self, body: JsonObject, model: str = MODEL) -> list[str]:
        """The texts of a streamed answer, part by part."""
        async with self.generator().stream(model, body) as reply:
            frames = [frame async for frame in reply]
        return [part["text"] for frame in frames for part in frame["candidates"][0]["content"].get("parts", [])]


@asynccontextmanager
async def enterprise_path(
    *accounts: Account, with_key: bool = False, **environment: Any
) -> AsyncIterator[EnterprisePath]:
    """`with_key`: it has a key of the Gemini API too. `environment` has more variables."""
    environment = {
        "REQUEST_TIMEOUT_SECONDS": PATIENCE_S,
        "QUEUE_TIMEOUT_SECONDS": PATIENCE_S,
        "ALLOW_SESSION_ACCOUNTS": "1",
        **environment,
    }
    keys = {SERVER_KEY: "server"} if with_key else {}
    async with whole_path(accounts=keys, others=accounts, **environment) as path:
        yield EnterprisePath(path)
