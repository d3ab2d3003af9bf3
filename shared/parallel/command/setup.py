"""The keys and the backend that a command's arguments ask for."""

from __future__ import annotations

import argparse
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from shared.batch.backend import Backend

from ..env_file import read_environment
from ..key_manager import AdvancedApiKeyManager
from .main import UsageError

_KEY_NAME = re.compile(r"GEMINI_API_KEY\w*|GOOGLE_API_KEY")


def manager_of(given: argparse.Namespace) -> AdvancedApiKeyManager:
    """Raises UsageError."""
    names = given.keys or sorted(
        name
        for name, value in read_environment().values.items()
        if _KEY_NAME.fullmatch(name) and value and not _is_project(name)
    )
    try:
        return AdvancedApiKeyManager(
            names or ["GEMINI_API_KEY"],
            key_cooldown_seconds=given.key_cooldown,
            ledger=given.ledger,
            gateway=given.gateway,
        )
    except ValueError as error:
        raise UsageError(str(error)) from None


@asynccontextmanager
async def backend_of(manager: AdvancedApiKeyManager) -> AsyncIterator[Backend]:
    """A backend on the running loop: a command has a loop of its own, and needs no thread."""
    backend = manager.new_backend()
    try:
        yield backend
    finally:
        await backend.aclose()


def _is_project(name: str) -> bool:
    return name.endswith("_PROJECT")
