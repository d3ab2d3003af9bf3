"""The command `gemini-parallel`, as a process of its own, against the offline Gemini."""

from __future__ import annotations

import contextlib
import os
import random
import resource
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import orjson
import pytest

from shared.emulator import EmulatorConfig
from tests.support.parallel import OfflineGemini, environment, offline_gemini

PATIENCE_S = 300.0


class Command:
    """In a folder of its own, with prompts p0, p1, ... in p.jsonl."""

    def __init__(self, gemini: OfflineGemini, folder: Path, prompts: int) -> None:
        self.gemini, self.folder, self.results = gemini, folder, folder / "r.jsonl"
        lines = (f'{{"id": "p{number}", "prompt": "number {number}"}}\n' for number in range(prompts))
        (folder / "p.jsonl").write_text("".join(lines))

    def environment(self, **more: str) -> dict[str, str]:
        own = environment(self.gemini.url, f"sqlite:///{self.folder}/ledger.db", **more)
        return {"PATH": os.environ["PATH"], "HOME": str(self.folder), "PYTHONPATH": os.pathsep.join(sys.path), **own}

    def start(self, *arguments: str, env: dict[str, str] | None = None, **rest: Any) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "gemini_parallel.command", *arguments]
        pipe = subprocess.PIPE
        return subprocess.Popen(
            command, cwd=self.folder, env=self.environment(**env or {}), stdout=pipe, stderr=pipe, text=True, **rest
        )

    def run(self, *arguments: str, env: dict[str, str] | None = None, **rest: Any) -> tuple[int, str, str]:
        process = self.start(*arguments, env=env, **rest)
        output, errors = process.communicate(timeout=PATIENCE_S)
        return process.returncode, output, errors

    def answer_all(self, *more: str, **rest: Any) -> tuple[int, str, str]:
        return self.run("run", "p.jsonl", "-o", "r.jsonl", "--keys", "KEY_A", *more, **rest)

    def lines(self) -> list[dict[str, Any]]:
        return [orjson.loads(raw) for raw in self.results.read_bytes().splitlines()]


@pytest.fixture
def gemini() -> Iterator[OfflineGemini]:
    with offline_gemini(EmulatorConfig(latency_s=0.02)) as running:
        yield running


def assert_whole(command: Command, prompts: int, sent_again: int) -> None:
    """One line for each prompt, and Gemini saw few prompts twice."""
    ids = [line["id"] for line in command.lines()]
    assert len(ids) == len(set(ids)) == prompts
    assert all(line["error"] is None for line in command.lines())
    assert command.gemini.admitted <= prompts + sent_again


def kill_often(command: Command, times: int, workers: int, seed: int) -> None:
    """kill -9 while prompts are in flight; once the last line is torn, and once the disk is full instead."""
    chance = random.Random(seed)
    run = ["--max-workers", str(workers), "--quiet"]
    for number in range(times):
        if number == times // 3:
            limit = command.results.stat().st_size + 1000
            status, _, errors = command.answer_all(
                *run,
                env={"LEDGER_URL": "memory://"},  # The limit is for every file of the process.
                preexec_fn=lambda limit=limit: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
            )
            assert status == 5 and "The results cannot be written" in errors
            continue
        before = command.results.stat().st_size if command.results.exists() else 0
        process = command.start("run", "p.jsonl", "-o", "r.jsonl", "--keys", "KEY_A", *run)
        deadline_s = time.monotonic() + PATIENCE_S
        while process.poll() is None and not (command.results.exists() and command.results.stat().st_size > before):
            assert time.monotonic() < deadline_s, "no result came"
            time.sleep(0.01)
        time.sleep(chance.uniform(0.0, 0.3))
        process.kill()
        process.communicate(timeout=PATIENCE_S)
        if number == times // 2:
            with command.results.open("ab") as file:
                file.write(b'{"id":"p1","line":2,"respon')


def test_a_killed_run_is_resumed(gemini: OfflineGemini, tmp_path: Path) -> None:
    command, times, workers = Command(gemini, tmp_path, 1200), 5, 8
    kill_often(command, times, workers, seed=1)
    assert command.answer_all("--max-workers", "32")[0] == 0
    assert_whole(command, 1200, times * workers)


@pytest.mark.heavy
def test_10000_prompts_survive_20_kills(tmp_path: Path) -> None:
    with offline_gemini(EmulatorConfig(latency_s=0.02)) as gemini:
        command, times, workers = Command(gemini, tmp_path, 10_000), 20, 16
        kill_often(command, times, workers, seed=2)
        assert command.answer_all("--max-workers", "50")[0] == 0
        assert_whole(command, 10_000, 20 * workers)


def test_ctrl_c_finishes_what_is_in_flight(gemini: OfflineGemini, tmp_path: Path) -> None:
    command = Command(gemini, tmp_path, 5000)
    process = command.start("run", "p.jsonl", "-o", "r.jsonl", "--keys", "KEY_A", "--max-workers", "4")
    wait_for_results(command)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 130
    assert "Ctrl-C again stops at once" in errors and "Interrupted: all that was in flight is finished." in errors
    assert len(command.lines()) == gemini.admitted < 5000


def test_a_second_ctrl_c_stops_at_once(tmp_path: Path) -> None:
    with offline_gemini(EmulatorConfig(latency_s=600)) as gemini:
        command = Command(gemini, tmp_path, 10)
        process = command.start("run", "p.jsonl", "-o", "r.jsonl", "--keys", "KEY_A", "--max-workers", "4")
        deadline_s = time.monotonic() + PATIENCE_S
        while gemini.emulator.stats()["open"] < 4:
            assert time.monotonic() < deadline_s
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        time.sleep(0.3)
        process.send_signal(signal.SIGINT)
        began_s = time.monotonic()
        _, errors = process.communicate(timeout=PATIENCE_S)
        assert process.returncode == 130 and "Stopped at once" in errors
        assert time.monotonic() - began_s < 60


def test_ctrl_c_while_standard_input_is_silent(gemini: OfflineGemini, tmp_path: Path) -> None:
    command = Command(gemini, tmp_path, 1)
    process = command.start("run", "-", "-o", "r.jsonl", "--keys", "KEY_A", stdin=subprocess.PIPE)
    assert process.stdin is not None
    process.stdin.write('{"prompt": "x"}\n')
    process.stdin.flush()
    wait_for_results(command)
    process.send_signal(signal.SIGINT)
    assert process.wait(PATIENCE_S) == 130
    process.stdin.close()
    assert len(command.lines()) == 1


def test_a_reader_of_progress_who_leaves_costs_no_result(gemini: OfflineGemini, tmp_path: Path) -> None:
    command = Command(gemini, tmp_path, 50)
    process = command.start("run", "p.jsonl", "-o", "r.jsonl", "--keys", "KEY_A", "--json")
    assert process.stdout is not None and process.stderr is not None
    process.stdout.close()
    assert process.wait(PATIENCE_S) == 0
    assert "Traceback" not in process.stderr.read() and len(command.lines()) == 50


@pytest.mark.parametrize("more", [[], ["--dry-run"]])
def test_an_unusable_ledger_and_a_foreign_file_are_told(
    gemini: OfflineGemini, tmp_path: Path, more: Sequence[str]
) -> None:
    command = Command(gemini, tmp_path, 2)
    status, _, errors = command.answer_all(*more, "--ledger", "sqlite:////proc/none/l.db")
    assert (status, "Traceback" in errors) == (6, False)
    (tmp_path / "r.jsonl").write_text("my notes")
    status, _, errors = command.answer_all(*more)
    assert status == 5 and "this is no result of gemini-parallel" in errors
    assert (tmp_path / "r.jsonl").read_text() == "my notes"


def wait_for_results(command: Command) -> None:
    deadline_s = time.monotonic() + PATIENCE_S
    while not command.results.exists() or not command.results.stat().st_size:
        assert time.monotonic() < deadline_s, "no result came"
        time.sleep(0.01)


def test_exhausted_keys_have_a_code_and_the_next_day_goes_on(gemini: OfflineGemini, tmp_path: Path) -> None:
    command = Command(gemini, tmp_path, 30)
    status, _, errors = command.answer_all(env={"GEMINI_RPD": "10"})
    assert status == 4 and "All keys exhausted until " in errors
    assert len(command.lines()) == 10
    status, output, _ = command.run("keys", "--keys", "KEY_A", "--json", env={"GEMINI_RPD": "10"})
    assert status == 0 and orjson.loads(output)["KEY_A"]["status"] == "FULLY_EXHAUSTED"
    for number in (20, 30):
        move_clock(tmp_path / "ledger.db", days=1)
        status, _, _ = command.answer_all(env={"GEMINI_RPD": "10"})
        assert len(command.lines()) == number
    assert status == 0
    assert_whole(command, 30, 0)


def move_clock(ledger: Path, *, days: int) -> None:
    """The clock of the ledger's file, which all programs that use it share."""
    with contextlib.closing(sqlite3.connect(ledger)) as database:
        database.execute("UPDATE clock SET offset_ms = offset_ms + ?", (days * 86_400_000,))
        database.commit()


def test_wrong_inputs_are_counted_and_the_rest_goes_on(gemini: OfflineGemini, tmp_path: Path) -> None:
    command = Command(gemini, tmp_path, 7000)
    (tmp_path / "empty.mp3").write_bytes(b"")
    with (tmp_path / "p.jsonl").open("a") as file:
        file.write("{bad\n")
        file.write('{"id": "p3", "prompt": "the second p3"}\n')
        for name in ("missing.mp3", "empty.mp3", "."):
            file.write(orjson.dumps({"prompt": "Listen.", "audio_path": name}).decode() + "\n")
        file.write('{"id": "last", "prompt": "x"}\n')
    status, output, _ = command.answer_all("--max-workers", "50", "--json")
    assert status == 1
    end = orjson.loads(output.splitlines()[-1])
    assert (end["event"], end["answered"], end["failed"], end["exit_code"]) == ("end", 7001, 5, 1)
    failed = {line["line"]: line["error"] for line in command.lines() if line["error"] is not None}
    assert sorted(failed) == [7001, 7002, 7003, 7004, 7005]
    assert failed[7001].startswith("Line 7001 is not JSON") and "is that of an earlier line" in failed[7002]
    assert "No such file" in failed[7003] and "is empty" in failed[7004] and "is a directory" in failed[7005]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["run", "p.jsonl"], "-o is missing"),
        (["run", "missing.jsonl", "-o", "r.jsonl"], "missing.jsonl cannot be read"),
        (["run", "p.jsonl", "-o", "r.jsonl", "--keys", "KEY_Z"], "No valid API keys found"),
        (["run", "p.jsonl", "-o", "r.jsonl", "--model", "gemini-4-neon", "--budget", "5"], "--budget needs the price"),
        (["run", "p.jsonl", "-o", "r.jsonl", "--max-workers", "0"], "is not a number from 1 to"),
        (["run", "p.jsonl", "-o", "r.jsonl", "--schema", "p.jsonl"], "is not JSON"),
    ],
)
def test_a_wrong_call_is_told(gemini: OfflineGemini, tmp_path: Path, arguments: Sequence[str], said: str) -> None:
    command = Command(gemini, tmp_path, 2)
    more = [] if "--keys" in arguments or "-h" in arguments else ["--keys", "KEY_A"]
    status, _, errors = command.run(*arguments, *more)
    assert status == 2 and said in errors and "Traceback" not in errors
    assert gemini.admitted == 0


def test_a_dry_run_generates_nothing(gemini: OfflineGemini, tmp_path: Path) -> None:
    command = Command(gemini, tmp_path, 20)
    status, output, _ = command.run("run", "p.jsonl", "--keys", "KEY_A", "--dry-run", "--json")
    plan = orjson.loads(output)
    assert status == 0 and gemini.admitted == 0
    assert (plan["prompts"], plan["counted_by_gemini"], plan["wrong"]) == (20, 20, 0)
    assert plan["input_cost"] > 0 and plan["max_cost"] > plan["input_cost"]


def test_the_state_table_has_no_key(gemini: OfflineGemini, tmp_path: Path) -> None:
    command = Command(gemini, tmp_path, 2)
    command.answer_all()
    status, output, _ = command.run("keys", "--keys", "KEY_A")
    assert status == 0 and "KEY_A" in output and "AVAILABLE" in output and "gemini-3.5-flash-lite" in output
    assert "AQ." not in output


def test_a_run_at_the_budget_has_its_own_code(gemini: OfflineGemini, tmp_path: Path) -> None:
    command = Command(gemini, tmp_path, 200)
    status, _, errors = command.answer_all("--budget", "0.002")
    assert status == 3 and "The budget of $0.002 allows no other prompt" in errors
    assert 0 < len(command.lines()) < 200
