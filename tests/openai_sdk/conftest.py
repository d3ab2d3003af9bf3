"""The gateway of this session, and OpenAI's two clients, used by one spelling."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Iterator
from operator import attrgetter
from typing import Any

import openai
import pytest

from tests.openai_sdk.gateway import ADMIN_KEY, Gateway, served


class Client:
    """`openai.OpenAI` or `openai.AsyncOpenAI`, unchanged. The same test runs on both."""

    def __init__(self, sdk: openai.OpenAI | openai.AsyncOpenAI) -> None:
        self.sdk = sdk

    async def __call__(self, method: str, *arguments: Any, **parameters: Any) -> Any:
        """Calls a method by its name: `await client("chat.completions.create", model=..., messages=...)`."""
        result = attrgetter(method)(self.sdk)(*arguments, **parameters)
        return await result if inspect.isawaitable(result) else result

    def with_options(self, **options: Any) -> Client:
        return Client(self.sdk.with_options(**options))

    async def events(self, method: str, *arguments: Any, **parameters: Any) -> list[Any]:
        """All chunks of a stream."""
        stream = await self(method, *arguments, **parameters)
        if isinstance(self.sdk, openai.OpenAI):
            return list(stream)
        return [event async for event in stream]


@pytest.fixture(scope="session")
def gateway() -> Iterator[Gateway]:
    settings = {"GEMINI_TIER": "tier3", "GEMINI_RPM": "unlimited", "GEMINI_TPM": "unlimited", "GEMINI_RPD": "unlimited"}
    with served(**settings, GEMINI_CONCURRENCY_LIMIT="200", RATE_LIMIT_PER_MINUTE="unlimited") as running:
        yield running


@pytest.fixture(params=["sync", "async"])
async def client(request: pytest.FixtureRequest, gateway: Gateway) -> AsyncIterator[Client]:
    """With the admin key and the SDK's own settings."""
    if request.param == "sync":
        with openai.OpenAI(base_url=gateway.base_url, api_key=ADMIN_KEY) as sdk:
            yield Client(sdk)
    else:
        async with openai.AsyncOpenAI(base_url=gateway.base_url, api_key=ADMIN_KEY) as sdk_async:
            yield Client(sdk_async)
