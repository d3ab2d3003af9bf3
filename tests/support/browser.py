"""Where Chromium is, and how playwright starts it."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.async_api import Browser

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
MISSING = "Chromium is not installed. On Debian: apt-get install chromium; .ci/chromium does it."


@asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    """Without Chromium the test is skipped; with REQUIRE_EMULATORS=1 it fails."""
    # Imported here: only these tests need it.
    from playwright.async_api import async_playwright

    if CHROMIUM is None:
        if os.environ.get("REQUIRE_EMULATORS") == "1":
            pytest.fail(MISSING)
        pytest.skip(MISSING)
    async with async_playwright() as playwright:
        # Chromium's sandbox does not work for root, which many containers run as.
        arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        try:
            yield browser
        finally:
            await browser.close()
