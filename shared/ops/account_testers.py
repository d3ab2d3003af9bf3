"""How an account of each kind is tested: one call that costs nothing and shows whether Google accepts the credential."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from shared.accounts.account import Kind
from shared.accounts.testing import Candidate, Tester, Verdict
from shared.bounds.large_work import LargeWork
from shared.clock import elapsed_s
from shared.gemini.enterprise_format import Question
from shared.gemini.enterprise_session import EnterpriseSession
from shared.gemini.errors import UpstreamFailure
from shared.gemini.listing import TEST_TIMEOUT_S, ModelLister
from shared.gemini.minting import Mint
from shared.gemini.oauth import AccessTokens, Minted
from shared.gemini.session_token import SessionMint
from shared.gemini.side_requests import SideRequests
from shared.gemini.upstream import Exchange
from shared.secret import Secret
from shared.settings.accounts import WHY_NO_SESSION_ACCOUNTS
from shared.settings.settings import Settings


class AccountTesters:
    """The testers of all kinds. Bound to the event loop of the first test."""

    def __init__(self, settings: Settings) -> None:
        accounts, proxy_for = settings.accounts, settings.proxy_for
        self._lister = ModelLister(settings.base_url, proxy_for(settings.base_url))
        self._large_work = LargeWork()
        self._sessions = EnterpriseSession(
            AccessTokens(SessionMint(accounts.enterprise_session_base_url, proxy_for)),
            SideRequests(self._large_work, proxy_for),
            accounts.enterprise_session_base_url,
        )
        of_tokens = token_tester(Mint(accounts.oauth_token_url, proxy_for))
        self.of: Mapping[Kind, Tester] = {
            "api_key": api_key_tester(self._lister),
            "vertex": of_tokens,
            "enterprise": of_tokens,
            "enterprise_session": session_tester(self._sessions) if accounts.allow_session_accounts else _not_allowed,
        }

    async def aclose(self) -> None:
        await self._lister.aclose()
        await self._sessions.aclose()
        self._large_work.close()


def api_key_tester(lister: ModelLister) -> Tester:
    async def test(account: Candidate) -> Verdict:
        try:
            await lister.check(account.secret)
        except UpstreamFailure as failure:
            return verdict_of(failure)
        return Verdict("ok")

    return test


def token_tester(mint: Callable[[Secret], Minted]) -> Tester:
    """For the kinds with a service account: Google gives an access token for it, or says why not."""

    async def test(account: Candidate) -> Verdict:
        try:
            await asyncio.to_thread(mint, account.secret)
        except UpstreamFailure as failure:
            return verdict_of(failure)
        return Verdict("ok", message="Google gives an access token; what it may do was not tested.")

    return test


def session_tester(service: EnterpriseSession) -> Tester:
    """The account's cookies are exchanged for a token, and a session is opened, in which nothing is asked."""

    async def test(account: Candidate) -> Verdict:
        exchange = Exchange(account.secret, "", "", b"", TEST_TIMEOUT_S, place=account.place)
        try:
            await service.open(exchange, Question(""), elapsed_s() + TEST_TIMEOUT_S)
        except UpstreamFailure as failure:
            return verdict_of(failure)
        return Verdict("ok")

    return test


async def _not_allowed(account: Candidate) -> Verdict:
    return Verdict("unknown", "not_allowed", WHY_NO_SESSION_ACCOUNTS)


def verdict_of(failure: UpstreamFailure) -> Verdict:
    """A failure means for a test what it means for a request. A 429 or a broken connection says nothing of a key."""
    if failure.remedy == "account_out":
        return Verdict("rejected", failure.kind, failure.message)
    return Verdict("restricted" if failure.remedy == "account_paused" else "unknown", failure.kind, failure.message)
