"""What holds for every test over whole paths."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def _no_minutes_after_midnight(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the first minutes of a day (Pacific) a spent day is asked about again; the tests must pass then too. Those minutes
    are tested in tests/unit/gateway/test_failures.py."""
    monkeypatch.setattr("shared.gateway.failures.DAY_LAG_MS", 0)
