"""`gemini-parallel run` with a scripted backend: what is taken, what is written, and why it ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import orjson
from gemini_parallel.command.budget import Budget
from gemini_parallel.command.exit_codes import ExitCode
from gemini_parallel.command.input import read_lines
from gemini_parallel.command.results_file import ResultsFile
from gemini_parallel.command.run import Ending, Run

from shared.batch.backend import BatchOptions, Deliver
from shared.batch.item import Task
from shared.batch.prices import Price
from shared.batch.result import Result
from shared.batch.runner import run as run_workers
from shared.generation import Usage

DOLLAR = Price(1_000_000.0, 0.0)


class Scripted:
    """A backend that answers by a function, and records what it got."""

    def __init__(self, answer: Callable[[Task], Result]) -> None:
        self._answer, self.seen = answer, list[int]()

    async def run(self, tasks: AsyncIterator[Task], options: BatchOptions, deliver: Deliver) -> None:
        async def work(task: Task) -> Result:
            self.seen.append(task.index)
            await asyncio.sleep(0)
            return self._answer(task)

        await run_workers(tasks, work, deliver, workers=options.max_workers)

    async def states(self) -> dict[str, dict[str, Any]]:
        return {}

    async def aclose(self) -> None:
        return None


def good(task: Task) -> Result:
    if task.item is None:
        assert task.problem is not None
        return Result(task.index, None, task.problem.message, task.metadata, task.id, "invalid_request")
    return Result(task.index, f"answer {task.index}", None, task.metadata, task.id, usage=Usage(1, 0, 0, 1), attempts=1)


class Folder:
    def __init__(self, path: Path, prompts: int = 10) -> None:
        self.prompts, self.results = path / "p.jsonl", path / "r.jsonl"
        self.prompts.write_text("".join(f'{{"id": "p{number}", "prompt": "x"}}\n' for number in range(prompts)))

    async def run(
        self,
        backend: Scripted,
        *,
        workers: int = 3,
        budget: Budget | None = None,
        prepare: Callable[[Run], None] = lambda run: None,
        retry_failed: bool = False,
        **more: Any,
    ) -> Ending:
        results = ResultsFile.open(self.results, retry_failed=retry_failed)
        try:
            options = BatchOptions("m", workers)
            run = Run(read_lines(str(self.prompts)), results, backend, options, budget or Budget(None, None), **more)
            prepare(run)
            return await run.go()
        finally:
            results.close()

    def lines(self) -> list[dict[str, Any]]:
        return [orjson.loads(raw) for raw in self.results.read_bytes().splitlines()]

    def ids(self) -> list[str]:
        return sorted(line["id"] for line in self.lines())


async def test_every_prompt_gets_one_line(tmp_path: Path) -> None:
    folder, backend = Folder(tmp_path), Scripted(good)
    assert (await folder.run(backend)).code == ExitCode.OK
    assert folder.ids() == sorted(f"p{number}" for number in range(10))
    again = Scripted(good)
    assert (await folder.run(again)).code == ExitCode.OK
    assert again.seen == [] and len(folder.lines()) == 10


async def test_a_failed_prompt_is_run_again_when_asked(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    with folder.prompts.open("a") as file:
        file.write("{bad\n")
    assert (await folder.run(Scripted(good))).code == ExitCode.FAILED
    assert (await folder.run(again := Scripted(good))).code == ExitCode.FAILED and again.seen == []
    assert (await folder.run(again, retry_failed=True)).code == ExitCode.FAILED
    assert again.seen == [10] and len(folder.lines()) == 11


async def test_exhausted_keys_end_the_run_and_leave_the_rest_open(tmp_path: Path) -> None:
    folder = Folder(tmp_path)

    def answer(task: Task) -> Result:
        if task.index < 4:
            return good(task)
        return Result(task.index, None, "All keys exhausted until 9.", task.metadata, task.id, stops="exhausted")

    ending = await folder.run(backend := Scripted(answer), workers=2)
    assert (ending.code, ending.message) == (ExitCode.EXHAUSTED, "All keys exhausted until 9.")
    assert folder.ids() == ["p0", "p1", "p2", "p3"] and len(backend.seen) <= 6
    assert (await folder.run(Scripted(good))).code == ExitCode.OK
    assert len(folder.ids()) == len(set(folder.ids())) == 10


async def test_a_limit_of_prompts(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    for _ in range(2):
        assert (await folder.run(Scripted(good), limit=3)).code == ExitCode.OK
    assert folder.ids() == [f"p{number}" for number in range(6)]


async def test_an_interrupt_finishes_what_is_in_flight(tmp_path: Path) -> None:
    folder, stop = Folder(tmp_path), list[Callable[[], None]]()

    def answer(task: Task) -> Result:
        if task.index == 4:
            stop[0]()
        return good(task)

    def prepare(run: Run) -> None:
        stop.append(lambda: run.stop(ExitCode.INTERRUPTED, "interrupted"))

    ending = await folder.run(backend := Scripted(answer), prepare=prepare)
    assert ending.code == ExitCode.INTERRUPTED
    assert len(folder.lines()) == len(backend.seen) < 10


async def test_the_budget_ends_the_run(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    ending = await folder.run(Scripted(good), budget=Budget(4.5, DOLLAR))
    assert ending.code == ExitCode.BUDGET and len(folder.lines()) == 4


async def test_a_changed_prompt_is_told_and_not_sent(tmp_path: Path) -> None:
    folder, told = Folder(tmp_path, 2), list[str]()
    await folder.run(Scripted(good))
    folder.prompts.write_text(folder.prompts.read_text().replace('"p1", "prompt": "x"', '"p1", "prompt": "y"'))
    await folder.run(backend := Scripted(good), prepare=lambda run: setattr(run, "warn", told.append))
    assert backend.seen == [] and len(told) == 1 and told[0].startswith("Line 2 (id p1) has changed")


async def test_a_schema_is_for_items_without_one(tmp_path: Path) -> None:
    folder, schemas = Folder(tmp_path, 1), list[Any]()
    with folder.prompts.open("a") as file:
        file.write('{"id": "own", "prompt": "x", "response_schema": {"type": "string"}}\n')

    def answer(task: Task) -> Result:
        schemas.append(task.item.schema if task.item is not None else None)
        return good(task)

    await folder.run(Scripted(answer), schema={"type": "object"})
    assert schemas == [{"type": "object"}, {"type": "string"}]
