"""The library's keys reach their limits: states, waits, and the words of its errors."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from gemini_parallel import AdvancedApiKeyManager, GeminiParallelProcessor

from shared.emulator import EmulatorConfig
from shared.emulator.config import Limits, Project
from tests.support.parallel import OfflineGemini, environment, offline_gemini


@contextmanager
def program(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, config: EmulatorConfig, **env: str
) -> Iterator[OfflineGemini]:
    with offline_gemini(config) as gemini:
        for name, value in environment(gemini.url, f"sqlite:///{tmp_path}/ledger.db", **env).items():
            monkeypatch.setenv(name, value)
        monkeypatch.chdir(tmp_path)
        yield gemini


def test_all_keys_exhausted_for_the_day(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The error says until when; nothing more is sent, and the next day's run goes on."""
    with program(monkeypatch, tmp_path, EmulatorConfig(), GEMINI_RPD="3", KEY_B="AQ.the-other-key-of-it") as gemini:
        manager = AdvancedApiKeyManager(["KEY_A", "KEY_B"], key_cooldown_seconds=0)
        processor = GeminiParallelProcessor(manager, api_call_interval=0, max_workers=3)
        results = processor.process_prompts([{"prompt": f"number {number}"} for number in range(10)])
        errors = [error for _, _, error in results if error is not None]
        assert len(errors) == 4 and gemini.admitted == 6
        assert all(error.startswith("All keys exhausted until ") for error in errors)
        summary = manager.get_keys_status_summary()
        assert {entry["status"] for entry in summary.values()} == {"FULLY_EXHAUSTED"}
        assert all(entry["until"] > time.time() for entry in summary.values())
        manager.close()


def test_a_rejected_key_fails_and_the_other_serves(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = EmulatorConfig(latency_s=0.4)
    with program(monkeypatch, tmp_path, config, KEY_B="AQ.invalid-key", GEMINI_CONCURRENCY_LIMIT="1") as gemini:
        manager = AdvancedApiKeyManager(["KEY_A", "KEY_B"], key_cooldown_seconds=0)
        processor = GeminiParallelProcessor(manager, api_call_interval=0)
        with caplog.at_level("INFO", logger="gemini_parallel"):
            results = processor.process_prompts([{"prompt": f"number {number}"} for number in range(6)])
        assert [error for _, _, error in results] == [None] * 6 and gemini.admitted == 6
        summary = manager.get_keys_status_summary()
        assert (summary["KEY_A"]["status"], summary["KEY_B"]["status"]) == ("AVAILABLE", "FAILED_INIT")
        assert any(record.getMessage().startswith("Key KEY_B: AVAILABLE -> FAILED_INIT.") for record in caplog.records)
        manager.close()


def test_a_failure_of_gemini_is_persistent(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with program(monkeypatch, tmp_path, EmulatorConfig()) as gemini:
        gemini.emulator.inject("500", 50)
        manager = AdvancedApiKeyManager(["KEY_A"], key_cooldown_seconds=0)
        results = GeminiParallelProcessor(manager, api_call_interval=0).process_prompts([{"prompt": "x"}])
        manager.close()
    error = results[0][2]
    assert error is not None and error.startswith("API error, persistent after ")


def test_a_key_rests_after_each_request(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with program(monkeypatch, tmp_path, EmulatorConfig()):
        manager = AdvancedApiKeyManager(["KEY_A"], key_cooldown_seconds=1)
        began_s = time.monotonic()
        results = GeminiParallelProcessor(manager, api_call_interval=0).process_prompts([{"prompt": "x"}] * 3)
        took_s = time.monotonic() - began_s
        assert [error for _, _, error in results] == [None] * 3
        assert took_s >= 2.0
        assert manager.get_keys_status_summary()["KEY_A"]["status"] == "COOLDOWN"
        manager.close()


def test_the_interval_is_kept_by_all_workers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Also by a retry."""
    with program(monkeypatch, tmp_path, EmulatorConfig()) as gemini:
        manager = AdvancedApiKeyManager(["KEY_A"], key_cooldown_seconds=0)
        processor = GeminiParallelProcessor(manager, api_call_interval=0.2, max_workers=8)
        processor.process_prompts([{"prompt": "warm"}])
        gemini.emulator.inject("503", 1)
        results = processor.process_prompts([{"prompt": f"number {number}"} for number in range(10)])
        manager.close()
        projects = gemini.emulator.stats(arrivals=True)["projects"]
    assert [error for _, _, error in results] == [None] * 10
    (arrived,) = [model["arrivals"]["at_s"] for project in projects.values() for model in project["models"].values()]
    assert len(arrived) >= 11
    # What is written 0.2 s later arrives a little earlier or later than that.
    assert min(later - earlier for earlier, later in itertools.pairwise(arrived)) > 0.15


def test_prompts_wait_for_the_limit_of_a_minute(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Gemini never answers 429, and a request may wait for its turn longer than for a key that Gemini rejects."""
    monkeypatch.setattr("shared.batch.outcomes.MAX_WAIT_S", 1.0)
    config = EmulatorConfig(default_project=Project(tier="paid", limits=Limits(rpm=10)), window_s=2.0)
    with program(
        monkeypatch, tmp_path, config, GEMINI_RPM="10", LEDGER_WINDOW_SECONDS="2", REQUEST_TIMEOUT_SECONDS="4"
    ) as gemini:
        manager = AdvancedApiKeyManager(["KEY_A"], key_cooldown_seconds=0)
        results = GeminiParallelProcessor(manager, api_call_interval=0, max_workers=40).process_prompts(
            [{"prompt": f"number {number}"} for number in range(25)]
        )
        manager.close()
        assert [error for _, _, error in results] == [None] * 25
        assert gemini.emulator.stats()["refused"] == {}


@pytest.mark.parametrize("kind", ["sqlite", "firestore"])
def test_two_programs_share_the_limits(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kind: str
) -> None:
    """On one machine, or with a deployed gateway's ledger."""
    ledger = f"sqlite:///{tmp_path}/shared.db"
    if kind == "firestore":
        monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", request.getfixturevalue("firestore_host"))
        ledger = f"firestore://gateway-tests-{time.time_ns()}/(default)"
    with program(monkeypatch, tmp_path, EmulatorConfig(), GEMINI_RPD="5"):
        first, second = (AdvancedApiKeyManager(["KEY_A"], key_cooldown_seconds=0, ledger=ledger) for _ in range(2))
        prompts = [{"prompt": "x"}] * 3
        ran = [
            GeminiParallelProcessor(manager, api_call_interval=0).process_prompts(prompts)
            for manager in (first, second)
        ]
        assert sum(error is None for results in ran for _, _, error in results) == 5
        first.close()
        second.close()
