"""One Chromium and one local server for all tests; each test opens tabs of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio

from tests.support.browser import chromium
from tests.support.processes import served

if TYPE_CHECKING:
    from playwright.async_api import Browser, Page

ANONYMOUS = "generate,generate_text,sessions,openai_api"
"""As `make run` has it."""
Opened = Callable[..., Coroutine[Any, Any, "Page"]]


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser() -> AsyncIterator[Browser]:
    async with chromium() as started:
        yield started


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def gateway(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    """The address of a server as `make run` starts it, with an offline Gemini that writes visibly slowly."""
    folder = tmp_path_factory.mktemp("gateway")
    settings = {
        "ALLOW_ANONYMOUS": ANONYMOUS,
        "EMULATOR_CHUNK_DELAY_MS": "30",
        "LEDGER_URL": f"sqlite:///{folder}/store.db",
        "STORAGE_URL": f"file://{folder}/files",
        "RATE_LIMIT_PER_MINUTE": "1000",
    }
    async with served(settings) as server:
        yield server.url


@pytest_asyncio.fixture(loop_scope="session")
async def opened(browser: Browser) -> AsyncIterator[Opened]:
    """`await opened(url)`: a tab in a browser of its own, with an empty profile. The test fails if a page reports an error that
    it does not expect; `may_fail=True` is for pages whose requests are refused on purpose."""
    async with AsyncExitStack() as stack:
        errors: list[str] = []

        async def open_tab(url: str, *, may_fail: bool = False, **context: Any) -> Page:
            profile = await stack.enter_async_context(await browser.new_context(**context))
            page = await profile.new_page()
            if not may_fail:
                page.on("pageerror", lambda error: errors.append(str(error)))
                page.on("console", lambda said: errors.append(said.text) if said.type == "error" else None)
            await page.goto(url)
            return page

        yield open_tab
    assert errors == []
