"""Accounts of Vertex AI on the whole path: the same answers, and access tokens that nobody has to think of."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import orjson
import pytest

from shared.accounts.account import Account
from shared.clock import elapsed_s
from shared.emulator.config import Limits, Project
from shared.gemini.minting import Mint
from shared.gemini.oauth import MIN_AGE_S, MIN_EARLY_S, AccessTokens
from shared.ledger.limits import Limits as LedgerLimits
from tests.support.service_accounts import DISABLED, EMAIL, PROJECT, vertex_account
from tests.support.whole_path import MODEL, SERVER_KEY, WAYS, WholePath, text_of, told, whole_path

LEDGER = f"vertex-{PROJECT}"
ON_VERTEX = f"vertex/{PROJECT}"
HOUR_S = 3600.0
NOWHERE = "http://127.0.0.1:9"

ways = pytest.mark.parametrize("way", WAYS)


class VertexPath:
    """A gateway with accounts on Vertex. `passed_s` is added to the time of its access tokens."""

    def __init__(self, path: WholePath) -> None:
        self.path = path
        self.passed_s = 0.0
        settings = path.services.settings
        mint = Mint(settings.accounts.oauth_token_url, settings.proxy_for)
        path.services.access_tokens = AccessTokens(
            mint, elapsed=lambda: elapsed_s() + self.passed_s, jitter=lambda: 0.0
        )

    @property
    def issued(self) -> int:
        return sum(self.path.gemini.stats()["access_tokens"]["issued"].values())

    @property
    def answered(self) -> dict[str, int]:
        found: dict[str, int] = self.path.gemini.stats()["answered"]
        return found

    def revoke(self) -> None:
        self.path.gemini.app.tokens.revoke()

    async def ask_many(self, count: int) -> None:
        """In half of the cases as a stream. None may fail."""
        asked = (self.path.ask(f"Hello {n}", way=("chat", "stream")[n % 2]) for n in range(count))
        for answer in await asyncio.gather(*asked):
            assert "Hello" in text_of(answer)

    async def out(self) -> dict[str, str]:
        answer = await self.path.send("GET", "/health")
        found: dict[str, str] = answer.json()["accounts"]["out"]
        return found


@asynccontextmanager
async def vertex_path(*others: Account, keys: dict[str, str] | None = None, **more: Any) -> AsyncIterator[VertexPath]:
    """Without `keys` of the Gemini API."""
    more = {"REQUEST_TIMEOUT_SECONDS": 50, "QUEUE_TIMEOUT_SECONDS": 50, **more}
    async with whole_path(accounts=keys or {}, others=others or [vertex_account()], **more) as path:
        yield VertexPath(path)


class TestAnswers:
    @ways
    async def test_a_prompt_is_answered(self, way: str) -> None:
        async with vertex_path() as vertex:
            assert "Hello" in text_of(await vertex.path.ask(way=way))
            assert list(vertex.path.gemini.stats()["projects"]) == [ON_VERTEX]
            assert await vertex.path.dispatched(LEDGER) == 1

    async def test_usage_is_what_vertex_counted(self) -> None:
        """In a stream only the last frame has counts."""
        async with vertex_path() as vertex:
            whole = (await vertex.path.ask()).json()["usage"]
            _, done = (await vertex.path.ask(way="stream")).events()[-1]
            assert whole["prompt_tokens"] > 0
            assert done["usage"] == whole
            section = (await vertex.path.ledgers())[LEDGER].sections[MODEL]
            assert section.debt_tokens == 0

    async def test_contents_without_roles_are_taken(self) -> None:
        body = orjson.dumps({"contents": [{"parts": [{"text": "Hello"}]}]})
        async with vertex_path() as vertex:
            assert (await vertex.path.send("POST", "/chat", body)).status == 200

    async def test_large_prompts_are_counted_by_vertex(self) -> None:
        tpm = 40_000
        account = vertex_account(limits=LedgerLimits(input_tokens=tpm))
        async with vertex_path(account, upstream=Project(limits=Limits(tpm=tpm))) as vertex:
            text_of(await vertex.path.ask("the quick brown fox jumps over the lazy dog " * 2_000))
            assert vertex.path.gemini.stats()["by_method"] == {"countTokens": 1, "generateContent": 1}
            assert vertex.issued == 1

    async def test_shared_pressure_is_retried(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("shared.gateway.retry.PRESSURE_DELAY_S", 0.05)
        async with vertex_path() as vertex:
            vertex.path.gemini.inject("429-bare")
            text_of(await vertex.path.ask(timeout_s=20))
            assert vertex.answered == {"429": 1, "200": 1}
            assert await vertex.out() == {}

    async def test_a_model_that_vertex_does_not_have_is_remembered(self) -> None:
        async with vertex_path() as vertex:
            answers = [await vertex.path.ask(model="gemini-9-none") for _ in range(2)]
            assert [told(answer) for answer in answers] == [(404, "model_not_found")] * 2
            assert PROJECT not in answers[0].error["message"]
            assert vertex.path.sent == 1

    async def test_a_place_that_is_none_takes_the_account_out(self) -> None:
        async with vertex_path(vertex_account(location="../global", name="odd")) as vertex:
            assert told(await vertex.path.ask()) == (503, "no_server_key")
            assert await vertex.out() == {"odd": "key_invalid"}
            assert vertex.path.sent == 0


class TestTokens:
    async def test_200_requests_over_two_refreshes_and_none_failed(self) -> None:
        """The first refresh finds a token that lives, the second one finds none."""
        async with vertex_path() as vertex:
            await vertex.ask_many(60)
            assert vertex.issued == 1
            vertex.passed_s += HOUR_S - MIN_EARLY_S
            await vertex.ask_many(70)
            assert vertex.issued == 2
            vertex.passed_s += HOUR_S
            vertex.revoke()
            await vertex.ask_many(70)
            assert vertex.issued == 3
            assert vertex.answered == {"200": 200}

    async def test_a_rejected_token_is_replaced_and_no_request_fails(self) -> None:
        async with vertex_path() as vertex:
            await vertex.ask_many(5)
            vertex.passed_s += MIN_AGE_S
            vertex.revoke()
            await vertex.ask_many(10)
            assert vertex.issued == 2
            assert vertex.answered["200"] == 15
            assert 1 <= vertex.answered["401"] <= 10
            assert await vertex.out() == {}
            # Each rejected request was a dispatch of its own.
            assert await vertex.path.dispatched(LEDGER) == sum(vertex.answered.values())

    async def test_a_new_token_that_is_rejected_is_not_fetched_again(self) -> None:
        async with vertex_path() as vertex:
            await vertex.ask_many(1)
            vertex.revoke()
            assert told(await vertex.path.ask()) == (502, "upstream_failed")
            assert vertex.issued == 1
            vertex.passed_s += MIN_AGE_S
            await vertex.ask_many(1)
            assert vertex.issued == 2

    async def test_accounts_share_the_token_of_one_credential(self) -> None:
        both = [vertex_account(name="one"), vertex_account("b-project", name="two")]
        async with vertex_path(*both) as vertex:
            await vertex.ask_many(20)
            assert set(vertex.path.gemini.stats()["projects"]) <= {ON_VERTEX, "vertex/b-project"}
            assert vertex.issued == 1


class TestWithoutToken:
    async def test_a_refused_credential_is_out_with_googles_reason(self) -> None:
        async with vertex_path(vertex_account(email=DISABLED)) as vertex:
            answers = [await vertex.path.ask() for _ in range(2)]
            assert [told(answer) for answer in answers] == [(503, "no_server_key")] * 2
            assert "account not found" in answers[1].error["message"]
            assert await vertex.out() == {"vertex-1": "key_invalid"}
            assert vertex.path.gemini.stats()["access_tokens"]["refused"] == {"invalid_grant": 1}
            assert await vertex.path.dispatched(LEDGER) == 0

    async def test_an_endpoint_out_of_reach_is_a_502_and_costs_no_quota(self) -> None:
        async with vertex_path(OAUTH_TOKEN_URL=f"{NOWHERE}/token") as vertex:
            answer = await vertex.path.ask()
            assert told(answer) == (502, "upstream_failed")
            assert "token endpoint" in answer.error["message"]
            assert await vertex.out() == {}
            assert vertex.path.sent == await vertex.path.dispatched(LEDGER) == 0

    @ways
    async def test_another_account_answers_meanwhile(self, way: str) -> None:
        async with vertex_path(keys={SERVER_KEY: "server"}, OAUTH_TOKEN_URL=f"{NOWHERE}/token") as vertex:
            for _ in range(4):
                text_of(await vertex.path.ask(way=way))
            assert vertex.answered == {"200": 4}
            assert await vertex.out() == {}

    async def test_no_secret_is_in_an_answer_or_a_log(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level("DEBUG")
        accounts = [vertex_account(email=DISABLED), vertex_account(key=1, name="forged")]
        async with vertex_path(*accounts) as vertex:
            answer = await vertex.path.ask()
            shown = answer.body.decode() + caplog.text + repr(accounts)
            assert "invalid_grant" in shown
            for account in accounts:
                key = orjson.loads(account.credential.reveal())["private_key"]
                assert not any(line in shown for line in key.splitlines() if len(line) > 40)


async def test_the_address_of_the_account_is_what_google_sees() -> None:
    async with vertex_path() as vertex:
        text_of(await vertex.path.ask())
        assert vertex.path.gemini.stats()["keys"] == {EMAIL: {"requests": 0, "admitted": 1, "answered": {"200": 1}}}
