"""What the outcome of a test's call says about an account."""

from __future__ import annotations

from typing import Any

import pytest

from shared.accounts.testing import Candidate, Verdict
from shared.emulator import Emulator, EmulatorConfig, running
from shared.gemini.errors import Kind, UpstreamFailure
from shared.gemini.oauth import Minted
from shared.generation import JsonObject
from shared.ops.account_testers import AccountTesters, token_tester, verdict_of
from shared.secret import Secret
from shared.settings.settings import Settings
from tests.support.enterprise_accounts import COOKIES, session_account


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


async def verdict_on(gemini: Emulator, *, allowed: str = "1", cookies: JsonObject = COOKIES, **place: str) -> Verdict:
    """The verdict on an account with a browser's cookies."""
    env = {"LEDGER_URL": "memory://", "ENTERPRISE_SESSION_BASE_URL": gemini.url, "ALLOW_SESSION_ACCOUNTS": allowed}
    account, testers = session_account(cookies=cookies, **place), AccountTesters(Settings.from_environment(env))
    try:
        return await testers.of["enterprise_session"](
            Candidate(account.id, account.kind, account.credential, account.place)
        )
    finally:
        await testers.aclose()


async def test_a_browser_session_is_tested_without_a_question() -> None:
    async with running(EmulatorConfig()) as gemini:
        assert await verdict_on(gemini) == Verdict("ok")
        assert gemini.stats()["by_method"] == {"getoxsrf": 1, "widgetCreateSession": 1}


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"cookies": {**COOKIES, "secure_c_ses": "expired-planted"}}, "its cookies have expired"),
        ({"cookies": {"secure_c_ses": "planted"}}, "it has no secure_c_ses and host_c_oses"),
        ({"team_id": "wrong-team"}, "its team_id is wrong, or its session has ended"),
    ],
)
async def test_a_browser_session_that_has_ended_is_rejected(wrong: dict[str, Any], words: str) -> None:
    async with running(EmulatorConfig()) as gemini:
        verdict = await verdict_on(gemini, **wrong)
    assert verdict.result == "rejected" and words in verdict.message and "planted" not in verdict.message


async def test_a_service_that_does_not_answer_rejects_no_session() -> None:
    async with running(EmulatorConfig()) as gemini:
        pass
    assert (await verdict_on(gemini)).result == "unknown"


async def test_session_accounts_that_are_off_are_not_tested() -> None:
    async with running(EmulatorConfig()) as gemini:
        verdict = await verdict_on(gemini, allowed="0")
        assert gemini.stats()["by_method"] == {}
    assert (verdict.result, verdict.kind) == ("unknown", "not_allowed")
    assert "Set ALLOW_SESSION_ACCOUNTS=1" in verdict.message
