"""Vertex AI in the offline Gemini: its token endpoint and its paths."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from google.auth import crypt, jwt

from shared.emulator import EmulatorConfig, running
from shared.emulator.config import ConfigError, Limits, Project
from shared.emulator.oauth import AUDIENCE, GRANT, SCOPE
from tests.support.service_accounts import DISABLED, EMAIL, private_key, public_key

from .conftest import MODEL, Asker

USER = [{"role": "user", "parts": [{"text": "Hello"}]}]
CONFIG = EmulatorConfig(
    # A file's private key is as good as the public one.
    service_accounts={EMAIL: public_key(), DISABLED: private_key()},
    projects={"vertex/small": Project(limits=Limits(rpm=1))},
)


@pytest.fixture
async def ask(session: Any) -> AsyncIterator[Asker]:
    async with running(CONFIG) as emulator:
        yield Asker(emulator, session)


def assertion(key: int = 0, **claims: Any) -> str:
    now_s = int(time.time())
    known = {"iss": EMAIL, "aud": AUDIENCE, "scope": SCOPE, "iat": now_s, "exp": now_s + 3600}
    signed: bytes = jwt.encode(crypt.RSASigner.from_string(private_key(key)), {**known, **claims})  # type: ignore[no-untyped-call]
    return signed.decode()


async def token(ask: Asker, signed: str, grant: str = GRANT) -> dict[str, Any]:
    form = {"grant_type": grant, "assertion": signed}
    async with ask.session.post(f"{ask.emulator.url}/token", data=form) as response:
        body: dict[str, Any] = await response.json()
        return {"status": response.status, **body}


async def generate(
    ask: Asker,
    bearer: str | None,
    *,
    verb: str = "generateContent",
    project: str = "a-project",
    model: str = MODEL,
    **body: Any,
) -> tuple[int, dict[str, Any]]:
    url = f"{ask.emulator.url}/v1/projects/{project}/locations/global/publishers/google/models/{model}:{verb}"
    headers = {} if bearer is None else {"Authorization": f"Bearer {bearer}"}
    async with ask.session.post(url, headers=headers, json={"contents": USER, **body}) as response:
        return response.status, await response.json(content_type=None)


async def signed_in(ask: Asker) -> str:
    return str((await token(ask, assertion()))["access_token"])


class TestTokens:
    async def test_a_signed_jwt_gets_a_token_and_is_counted(self, ask: Asker) -> None:
        got = await token(ask, assertion())
        assert (got["status"], got["token_type"], got["expires_in"]) == (200, "Bearer", 3600)
        assert ask.emulator.stats()["access_tokens"] == {"issued": {EMAIL: 1}, "refused": {}}
        ask.emulator.reset()
        assert ask.emulator.stats()["access_tokens"]["issued"] == {}

    @pytest.mark.parametrize(
        ("signed", "error", "text"),
        [
            (lambda: assertion(key=1), "invalid_grant", "Invalid JWT Signature."),
            (lambda: assertion(iss="nobody@x.iam.gserviceaccount.com"), "invalid_grant", "account not found"),
            (lambda: assertion(iss=DISABLED), "invalid_grant", "account not found"),
            (lambda: assertion(exp=int(time.time()) + 7200), "invalid_grant", "reasonable timeframe"),
            (lambda: assertion(iat=int(time.time()) + 1200), "invalid_grant", "reasonable timeframe"),
            (lambda: assertion(aud="https://else.example"), "invalid_scope", "audience"),
            (lambda: assertion(scope="openid"), "invalid_scope", "scope"),
            (lambda: "a.b", "invalid_grant", "Bad Request"),
        ],
    )
    async def test_other_jwts_are_rejected(self, ask: Asker, signed: Any, error: str, text: str) -> None:
        got = await token(ask, signed())
        assert (got["status"], got["error"]) == (400, error)
        assert text in got["error_description"]
        assert ask.emulator.stats()["access_tokens"]["refused"] == {error: 1}

    async def test_another_grant_is_rejected(self, ask: Asker) -> None:
        assert (await token(ask, assertion(), grant="refresh_token"))["error"] == "unsupported_grant_type"

    async def test_ordered_failures_come_first(self, ask: Asker) -> None:
        ask.emulator.app.tokens.fail(1)
        assert [(await token(ask, assertion()))["status"] for _ in range(2)] == [503, 200]

    async def test_a_token_expires(self, session: Any) -> None:
        async with running(EmulatorConfig(service_accounts={EMAIL: public_key()}, token_lifetime_s=0.0)) as emulator:
            ask = Asker(emulator, session)
            status, body = await generate(ask, await signed_in(ask))
            assert (status, body["error"]["status"]) == (401, "UNAUTHENTICATED")
            assert body["error"]["details"][0]["reason"] == "ACCESS_TOKEN_EXPIRED"

    async def test_a_revoked_token_is_rejected(self, ask: Asker) -> None:
        bearer = await signed_in(ask)
        ask.emulator.app.tokens.revoke()
        assert (await generate(ask, bearer))[0] == 401

    def test_a_key_that_is_no_rsa_key_is_a_config_error(self) -> None:
        with pytest.raises(ConfigError, match="RSA key in PEM"):
            running_app(EmulatorConfig(service_accounts={EMAIL: "no key"}))


def running_app(config: EmulatorConfig) -> Any:
    from shared.emulator.app import create_app

    return create_app(config)


class TestGenerating:
    async def test_an_answer_names_its_traffic(self, ask: Asker) -> None:
        status, body = await generate(ask, await signed_in(ask))
        assert status == 200
        assert body["usageMetadata"]["trafficType"] == "ON_DEMAND"
        assert body["usageMetadata"]["promptTokenCount"] > 0
        assert list(ask.emulator.stats()["projects"]) == ["vertex/a-project"]

    async def test_only_the_last_frame_of_a_stream_has_counts(self, ask: Asker) -> None:
        _, frames = await generate(ask, await signed_in(ask), verb="streamGenerateContent")
        counted: Any = ["promptTokenCount" in frame["usageMetadata"] for frame in frames]
        assert len(counted) > 1
        assert counted == [False] * (len(counted) - 1) + [True]

    async def test_count_tokens_takes_the_fields_of_a_request(self, ask: Asker) -> None:
        bearer = await signed_in(ask)
        _, plain = await generate(ask, bearer, verb="countTokens")
        more = {"systemInstruction": {"parts": [{"text": "Be brief. " * 20}]}, "generationConfig": {}}
        _, counted = await generate(ask, bearer, verb="countTokens", **more)
        assert counted["totalTokens"] > plain["totalTokens"] > 0
        status, _ = await generate(ask, bearer, verb="countTokens", generateContentRequest={})
        assert status == 400

    @pytest.mark.parametrize("bearer", [None, "AIza-a-key"])
    async def test_without_a_token_nothing_is_answered(self, ask: Asker, bearer: str | None) -> None:
        status, body = await generate(ask, bearer)
        reason = body["error"]["details"][0]
        expected = "CREDENTIALS_MISSING" if bearer is None else "ACCESS_TOKEN_TYPE_UNSUPPORTED"
        assert (status, reason["reason"], reason["metadata"]["service"]) == (401, expected, "aiplatform.googleapis.com")

    @pytest.mark.parametrize(
        ("body", "words"),
        [
            ({"contents": [{"parts": [{"text": "Hi"}]}]}, "valid role"),
            ({"store": True}, 'Unknown name "store"'),
            ({"generationConfig": {"enableEnhancedCivicAnswers": True}}, "enableEnhancedCivicAnswers"),
            ({"tools": [{"fileSearch": {}}]}, "fileSearch"),
        ],
    )
    async def test_what_vertex_does_not_know_is_rejected(self, ask: Asker, body: Any, words: str) -> None:
        status, answer = await generate(ask, await signed_in(ask), **body)
        assert status == 400
        assert words in answer["error"]["message"]

    async def test_an_unknown_model_is_named_as_vertex_names_it(self, ask: Asker) -> None:
        status, body = await generate(ask, await signed_in(ask), model="gemini-1.5-pro-latest")
        assert status == 404
        assert body["error"]["message"].startswith("Publisher Model `projects/a-project/locations/global/publishers/")

    async def test_a_used_up_quota_is_a_bare_429(self, ask: Asker) -> None:
        bearer = await signed_in(ask)
        answers = [await generate(ask, bearer, project="small") for _ in range(2)]
        assert [status for status, _ in answers] == [200, 429]
        assert answers[1][1]["error"]["message"].startswith("Resource exhausted. Please try again later.")
        assert "details" not in answers[1][1]["error"]

    async def test_the_gemini_api_has_quotas_of_its_own(self, ask: Asker) -> None:
        bearer = await signed_in(ask)
        assert (await generate(ask, bearer, project="small"))[0] == 200
        assert await ask.status(key="small") == 200
