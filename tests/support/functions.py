"""Calls a function by its name as functions-framework would, with a Gemini whose answers a test sets."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any
from unittest.mock import patch

from tests.support.edge import ADMIN, Answer, FakeGateway, FakeServices, ask


async def called(
    name: str,
    body: Any,
    *,
    gemini_says: Any = "Hello",
    headers: Mapping[str, str] = ADMIN,
    environment: Mapping[str, str] | None = None,
    services: FakeServices | None = None,
    path: str = "/",
    **rest: Any,
) -> Answer:
    """POSTs `body` to the function's only path. One that is a template needs `path`. `rest` is for `ask`."""
    function = getattr(importlib.import_module(f"functions.{name}.main"), name)
    made = services or FakeServices(FakeGateway(gemini_says), environment or {})
    with patch("shared.bootstrap.services", lambda: made):
        return await ask(function, path=path, json=body, headers=headers, **rest)
