"""What walks through all of a large body does so in a thread, so that it does not delay other requests."""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest

from shared.bounds.large_work import LARGE_BYTES
from shared.gateway.embedding import Capacity
from shared.openai_api import chat, embeddings, signatures
from tests.support.functions import called

LONG = "x" * LARGE_BYTES


@pytest.fixture
def threads(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """The thread in which each function was called."""
    found: dict[str, int] = {}

    def note(module: ModuleType, name: str) -> None:
        function: Callable[..., Any] = getattr(module, name)

        def noted(*given: Any, **named: Any) -> Any:
            found[name] = threading.get_ident()
            return function(*given, **named)

        monkeypatch.setattr(module, name, noted)

    note(chat, "references")
    note(chat, "translate")
    note(signatures, "read_ids")
    note(embeddings, "parts_of")
    monkeypatch.setattr(embeddings, "capacity_of", lambda *_: Capacity(None, "minute", 1_000, 10**9))
    return found


async def test_of_a_chat(threads: dict[str, int]) -> None:
    asked = {"id": "call_1", "function": {"name": "weather", "arguments": "{}"}}
    messages = [
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "tool_calls": [asked]},
        {"role": "tool", "tool_call_id": "call_1", "content": LONG},
    ]
    answer = await called("openai_api", {"messages": messages}, path="/v1/chat/completions")
    assert (answer.status, threads.keys()) == (200, {"references", "translate", "read_ids"})
    assert threading.get_ident() not in threads.values()


async def test_of_embeddings(threads: dict[str, int]) -> None:
    vector = {"embedding": {"values": [1.0]}}
    answer = await called("openai_api", {"input": LONG}, gemini_says=vector, path="/v1/embeddings")
    assert (answer.status, threads.keys()) == (200, {"parts_of"})
    assert threading.get_ident() not in threads.values()
