"""The results of a run: one JSON line for each prompt, on the disk before its worker takes another prompt.

    open      locks the file, reads which prompts have a result, and cuts off a last line that a killed run left unfinished
    deliver   returns when the line is on the disk (fsync); a writer thread takes all lines that wait with one write
    failure   what was written of the lines is cut off again, and every later line fails too: the run ends, and can be resumed

So a prompt has at most one line, and a run that is killed loses only answers that were under way: at most max_workers.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import orjson

from shared.batch.result import Result

from .input import MAX_LINE_BYTES, Line

_START = b'{"id":'
"""How each line begins."""
_BEGIN = re.compile(rb'\{"id":(null|"([^"\\]|\\.)*"?|[nul]*),?("line":|$|"l)')
"""How the first line of a file may begin that a run has left unfinished: no file of prompts has the line's number there."""


class ResultsError(Exception):
    """The results cannot be read or written. The message is a sentence, then what to do."""


class Known(NamedTuple):
    """What the file has of one prompt."""

    digest: str
    failed: bool


class ResultsFile:
    """`write` and `fsync` are those of `os`; tests replace them."""

    def __init__(
        self,
        path: Path,
        file: BinaryIO,
        known: dict[str, Known],
        torn_bytes: int,
        write: Callable[[int, bytes], int] = os.write,
        fsync: Callable[[int], None] = os.fsync,
    ) -> None:
        self.path, self.known, self.torn_bytes = path, known, torn_bytes
        """`torn_bytes`: what was cut off when the file was opened."""
        self._file, self._write, self._fsync = file, write, fsync
        self._end = os.fstat(file.fileno()).st_size
        self._waiting: list[tuple[bytes, asyncio.Future[None], asyncio.AbstractEventLoop]] = []
        self._changed = threading.Condition()
        self._failure: ResultsError | None = None
        self._closing = False
        self._writer = threading.Thread(target=self._write_all, name="results", daemon=True)
        self._writer.start()

    @classmethod
    def open(cls, path: Path, *, retry_failed: bool = False) -> ResultsFile:
        """`retry_failed`: removes the lines of failed prompts, so that they are run again. Raises ResultsError."""
        try:
            path = path.resolve()  # Of a link, the file is continued and replaced, not the link.
            path.parent.mkdir(parents=True, exist_ok=True)
            file = _locked(path)
            known, end = _read(path)
            torn_bytes = _repaired(path, file, known, end)
            if retry_failed and any(one.failed for one in known.values()):
                file = _without_failed(path, file)
                known = {key: one for key, one in known.items() if not one.failed}
            file.seek(0, os.SEEK_END)
        except OSError as error:
            raise ResultsError(f"{path} cannot be used for results ({error.strerror}). Name another file.") from None
        return cls(path, file, known, torn_bytes)

    async def deliver(self, line: Line, result: Result) -> None:
        """Returns when the result is on the disk. Raises ResultsError."""
        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()
        with self._changed:
            if self._failure is not None:
                raise self._failure
            self._waiting.append((encoded(line, result), done, loop))
            self._changed.notify()
        await asyncio.shield(done)

    def close(self) -> None:
        """Returns when all lines are on the disk, or cannot be."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._writer.join()
        self._file.close()

    def _write_all(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closing)
                if not self._waiting:
                    return
                taken, self._waiting = self._waiting, []
            failure = self._failure or self._append(b"".join(data for data, _, _ in taken))
            for _, done, loop in taken:
                with suppress(RuntimeError):  # The program ends, and its loop is closed.
                    loop.call_soon_threadsafe(_complete, done, failure)

    def _append(self, data: bytes) -> ResultsError | None:
        descriptor = self._file.fileno()
        try:
            left = memoryview(data)
            while left:
                left = left[self._write(descriptor, bytes(left)) :]
            self._fsync(descriptor)
            self._end += len(data)
            return None
        except OSError as error:
            with suppress(OSError):
                os.ftruncate(descriptor, self._end)
            reason = error.strerror or str(error)
            self._failure = ResultsError(
                f"The results cannot be written to {self.path} ({reason}). Make room; the same command then continues."
            )
            return self._failure


def encoded(line: Line, result: Result) -> bytes:
    """One line of the file. Metadata that are nested too deep to be written are left out: the answer is paid for."""
    found = as_json(line, result)
    try:
        return orjson.dumps(found, default=str) + b"\n"
    except TypeError:
        warning = "The metadata cannot be written as JSON, and were left out."
        return orjson.dumps({**found, "metadata": None, "warnings": [*found["warnings"], warning]}) + b"\n"


def as_json(line: Line, result: Result) -> dict[str, Any]:
    """One line of the file. `key` is what the prompt is known by, `digest` that of its line."""
    usage = result.usage
    return {
        "id": result.id,
        "line": line.number,
        "metadata": result.metadata,
        "response": result.response,
        "error": result.error,
        "code": result.code,
        "model": result.model,
        "finish_reason": result.finish_reason,
        "warnings": list(result.warnings),
        "usage": None if usage.total_tokens is None and usage.prompt_tokens is None else usage._asdict(),
        "api_key": result.key,
        "seconds": round(result.seconds, 3),
        "attempts": result.attempts,
        "key": line.key,
        "digest": line.digest,
    }


def _complete(done: asyncio.Future[None], failure: ResultsError | None) -> None:
    if done.done():
        return
    if failure is None:
        done.set_result(None)
    else:
        done.set_exception(failure)


def _locked(path: Path) -> BinaryIO:
    while True:
        file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644), "r+b", buffering=0)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            raise ResultsError(f"{path} is in use by another run. Wait for it, or name another file.") from None
        # Another run may have replaced the file between its opening and the lock.
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                return file
        file.close()


def lines_of(path: Path) -> Iterator[tuple[int, bytes]]:
    """(offset of the end, line) of each complete line."""
    end = 0
    with path.open("rb") as file:
        while (raw := file.readline(4 * MAX_LINE_BYTES)).endswith(b"\n"):
            end += len(raw)
            yield end, raw


def known_results(path: Path) -> dict[str, Known]:
    """What a file of results has, without opening it for a run; {} if there is none. Raises ResultsError."""
    if not path.exists():
        return {}
    known, end = _read(path)
    _tail(path, known, end)
    return known


def _read(path: Path) -> tuple[dict[str, Known], int]:
    """What the file has of each prompt, and where its last complete line ends."""
    known: dict[str, Known] = {}
    complete = 0
    for number, (end, raw) in enumerate(lines_of(path), 1):
        if not _is_result(raw, known):
            raise _foreign(path, number)
        complete = end
    return known, complete


def _is_result(raw: bytes, known: dict[str, Known]) -> bool:
    """Whether a line is a result, which is then added to `known`."""
    try:
        data = orjson.loads(raw)
        known[data["key"]] = Known(data["digest"], data["error"] is not None)
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return False
    return True


def _foreign(path: Path, number: int) -> ResultsError:
    return ResultsError(
        f"{path}, line {number}: this is no result of gemini-parallel. Name another file for the results."
    )


def _repaired(path: Path, file: BinaryIO, known: dict[str, Known], end: int) -> int:
    """Removes what a killed run left of its last line, and returns how much that was; a whole line gets its line break. Raises
    ResultsError, OSError."""
    tail = _tail(path, known, end)
    if not tail:
        return 0
    if _is_result(tail, known):
        file.seek(0, os.SEEK_END)
        _write_whole(file, b"\n")
        os.fsync(file.fileno())
        return 0
    os.ftruncate(file.fileno(), end)
    os.fsync(file.fileno())
    return len(tail)


def _tail(path: Path, known: dict[str, Known], end: int) -> bytes:
    """What follows the last complete line. Raises ResultsError if no run of this command can have left it."""
    with path.open("rb") as file:
        file.seek(end)
        tail = file.read()
    if not tail or _is_result(tail, dict(known)):
        return tail
    is_first = not known and (len(tail) <= len(_START) or not _BEGIN.match(tail))
    if not _START.startswith(tail[: len(_START)]) or is_first:
        raise _foreign(path, len(known) + 1)
    return tail


def _write_whole(file: BinaryIO, data: bytes) -> None:
    """A file without a buffer may take a part at a time."""
    left = memoryview(data)
    while left:
        left = left[file.write(left) :]


def _without_failed(path: Path, old: BinaryIO) -> BinaryIO:
    """Replaces the file by one without the failed prompts, at once: a run that is killed meanwhile leaves the old or the new."""
    temporary = path.with_name(path.name + ".new")
    temporary.unlink(missing_ok=True)
    new = _locked(temporary)
    try:
        os.fchmod(new.fileno(), os.fstat(old.fileno()).st_mode & 0o777)
        for _, raw in lines_of(path):
            if orjson.loads(raw)["error"] is None:
                _write_whole(new, raw)
        os.fsync(new.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        new.close()
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
    old.close()
    return new
