"""How an account of each kind is tested: one call that costs nothing and shows whether Google accepts the credential."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from shared.accounts.testing import Candidate, Tester, Verdict
from shared.gemini.errors import UpstreamFailure
from shared.gemini.listing import ModelLister
from shared.gemini.oauth import Minted
from shared.secret import Secret


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


def verdict_of(failure: UpstreamFailure) -> Verdict:
    """A failure means for a test what it means for a request. A 429 or a broken connection says nothing of a key."""
    if failure.remedy == "account_out":
        return Verdict("rejected", failure.kind, failure.message)
    return Verdict("restricted" if failure.remedy == "account_paused" else "unknown", failure.kind, failure.message)
