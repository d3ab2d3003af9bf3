""".ci/run with stages that end at once: what its table says, and when it fails. And the sum of the real budgets."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

SCRIPT = (Path(__file__).parents[2] / ".ci" / "run").read_text()
STAGES = re.findall(r'^  "([\w.-]+) +(\d+) ', SCRIPT, re.MULTILINE)
TOTAL_S = int(re.findall(r"^total=(\d+)$", SCRIPT, re.MULTILINE)[0])


def run(folder: Path, *stages: str, total_s: int = 100, path: str = os.environ["PATH"]) -> tuple[int, str]:
    """(status, output) of the script with these stages in place of its own."""
    script, replaced = re.subn(r"^stages=\(\n.*?^\)$", "STAGES", SCRIPT, flags=re.MULTILINE | re.DOTALL)
    assert replaced == 1
    script = script.replace("STAGES", "stages=(" + " ".join(f"'{stage}'" for stage in stages) + ")")
    script = script.replace(f"\ntotal={TOTAL_S}\n", f"\ntotal={total_s}\n")
    file = folder / ".ci" / "run"
    file.parent.mkdir()
    file.write_text(script)
    done = subprocess.run(
        ["bash", str(file)],
        env={**os.environ, "PATH": path},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.stderr == ""
    return done.returncode, done.stdout


def table(output: str) -> list[str]:
    """The verdict on each stage, without the times."""
    rows = output.rpartition("\n\n")[2].splitlines()
    return [re.sub(r" +\d+ s of +-?\d+ s *", ": ", row).strip() for row in rows]


def test_stage_budgets_add_up_to_at_most_20_minutes() -> None:
    """Without setup, whose time depends on the network."""
    assert len(STAGES) >= 6
    assert sum(int(budget) for name, budget in STAGES if name != "setup") <= TOTAL_S <= 1_200


def test_all_stages_pass(tmp_path: Path) -> None:
    status, output = run(tmp_path, "setup 9 true", "lint 9 echo fine", "test 9 true")
    assert (status, table(output)) == (0, ["setup: ok", "lint: ok", "test: ok", "together:"])
    assert "\n== lint: echo fine\nfine\n" in output


def test_stage_over_its_budget_does_not_fail_the_run(tmp_path: Path) -> None:
    """A budget of -1 s is exceeded at once."""
    status, output = run(tmp_path, "lint -1 true", "test 9 true")
    assert (status, table(output)) == (0, ["lint: over its budget", "test: ok", "together:"])


@pytest.mark.parametrize(
    ("stage", "verdict"),
    [
        ("test 9 false", "test: failed (1)"),
        ("test -1 false", "test: failed (1)"),
        ("test 9 echo AQ.some-key", "test: shows a secret: grep -aE"),
    ],
)
def test_failed_stage_ends_the_run(tmp_path: Path, stage: str, verdict: str) -> None:
    status, output = run(tmp_path, "lint 9 true", stage, "fuzz 9 echo never")
    rows = table(output)
    assert status == 1
    assert rows[0] == "lint: ok"
    assert rows[1].startswith(verdict)
    assert rows[2:] == ["together:"]


def test_run_fails_when_no_time_is_left(tmp_path: Path) -> None:
    """Setup is not counted, so it runs although the total is 0."""
    status, output = run(tmp_path, "setup 9 true", "lint 9 true", total_s=0)
    assert status == 1
    assert table(output) == ["setup: ok", "lint was not run, because no time was left.", "together:"]


def test_stage_that_uses_up_the_total_is_stopped(tmp_path: Path) -> None:
    """Its own budget is not what stops it. Here a timeout of the test's own ends every stage at once."""
    timeout = tmp_path / "timeout"
    timeout.write_text('#!/bin/sh\necho "after $2 s"\nexit 124\n')
    timeout.chmod(0o755)
    status, output = run(tmp_path, "lint 600 true", "test 9 true", total_s=77, path=f"{tmp_path}:{os.environ['PATH']}")
    assert "\nafter 77 s\n" in output
    assert (status, table(output)) == (1, ["lint: stopped after 77 s", "together:"])
