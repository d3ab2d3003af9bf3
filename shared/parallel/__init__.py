"""The library `gemini_parallel`: many prompts on several Gemini keys, within their limits. It changes with what users call."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .key_manager import AdvancedApiKeyManager
    from .processor import GeminiParallelProcessor
    from .results import Result

__all__ = ["AdvancedApiKeyManager", "GeminiParallelProcessor", "Result"]
_WHERE = {"AdvancedApiKeyManager": "key_manager", "GeminiParallelProcessor": "processor", "Result": "results"}


def __getattr__(name: str) -> Any:
    """Loads a class at its first use, so that importing the library takes no time."""
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f".{_WHERE[name]}", __name__), name)
