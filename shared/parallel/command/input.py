"""Prompts from a JSONL or CSV file, one at a time.

A line that cannot be read is a prompt with a problem, so that the others go on. A prompt is known by its `id`, or else by its
line: a run that is resumed decides the same. Of several lines with one id the first is the prompt, the others are problems.
"""

from __future__ import annotations

import csv
import hashlib
import io
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import orjson

from shared.batch.item import Task
from shared.batch.reading import read_task
from shared.errors import BadRequest

MAX_LINE_BYTES = 64 * 1024 * 1024
_DIGEST_BYTES = 16
_UNDECODED = re.compile("[\udc80-\udcff]")
"""What Python makes of bytes that are not UTF-8."""


class Line(NamedTuple):
    """`number` is the line's in the file, from 1; of a CSV, the last line of its row."""

    number: int
    task: Task
    key: str
    """What the prompt is known by, in this file and in the results."""
    digest: str
    """Of the line's content: it tells whether a prompt was changed after it was answered."""


class InputError(Exception):
    """The file cannot be read at all. The message is one sentence."""


def read_lines(path: str, form: str | None = None) -> Iterator[Line]:
    """`form`: jsonl or csv; None: by the file's name. `-` is standard input. Raises InputError."""
    form = form or ("csv" if path.lower().endswith(".csv") else "jsonl")
    seen: set[bytes] = set()
    with _open(path) as file:
        rows = _csv_rows(file) if form == "csv" else _jsonl_rows(file)
        try:
            for index, (number, data, raw, problem) in enumerate(rows):
                task = read_task(data, index, paths=True, problem=problem)
                yield _line(number, task, raw, seen)
        except OSError as error:
            raise InputError(f"{path} cannot be read ({error.strerror}).") from None


def count_lines(path: str, form: str | None = None) -> int:
    """About how many prompts a file has. Raises OSError."""
    total = 0
    with Path(path).open("rb") as file:
        for raw in file:
            total += bool(raw.strip())
    is_csv = form == "csv" or (form is None and path.lower().endswith(".csv"))
    return max(0, total - is_csv)


def _line(number: int, task: Task, raw: bytes, seen: set[bytes]) -> Line:
    key = f"line {number}"
    if task.id is not None:
        digest = hashlib.blake2b(task.id.encode("utf-8", "surrogatepass"), digest_size=_DIGEST_BYTES).digest()
        if digest in seen:
            problem = BadRequest(
                f"id {task.id!r} is that of an earlier line; give each prompt an id of its own.", field="id"
            )
            task = Task(task.index, None, task.metadata, task.id, problem)
        else:
            seen.add(digest)
            key = f"id {task.id}"
    return Line(number, task, key, hashlib.blake2b(raw, digest_size=8).hexdigest())


def _open(path: str) -> BinaryIO:
    if path == "-":
        # Of its own: Python cannot end while another thread reads the buffer of sys.stdin.
        return os.fdopen(os.dup(sys.stdin.fileno()), "rb")
    try:
        return Path(path).open("rb")
    except IsADirectoryError:
        raise InputError(f"{path} is a directory; name a file of prompts.") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}).") from None


Row = tuple[int, Any, bytes, BadRequest | None]


def _jsonl_rows(file: BinaryIO) -> Iterator[Row]:
    number = 0
    while raw := file.readline(MAX_LINE_BYTES + 1):
        number += 1
        if len(raw) > MAX_LINE_BYTES:
            while raw and not raw.endswith(b"\n"):
                raw = file.readline(1 << 20)
            yield (
                number,
                None,
                b"",
                _problem(number, f"has more than {MAX_LINE_BYTES >> 20} MB; name files by their paths"),
            )
            continue
        if number == 1:
            raw = raw.removeprefix(b"\xef\xbb\xbf")
        raw = raw.strip()
        if not raw:
            continue
        try:
            data = orjson.loads(raw)
        except orjson.JSONDecodeError as error:
            yield number, None, raw, _problem(number, f"is not JSON: {error.msg} at character {error.pos}")
            continue
        problem = None if isinstance(data, dict) else _problem(number, "is not an object with a prompt")
        yield number, data, raw, problem


def _csv_rows(file: BinaryIO) -> Iterator[Row]:
    """A row that is not UTF-8 or not CSV is a problem: a wrong prompt must not be paid for."""
    csv.field_size_limit(MAX_LINE_BYTES)
    text = io.TextIOWrapper(file, encoding="utf-8-sig", errors="surrogateescape", newline="")
    reader = csv.DictReader(text, restkey="", strict=True)
    try:
        names = reader.fieldnames
    except csv.Error as error:
        raise InputError(f"The CSV's first line cannot be read: {error}.") from None
    if not names or "prompt" not in names:
        raise InputError("The CSV's first line must name the columns, and one of them `prompt`.")
    while True:
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield reader.line_num, None, b"", _problem(reader.line_num, f"is not CSV: {error}")
            continue
        number, extra = reader.line_num, row.pop("", None)
        joined = "\0".join(cell or "" for cell in row.values())
        raw = joined.encode("utf-8", "surrogateescape")
        if extra:
            yield number, None, raw, _problem(number, "has more cells than the first line has columns; quote commas")
        elif _UNDECODED.search(joined):
            yield number, None, raw, _problem(number, "is not UTF-8; save the file as UTF-8")
        else:
            yield _csv_row(number, row, raw)


def _csv_row(number: int, row: dict[str, str | None], raw: bytes) -> Row:
    data: dict[str, Any] = {}
    for name, cell in row.items():
        if cell is None or (not cell and name != "prompt"):
            continue
        value: Any = cell
        if name != "prompt" and cell[:1] in "[{":
            try:
                value = orjson.loads(cell)
            except orjson.JSONDecodeError as error:
                return number, None, raw, _problem(number, f"has a cell {name} that is not JSON: {error.msg}")
        data[name] = value
    return number, data, raw, None


def _problem(number: int, what: str) -> BadRequest:
    return BadRequest(f"Line {number} {what}.", field="line")
