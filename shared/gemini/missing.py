"""Remembers for ten minutes which models a project does not have, by Gemini's 404s. Bounded; pure except for its clock."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

from shared.clock import elapsed_s

MISSING_FOR_S = 600.0
MAX_MISSING = 10_000
MAX_MESSAGE_CHARS = 500


class MissingModels:
    """Missing models of one process by project and model, with Google's message; the least recently used is dropped first."""

    def __init__(self, elapsed: Callable[[], float] = elapsed_s) -> None:
        self._elapsed = elapsed
        self._missing: OrderedDict[tuple[str, str], tuple[float, str]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._missing)

    def add(self, project: str, model: str, message: str) -> None:
        self._missing[project, model] = (self._elapsed() + MISSING_FOR_S, message[:MAX_MESSAGE_CHARS])
        self._missing.move_to_end((project, model))
        if len(self._missing) > MAX_MISSING:
            self._missing.popitem(last=False)

    def message(self, project: str, model: str) -> str | None:
        """Google's message; None if the model may exist in the project."""
        known = self._missing.get((project, model))
        if known is None:
            return None
        until_s, message = known
        if until_s <= self._elapsed():
            del self._missing[project, model]
            return None
        self._missing.move_to_end((project, model))
        return message
