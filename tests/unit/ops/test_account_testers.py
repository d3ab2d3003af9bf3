"""What the outcome of a test's call says about an account."""

from __future__ import annotations

import pytest

from shared.accounts.testing import Candidate
from shared.gemini.errors import Kind, UpstreamFailure
from shared.gemini.oauth import Minted
from shared.ops.account_testers import token_tester, verdict_of
from shared.secret import Secret


@pytest.mark.parametrize(
    ("kind", "result"),
    [
        ("key_invalid", "rejected"),
        ("account", "rejected"),
        ("restricted", "restricted"),
        ("permission", "unknown"),
        ("quota", "unknown"),
        ("pressure", "unknown"),
        ("connect", "unknown"),
        ("token", "unknown"),
    ],
)
def test_only_what_a_person_has_to_repair_is_a_rejection(kind: Kind, result: str) -> None:
    verdict = verdict_of(UpstreamFailure(kind, "Google's words."))
    assert (verdict.result, verdict.kind, verdict.message) == (result, kind, "Google's words.")


async def test_a_service_account_is_tested_with_an_access_token() -> None:
    def mint(credential: Secret) -> Minted:
        if credential == Secret("{}"):
            raise UpstreamFailure("key_invalid", "invalid_grant")
        return Minted(Secret("planted-token"), 3600.0)

    test = token_tester(mint)
    accepted = await test(Candidate("a-1", "vertex", Secret('{"type":"adc"}'), {}))
    assert accepted.result == "ok" and "planted" not in repr(accepted)
    assert (await test(Candidate("a-1", "vertex", Secret("{}"), {}))).result == "rejected"
