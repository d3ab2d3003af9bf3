"""The gateway of this session, and OpenAI's two clients, used by one spelling."""

from __future__ import annotations

import contextlib
import inspect
import itertools
from collections.abc import AsyncIterator, Iterator
from operator import attrgetter
from typing import Any

import openai
import pytest

from tests.openai_sdk.gateway import ADMIN_KEY, Gateway, served

_numbers = itertools.count()


class Client:
    """`openai.OpenAI` or `openai.AsyncOpenAI`, unchanged. The same test runs on both."""

    def __init__(self, sdk: openai.OpenAI | openai.AsyncOpenAI) -> None:
        self.sdk = sdk

    @property
    def is_sync(self) -> bool:
        return isinstance(self.sdk, openai.OpenAI)

    def fresh(self, text: str) -> str:
        """`text` for this client alone, where the offline Gemini or the gateway remembers what was sent before."""
        return f"{text} {next(_numbers)}"

    @property
    def with_fresh_key(self) -> Client:
        """With a Gemini key of its own, which nobody has used."""
        return self.with_options(api_key=f"AQ.an-own-key-{next(_numbers)}")

    async def __call__(self, method: str, *arguments: Any, **parameters: Any) -> Any:
        """Calls a method by its name: `await client("chat.completions.create", model=..., messages=...)`."""
        result = attrgetter(method)(self.sdk)(*arguments, **parameters)
        return await result if inspect.isawaitable(result) else result

    def with_options(self, **options: Any) -> Client:
        return Client(self.sdk.with_options(**options))

    async def events(self, method: str, *arguments: Any, **parameters: Any) -> list[Any]:
        """All chunks of a stream."""
        stream = await self(method, *arguments, **parameters)
        if self.is_sync:
            return list(stream)
        return [event async for event in stream]


async def every(pages: Any) -> list[Any]:
    """All entries of a list that the SDK reads page by page."""
    return [one async for one in pages] if hasattr(pages, "__aiter__") else list(pages)


@pytest.fixture(scope="session")
def gateway() -> Iterator[Gateway]:
    settings = {"GEMINI_TIER": "tier3", "GEMINI_RPM": "unlimited", "GEMINI_TPM": "unlimited", "GEMINI_RPD": "unlimited"}
    with served(**settings, GEMINI_CONCURRENCY_LIMIT="200", RATE_LIMIT_PER_MINUTE="unlimited") as running:
        yield running


@contextlib.asynccontextmanager
async def client_of(kind: str, base_url: str) -> AsyncIterator[Client]:
    """`kind`: sync or async. With the admin key and the SDK's own settings."""
    if kind == "sync":
        with openai.OpenAI(base_url=base_url, api_key=ADMIN_KEY) as sdk:
            yield Client(sdk)
    else:
        async with openai.AsyncOpenAI(base_url=base_url, api_key=ADMIN_KEY) as sdk_async:
            yield Client(sdk_async)


@pytest.fixture(params=["sync", "async"])
async def client(request: pytest.FixtureRequest, gateway: Gateway) -> AsyncIterator[Client]:
    async with client_of(request.param, gateway.base_url) as made:
        yield made
