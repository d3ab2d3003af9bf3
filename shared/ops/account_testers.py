"""How an account of each kind is tested: one call that costs nothing and shows whether Google accepts the credential."""

from __future__ import annotations

from shared.accounts.testing import Tested, Tester, Verdict
from shared.gemini.errors import UpstreamFailure
from shared.gemini.listing import ModelLister


def api_key_tester(lister: ModelLister) -> Tester:
    async def test(account: Tested) -> Verdict:
        try:
            await lister.check(account.secret)
        except UpstreamFailure as failure:
            return verdict_of(failure)
        return Verdict("ok")

    return test


def verdict_of(failure: UpstreamFailure) -> Verdict:
    """Only what needs a person's act is a rejection, as for a request. A 429 or a broken connection says nothing of a key."""
    rejected = failure.remedy == "account_out"
    return Verdict("rejected" if rejected else "unknown", failure.kind, failure.message)
