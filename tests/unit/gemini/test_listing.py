"""Listing models as a test of a key, against the offline Gemini and against what is no Gemini."""

from __future__ import annotations

import pytest

from shared.emulator.running import running
from shared.gemini.errors import UpstreamFailure
from shared.gemini.listing import ModelLister
from shared.secret import Secret
from tests.support.fake_google import Answer, error, fake_google

KEY = Secret("a-key-without-a-shape")


async def failure_of(url: str, proxy: Secret | None = None) -> UpstreamFailure:
    lister = ModelLister(url, proxy)
    with pytest.raises(UpstreamFailure) as found:
        await lister.check(KEY)
    await lister.aclose()
    assert found.value.__cause__ is found.value.__context__ is None
    return found.value


async def test_an_accepted_key_returns() -> None:
    async with running() as emulator:
        lister = ModelLister(emulator.url)
        await lister.check(KEY)
        await lister.check(KEY)
        await lister.aclose()


async def test_a_rejected_key_is_out_and_not_repeated() -> None:
    rejected = error(400, f"API key not valid: {KEY.reveal()}.", "API_KEY_INVALID")
    with fake_google({KEY.reveal(): rejected}) as url:
        failure = await failure_of(url)
    assert (failure.kind, failure.remedy, failure.message) == ("key_invalid", "account_out", "API key not valid: ***.")


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (error(429, "Resource exhausted."), "pressure"),
        (error(403, "Generative Language API has not been used in project 5 before or it is disabled."), "restricted"),
        (Answer(503, b"<html>"), "overloaded"),
        (Answer(302, b""), "malformed"),
        (Answer(200, b"<html>a login page</html>"), "malformed"),
    ],
)
async def test_other_answers_say_nothing_of_the_key(answer: Answer, kind: str) -> None:
    with fake_google({KEY.reveal(): answer}) as url:
        failure = await failure_of(url)
    assert failure.remedy != "account_out"
    assert failure.kind == kind


async def test_an_unreachable_host_or_proxy_is_a_failed_connection() -> None:
    assert (await failure_of("http://127.0.0.1:1")).kind == "connect"
    proxied = await failure_of("http://gemini.invalid", Secret("http://user:planted@127.0.0.1:1"))
    assert proxied.kind == "connect" and "planted" not in str(proxied)
