"""The fuzzing of schemas notices a defect and a freeze, and takes what is right."""

from __future__ import annotations

import random
import time
from typing import Any

import pytest

from tests.fuzz import schemas


async def test_a_short_run_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The collector takes long for the heap of a whole test session, so that the bound is ten times as large here."""
    monkeypatch.setattr(schemas, "MAX_FREEZE_S", 10 * schemas.MAX_FREEZE_S)
    assert await schemas.fuzz(1, 1) == 0


async def test_a_defect_is_reported(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def defective(*_: Any, **__: Any) -> Any:
        raise KeyError("a defect")

    monkeypatch.setattr(schemas, "check_schema", defective)
    assert await schemas.fuzz(60, 1) == 1
    assert "KeyError: 'a defect'" in capsys.readouterr().err


async def test_a_freeze_is_reported(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    right = schemas.check_schema

    def freezing(*arguments: Any, **named: Any) -> Any:
        ends = time.process_time() + 2 * schemas.MAX_FREEZE_S
        while time.process_time() < ends:
            pass
        return right(*arguments, **named)

    monkeypatch.setattr(schemas, "check_schema", freezing)
    assert await schemas.fuzz(0.1, 1) == 1
    assert "The longest freezes" in capsys.readouterr().out


@pytest.mark.parametrize("make", [schemas.small, schemas.large])
def test_a_sample_is_made_again_from_its_seed(make: Any) -> None:
    for number in range(20):
        assert make(random.Random(f"1-{number}")) == make(random.Random(f"1-{number}"))
