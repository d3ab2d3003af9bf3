"""The file of results: whole lines, one for each prompt, whatever ends the run."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

import orjson
import pytest
from gemini_parallel.command.input import Line
from gemini_parallel.command.results_file import ResultsError, ResultsFile

from shared.batch.item import Task
from shared.batch.result import Result
from shared.generation import Usage


def line(number: int) -> Line:
    return Line(number, Task(number, None, id=f"p{number}"), f"id p{number}", f"digest {number}")


def result(number: int, error: str | None = None) -> Result:
    text = None if error else f"answer {number}"
    return Result(number, text, error, {"n": number}, f"p{number}", usage=Usage(1, 2, 0, 3), key="KEY_A")


async def write(path: Path, *results: Result, retry_failed: bool = False) -> None:
    file = ResultsFile.open(path, retry_failed=retry_failed)
    try:
        await asyncio.gather(*(file.deliver(line(one.index), one) for one in results))
    finally:
        file.close()


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def ids(path: Path) -> list[str]:
    return [orjson.loads(raw)["id"] for raw in path.read_bytes().splitlines()]


async def test_a_line_has_what_a_reader_needs(tmp_path: Path) -> None:
    path = tmp_path / "new" / "r.jsonl"
    await write(path, result(1))
    found = orjson.loads(path.read_bytes())
    assert found["response"] == "answer 1" and found["error"] is None and found["metadata"] == {"n": 1}
    assert (found["line"], found["api_key"], found["usage"]["total_tokens"]) == (1, "KEY_A", 3)


async def test_a_later_run_knows_what_is_done(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    await write(path, result(1), result(2, "wrong"))
    file = ResultsFile.open(path)
    assert {key: (known.digest, known.failed) for key, known in file.known.items()} == {
        "id p1": ("digest 1", False),
        "id p2": ("digest 2", True),
    }
    file.close()


@pytest.mark.parametrize("cut", [2, 5, 40])
async def test_an_unfinished_line_is_removed(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "r.jsonl"
    await write(path, result(1), result(2))
    whole = path.read_bytes()
    path.write_bytes(whole[:-cut])
    file = ResultsFile.open(path)
    lengths = [len(raw) + 1 for raw in whole.splitlines()]
    assert list(file.known) == ["id p1"] and file.torn_bytes == lengths[1] - cut
    await file.deliver(line(3), result(3))
    file.close()
    assert ids(path) == ["p1", "p3"]


async def test_failed_prompts_are_removed_to_be_run_again(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    await write(path, result(1), result(2, "wrong"), result(3))
    await write(path, result(2), retry_failed=True)
    assert ids(path) == ["p1", "p3", "p2"]
    assert names_in(tmp_path) == ["r.jsonl"]


async def test_two_runs_cannot_share_a_file(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    file = ResultsFile.open(path)
    with pytest.raises(ResultsError, match="is in use by another run"):
        ResultsFile.open(path)
    file.close()
    ResultsFile.open(path).close()


async def test_a_line_without_its_break_is_kept(tmp_path: Path) -> None:
    """It is paid for."""
    path = tmp_path / "r.jsonl"
    await write(path, result(1), result(2))
    path.write_bytes(path.read_bytes()[:-1])
    await write(path, result(3))
    assert ids(path) == ["p1", "p2", "p3"]


async def test_an_unfinished_first_line_is_removed(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    await write(path, result(1))
    path.write_bytes(path.read_bytes()[:40])
    await write(path, result(2))
    assert ids(path) == ["p2"]


@pytest.mark.parametrize(
    "content",
    [
        b"hello\n", b'{"id": 1}\n', b"[]\n", b"hello", b'{"id":"a","prompt":"x"}', b'{"prompt":"x"}', b"{", b"\xff",
        b'{"id":"a","prompt":"a long prompt that is not fin',
    ],
)  # fmt: skip
async def test_another_file_is_not_taken_for_results(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "notes.txt"
    path.write_bytes(content)
    with pytest.raises(ResultsError, match="line 1: this is no result"):
        ResultsFile.open(path)
    assert path.read_bytes() == content


async def test_waiting_lines_are_written_together(tmp_path: Path) -> None:
    """Each line would otherwise wait for the disk by itself."""
    path, synced = tmp_path / "r.jsonl", 0
    file = ResultsFile.open(path)

    def fsync(descriptor: int) -> None:
        nonlocal synced
        synced += 1
        os.fsync(descriptor)

    file._fsync = fsync
    await asyncio.gather(*(file.deliver(line(number), result(number)) for number in range(200)))
    file.close()
    assert sorted(ids(path)) == sorted(f"p{number}" for number in range(200))
    assert synced < 100


async def test_a_result_counts_only_once_it_is_on_the_disk(tmp_path: Path) -> None:
    file = ResultsFile.open(tmp_path / "r.jsonl")
    allowed = asyncio.Event()
    loop = asyncio.get_running_loop()

    def fsync(descriptor: int) -> None:
        asyncio.run_coroutine_threadsafe(allowed.wait(), loop).result(60)

    file._fsync = fsync
    waiting = asyncio.create_task(file.deliver(line(1), result(1)))
    done, _ = await asyncio.wait([waiting], timeout=0.05)
    assert not done
    allowed.set()
    await asyncio.wait_for(waiting, 60)
    file.close()


def full_after(size_bytes: int) -> Callable[[int, bytes], int]:
    """A disk with so much room: a write takes what fits, the next one fails."""
    left = size_bytes

    def write(descriptor: int, data: bytes) -> int:
        nonlocal left
        if not left:
            raise OSError(28, "No space left on device")
        written = os.write(descriptor, data[:left])
        left -= written
        return written

    return write


async def test_removing_failed_prompts_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk becomes full meanwhile: the file stays as it is."""
    path = tmp_path / "r.jsonl"
    await write(path, result(1), result(2, "wrong"), result(3))
    path.chmod(0o600)
    before = path.read_bytes()

    def full(file: object, data: bytes) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("gemini_parallel.command.results_file._write_whole", full)
        with pytest.raises(ResultsError, match="No space left"):
            ResultsFile.open(path, retry_failed=True)
    assert path.read_bytes() == before and names_in(tmp_path) == ["r.jsonl"]
    ResultsFile.open(path, retry_failed=True).close()
    assert ids(path) == ["p1", "p3"] and path.stat().st_mode & 0o777 == 0o600


async def test_metadata_that_cannot_be_written_cost_no_answer(tmp_path: Path) -> None:
    path, deep = tmp_path / "r.jsonl", []
    for _ in range(400):
        deep = [deep]
    await write(path, Result(1, "answer", None, deep, "p1"))
    found = orjson.loads(path.read_bytes())
    assert found["response"] == "answer" and "left out" in found["warnings"][0]


@pytest.mark.parametrize("room", [0, 1, 100, 250])
async def test_a_full_disk_leaves_whole_lines(tmp_path: Path, room: int) -> None:
    path = tmp_path / "r.jsonl"
    file = ResultsFile.open(path)
    file._write = full_after(room)
    delivered = []
    with pytest.raises(ResultsError, match="No space left on device"):
        for number in range(10):
            await file.deliver(line(number), result(number))
            delivered.append(f"p{number}")
    with pytest.raises(ResultsError, match="No space left"):
        await file.deliver(line(20), result(20))
    file.close()
    assert ids(path) == delivered
    await write(path, result(21))
    assert ids(path) == [*delivered, "p21"]
