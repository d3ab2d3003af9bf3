"""Chats through accounts of Gemini Enterprise: the real gateway, its ledger, and the offline Gemini Enterprise."""

from __future__ import annotations

import asyncio
import base64
import logging
from typing import Any

import orjson
import pytest

from shared.accounts.account import Account
from shared.clock import elapsed_s
from shared.errors import BadRequest, GatewayError, ModelNotFound, NoServerKey, UpstreamFailed
from shared.gemini import wire
from shared.gemini.oauth import MIN_AGE_S
from shared.gemini.upstream import NotAllowed
from shared.generation import UNKNOWN_USAGE, JsonObject
from tests.support.enterprise_accounts import COOKIES, enterprise_account, enterprise_path, session_account
from tests.support.image_samples import written
from tests.support.whole_path import MODEL, OWN_KEY, WAYS, text_of

BOTH = [pytest.param(enterprise_account(), id="enterprise"), pytest.param(session_account(), id="enterprise_session")]
PNG = base64.b64encode(written("PNG", (8, 8))).decode()


def said(text: str, role: str = "user") -> JsonObject:
    return {"role": role, "parts": [{"text": text}]}


def asks(text: str, **more: Any) -> JsonObject:
    return {"contents": [said(text)], **more}


@pytest.mark.parametrize("account", BOTH)
class TestAChat:
    @pytest.mark.parametrize("way", WAYS)
    async def test_is_answered_over_http(self, account: Account, way: str) -> None:
        async with enterprise_path(account) as running:
            assert "Hello" in text_of(await running.path.ask(way=way))
            assert await running.path.dispatched(account.ledger_id) == 1

    async def test_is_answered_whole(self, account: Account) -> None:
        async with enterprise_path(account) as running:
            reply = await running.generator().generate(MODEL, asks("Say hello"))
            (project,) = running.gemini.stats()["projects"].values()
        assert "You wrote: “Say hello”" in wire.text_of(reply.body)
        assert (wire.finish_reason(reply.body), reply.usage, reply.model_used) == ("STOP", UNKNOWN_USAGE, MODEL)
        assert (project["open"], project["models"][MODEL]["admitted"]) == (0, 1)

    async def test_is_streamed(self, account: Account) -> None:
        async with enterprise_path(account) as running:
            whole = await running.generator().generate(MODEL, asks("Say hello"))
            texts = await running.texts(asks("Say hello"))
        assert len(texts) > 2
        assert "".join(texts) == wire.text_of(whole.body)

    async def test_has_its_instruction_and_history(self, account: Account) -> None:
        contents = [said("One?"), said("First.", "model"), said("Two?")]
        body = {"systemInstruction": {"parts": [{"text": "Be brief."}]}, "contents": contents}
        async with enterprise_path(account) as running:
            text = "".join(await running.texts(body))
        assert "Follow this instruction: Be brief. The conversation so far: User: One? Assistant: First." in text

    async def test_has_its_image(self, account: Account) -> None:
        parts = [{"text": "What is this?"}, {"inlineData": {"mimeType": "image/png", "data": PNG}}]
        async with enterprise_path(account) as running:
            body = {"contents": [{"role": "user", "parts": parts}]}
            reply = await running.generator().generate(MODEL, body)
            streamed = "".join(await running.texts(body))
            seen = running.gemini.stats()["by_method"]
        assert f"image/png of {len(PNG) * 3 // 4} bytes" in wire.text_of(reply.body)
        assert streamed == wire.text_of(reply.body)
        assert seen.get("addContextFile", seen.get("widgetAddContextFile")) == 2

    @pytest.mark.parametrize("streamed", [False, True])
    async def test_of_openai_has_its_image(self, account: Account, streamed: bool) -> None:
        """The image becomes a context file first."""
        url = {"url": f"data:image/png;base64,{PNG}"}
        content = [{"type": "text", "text": "What is this?"}, {"type": "image_url", "image_url": url}]
        body = {"model": MODEL, "messages": [{"role": "user", "content": content}], "stream": streamed}
        async with enterprise_path(account) as running:
            answer = await running.path.send("POST", "/v1/chat/completions", orjson.dumps(body))
            seen = running.gemini.stats()["by_method"]
        assert answer.status == 200, answer.body
        lines = [line.removeprefix("data: ") for line in answer.body.decode().splitlines() if line != "data: [DONE]"]
        choices = [one for line in lines if line for one in orjson.loads(line)["choices"]]
        text = "".join(
            one.get("delta", one.get("message"))["content"] or "" for one in choices if one.get("delta") != {}
        )
        assert f"image/png of {len(PNG) * 3 // 4} bytes" in text
        assert seen.get("addContextFile", seen.get("widgetAddContextFile")) == 1

    async def test_does_not_see_the_chat_before(self, account: Account) -> None:
        async with enterprise_path(account) as running:
            await running.generator().generate(MODEL, asks("A secret of the first caller"))
            reply = await running.generator().generate(MODEL, asks("And now?"))
        assert "came before it" not in wire.text_of(reply.body)

    async def test_with_a_blocked_prompt_says_why(self, account: Account) -> None:
        async with enterprise_path(account) as running:
            reply = await running.generator().generate(MODEL, asks("[[fault:block]]"))
        assert wire.block_reason(reply.body) == "BLOCKLIST"
        assert "CUSTOMER_POLICY_VIOLATION" in reply.body["promptFeedback"]["blockReasonMessage"]

    @pytest.mark.parametrize("fault", ["503x1", "reset", "cut", "500x1"])
    async def test_is_repeated_after_a_passing_failure(self, account: Account, fault: str) -> None:
        async with enterprise_path(account) as running:
            running.gemini.inject(fault.removesuffix("x1"))
            reply = await running.generator().generate(MODEL, asks("Say hello"))
        assert "Say hello" in wire.text_of(reply.body)

    async def test_that_is_cut_in_the_middle_fails(self, account: Account) -> None:
        async with enterprise_path(account) as running:
            with pytest.raises(UpstreamFailed):
                await running.texts(asks("[[fault:cut]][[words:200]]"))

    @pytest.mark.parametrize("fault", ["malformed", "late-429"])
    async def test_with_a_broken_answer_is_an_error(self, account: Account, fault: str) -> None:
        async with enterprise_path(account) as running:
            with pytest.raises(GatewayError) as raised:
                await running.texts(asks(f"[[fault:{fault}]]"))
        assert raised.value.status in (429, 502)

    @pytest.mark.parametrize("wrapping", ["bom", "gzip", "lines", "guard+brotli", "raw-halves", "stray-tail"])
    async def test_whose_answer_a_proxy_wrapped(self, account: Account, wrapping: str) -> None:
        async with enterprise_path(account) as running:
            assert "Say hello" in "".join(await running.texts(asks(f"Say hello [[fault:{wrapping}]]")))

    async def test_that_it_cannot_hold_is_refused_unsent(self, account: Account) -> None:
        body = asks("Hi", tools=[{"functionDeclarations": [{"name": "look"}]}])
        async with enterprise_path(account) as running:
            with pytest.raises(BadRequest, match=rf"{account.kind} has no .*functionDeclarations"):
                await running.generator().generate(MODEL, body)
            assert running.gemini.stats()["requests"] == 0

    async def test_that_it_cannot_hold_goes_to_a_key(self, account: Account) -> None:
        body = asks("Hi", tools=[{"functionDeclarations": [{"name": "look"}]}])
        async with enterprise_path(account, with_key=True) as running:
            replies = [await running.generator().generate(MODEL, body) for _ in range(3)]
        assert {reply.account_id for reply in replies} == {"gemini-api-key-1"}

    async def test_of_a_model_that_it_lacks_is_refused(self, account: Account) -> None:
        """After one 404 that names the model."""
        async with enterprise_path(account) as running:
            for sent in (1, 1):
                with pytest.raises(ModelNotFound, match=r"Model id gemini-9-none is invalid"):
                    await running.generator().generate("gemini-9-none", asks("Hi"))
                asked = running.gemini.stats()["by_method"]
                assert asked.get("streamAssist", asked.get("widgetStreamAssist")) == sent

    async def test_with_its_own_model_name_goes_to_it(self, account: Account) -> None:
        async with enterprise_path(account, with_key=True) as running:
            replies = [await running.generator().generate("gemini-enterprise", asks("Hi")) for _ in range(3)]
        assert {(reply.account_id, reply.model_used) for reply in replies} == {(account.id, "gemini-enterprise")}


async def test_a_stand_in_without_an_assistant_is_the_chat_model() -> None:
    async with enterprise_path(with_key=True) as running:
        reply = await running.generator().generate("gemini-enterprise", asks("Hi"))
    assert reply.model_used == MODEL


async def test_a_callers_own_key_gets_the_chat_model() -> None:
    async with enterprise_path(session_account()) as running:
        answer = await running.path.ask(key=OWN_KEY, model="gemini-enterprise")
    assert (answer.status, answer.headers["x-model-used"]) == (200, MODEL)


async def test_one_sign_in_serves_many_chats() -> None:
    async with enterprise_path(session_account()) as running:
        for _ in range(4):
            await running.generator().generate(MODEL, asks("Hi"))
        seen = running.gemini.stats()["by_method"]
    assert (seen["getoxsrf"], seen["widgetStreamAssist"]) == (1, 4)


async def test_an_expired_sign_in_is_renewed_and_no_chat_fails() -> None:
    async with enterprise_path(session_account()) as running:
        await running.generator().generate(MODEL, asks("Hi"))
        running.gemini.app.assist.keys.forget()
        upstream: Any = running.services.kinds.upstreams["enterprise_session"]
        upstream._service._tokens._elapsed = lambda: elapsed_s() + MIN_AGE_S
        chats = [running.generator().generate(MODEL, asks("Hi")) for _ in range(8)]
        replies = await asyncio.gather(*chats)
        seen = running.gemini.stats()["by_method"]
    assert {wire.finish_reason(reply.body) for reply in replies} == {"STOP"}
    assert seen["getoxsrf"] == 2


async def test_an_image_of_the_answer_is_downloaded() -> None:
    async with enterprise_path(session_account()) as running:
        reply = await running.generator().generate("gemini-3-pro-image", asks("A red house"))
        seen = running.gemini.stats()["by_method"]
    (blob,) = [part["inlineData"] for part in wire.parts(reply.body) if "inlineData" in part]
    assert blob["mimeType"] == "image/png"
    assert base64.b64decode(blob["data"]).startswith(b"\x89PNG")
    assert (seen["downloadFile"], seen["download"]) == (1, 1)


async def test_an_account_without_image_output_is_asked_for_none() -> None:
    async with enterprise_path(enterprise_account()) as running:
        with pytest.raises(BadRequest, match="image output"):
            await running.generator().generate("gemini-3-pro-image", asks("A red house"))


@pytest.mark.parametrize(
    ("account", "why"),
    [
        (session_account(cookies={**COOKIES, "secure_c_ses": "dead-planted"}), "cookies have expired"),
        (session_account(team_id="the-wrong-team"), "team_id is wrong"),
        (session_account(csesidx="1&planted=1"), "csesidx"),
        (session_account(cookies={**COOKIES, "host_c_oses": "a; planted=1\r\nX: planted"}), "two cookies"),
        (session_account(cookies={"planted": 1}), "secure_c_ses and host_c_oses"),
    ],
)
async def test_a_dead_session_is_out_and_shows_no_secret(
    account: Account, why: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    async with enterprise_path(account) as running:
        with pytest.raises(NoServerKey, match=why) as raised:
            await running.generator().generate(MODEL, asks("Hi"))
        assert running.services.pool.disabled() == {"session-1": "key_invalid"}
        shown = f"{raised.value.message} {raised.value.details} {account!r} {caplog.text}"
    assert "planted" not in shown.replace("planted-browser", "").replace("1&planted=1", "")


async def test_an_exhausted_seat_leaves_the_work_to_others() -> None:
    async with enterprise_path(session_account(), with_key=True) as running:
        running.gemini.inject("429-bare", 100, key="session/1234567")
        replies = [await running.generator().generate(MODEL, asks("Hi")) for _ in range(6)]
    assert {reply.account_id for reply in replies} == {"gemini-api-key-1"}


async def test_without_permission_no_session_is_used() -> None:
    async with enterprise_path(session_account(), ALLOW_SESSION_ACCOUNTS="0") as running:
        with pytest.raises(NoServerKey, match="ALLOW_SESSION_ACCOUNTS=1"):
            await running.generator().generate(MODEL, asks("Hi"))
        assert isinstance(running.services.kinds.upstreams["enterprise_session"], NotAllowed)
        assert running.gemini.stats()["requests"] == 0


async def test_an_unknown_engine_pauses_the_account() -> None:
    async with enterprise_path(enterprise_account(engine="a b")) as running:
        with pytest.raises(NoServerKey, match="engine"):
            await running.generator().generate(MODEL, asks("Hi"))
