"""A conversation over both backends that make thought signatures: Gemini never rejects one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from shared.bootstrap import Services
from shared.clock import elapsed_s
from shared.emulator import Emulator, EmulatorConfig, oauth, running
from shared.generation import Caller, JsonObject, Timeline
from shared.settings.settings import Settings
from tests.support.service_accounts import EMAIL, PROJECT, public_key, vertex_account
from tests.support.whole_path import serve_too

MODEL = "gemini-3.8-flash"
KEY = "AQ.a-key-of-the-gemini-api"
CALLER = Caller("name:one", "admin")
FUNCTIONS = ("look_up", "convert")
TOOLS = {
    "tools": [{"functionDeclarations": [{"name": name, "description": name} for name in FUNCTIONS]}],
    "toolConfig": {"functionCallingConfig": {"mode": "ANY"}},
}


@asynccontextmanager
async def both_backends() -> AsyncIterator[tuple[Services, Emulator]]:
    """A gateway with an API key and a service account of Vertex, at one offline Gemini."""
    config = EmulatorConfig(keys={KEY: "p"}, service_accounts={EMAIL: public_key()})
    async with running(config) as gemini:
        given = {
            "GEMINI_BASE_URL": gemini.url,
            "VERTEX_BASE_URL": gemini.url,
            "OAUTH_TOKEN_URL": f"{gemini.url}{oauth.PATH}",
            "GEMINI_API_KEY": KEY,
            "LEDGER_URL": "memory://",
        }
        services = Services(Settings.from_environment(given))
        serve_too(services, [vertex_account()])
        try:
            yield services, gemini
        finally:
            await services.aclose()


async def turn(
    services: Services, contents: list[JsonObject], timeline: Timeline, *, streamed: bool
) -> list[JsonObject]:
    """The parts of the model's answer."""
    generator = services.gateway.bind(CALLER, elapsed_s() + 60, "interactive", timeline)
    body = {"contents": contents, **TOOLS}
    if not streamed:
        reply = await generator.generate(MODEL, body)
        parts: list[JsonObject] = reply.body["candidates"][0]["content"]["parts"]
        return parts
    found: list[JsonObject] = []
    async with generator.stream(MODEL, body) as frames:
        async for frame in frames:
            found += frame["candidates"][0]["content"].get("parts", ())
    return found


def answered(parts: list[JsonObject]) -> JsonObject:
    """The caller's results of the calls in a model's answer."""
    calls = [part["functionCall"] for part in parts if "functionCall" in part]
    assert [call["name"] for call in calls] == list(FUNCTIONS)
    return {
        "role": "user",
        "parts": [{"functionResponse": {"name": call["name"], "response": {"ok": 1}}} for call in calls],
    }


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_tool_loop_outlives_the_account_that_signed(streamed: bool) -> None:
    """Six turns of two parallel calls; the API key is rejected from the third turn on."""
    async with both_backends() as (services, gemini):
        _, vertex = services.pool.server
        services.pool.pause(vertex, "restricted", "")  # The first turn is the API key's.
        contents: list[JsonObject] = [{"role": "user", "parts": [{"text": "Use look_up and convert."}]}]
        replaced = []
        for number in range(1, 7):
            if number == 2:
                services.pool._disabled.clear()
            if number == 3:
                gemini.inject("401", 1000, key=KEY)
            timeline = Timeline()
            parts = await turn(services, contents, timeline, streamed=streamed)
            assert sum("thoughtSignature" in part for part in parts) == 1
            contents += [{"role": "model", "parts": parts}, answered(parts)]
            replaced.append(timeline.signatures_replaced)
        assert replaced == [False, False, True, True, True, True]
        stats = gemini.stats()
        assert stats["answered"] == {"200": 6, "401": 1}
        assert stats["projects"][f"vertex/{PROJECT}"]["models"][MODEL]["admitted"] == 4


async def test_a_loop_on_vertex_goes_on_at_the_gemini_api() -> None:
    async with both_backends() as (services, gemini):
        key, vertex = services.pool.server
        services.pool.pause(key, "restricted", "")
        contents: list[JsonObject] = [{"role": "user", "parts": [{"text": "Use look_up and convert."}]}]
        for _ in range(2):
            parts = await turn(services, contents, Timeline(), streamed=False)
            contents += [{"role": "model", "parts": parts}, answered(parts)]
        services.pool._disabled.clear()
        services.pool.disable(vertex, "key_invalid", "")
        timeline = Timeline()
        await turn(services, contents, timeline, streamed=False)
        assert timeline.signatures_replaced
        assert gemini.stats()["answered"] == {"200": 3}
