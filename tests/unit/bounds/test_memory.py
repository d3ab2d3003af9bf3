"""How much memory the process has, and what its requests may hold of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from shared import engine
from shared.bounds.memory import memory_bytes
from shared.engine import MAX_BUDGET_BYTES, MIN_BUDGET_BYTES, budget_of
from shared.settings.settings import Settings
from tests.support.edge import ENVIRONMENT

MB = 1 << 20
SERVER_KEY = {"GEMINI_API_KEY": "AQ.key-of-the-server"}


def settings(**env: str) -> Settings:
    return Settings.from_environment({**ENVIRONMENT, **env})


@pytest.mark.parametrize("text", ["", "max\n", "-1", "much"])
def test_a_file_without_a_limit_is_no_limit(tmp_path: Path, text: str) -> None:
    machine = memory_bytes([])
    file = tmp_path / "memory.max"
    file.write_text(text)
    assert memory_bytes([str(file), str(tmp_path / "absent")]) == machine > 0


def test_the_lowest_limit_counts(tmp_path: Path) -> None:
    for name, limit in (("a", 512 * MB), ("b", 2**62)):
        (tmp_path / name).write_text(f"{limit}\n")
    assert memory_bytes([str(tmp_path / "a"), str(tmp_path / "b")]) == 512 * MB


@pytest.mark.parametrize(
    ("memory", "workers", "total"),
    [
        (512 * MB, 1, 512 * MB // 6),
        (2048 * MB, 2, 2048 * MB // 12),
        (64 * MB, 1, MIN_BUDGET_BYTES),
        (2**40, 1, MAX_BUDGET_BYTES),
    ],
)
def test_the_budget_is_a_share_of_the_memory(
    monkeypatch: pytest.MonkeyPatch, memory: int, workers: int, total: int
) -> None:
    monkeypatch.setattr(engine, "memory_bytes", lambda: memory)
    env = {"WORKERS": str(workers), "LEDGER_URL": "sqlite:///x.db"}
    assert budget_of(settings(**env)).total_bytes == total


def test_the_largest_body_fits_into_the_smallest_instance() -> None:
    assert budget_of(settings(QUEUE_MAX_MB=str(512 // 6))).large_bytes >= 31 * 10**6 * 5 // 2


def test_strangers_have_half_only_where_there_are_others() -> None:
    assert budget_of(settings(QUEUE_MAX_MB="100", **SERVER_KEY)).strangers_bytes == 50 * MB
    assert budget_of(settings(QUEUE_MAX_MB="100")).strangers_bytes is None
