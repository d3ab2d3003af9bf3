"""The lines of a batch: items as they are stored, and results as they are stored and sent. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

import orjson

from shared.batch.item import Task
from shared.batch.reading import read_task
from shared.batch.result import Result
from shared.bounds.json_structure import MAX_VALUES, TooManyValues, ValueCounter
from shared.errors import BadRequest

MAX_METADATA_BYTES = 1024 * 1024
"""Of one item, as JSON: a response that is full at 8 MB still takes one result before the platform's 10 MB."""


def lines_of_body(body: bytes) -> list[bytes]:
    """The lines of a JSONL body that are not empty. A line that is not JSON stays as it is: its item gets an error."""
    return [line for raw in body.removeprefix(b"\xef\xbb\xbf").split(b"\n") if (line := raw.strip())]


def check_lines(lines: Iterable[bytes]) -> None:
    """Counts values in all lines together, as in a JSON body. A string ends with its line. Raises BadRequest."""
    left = MAX_VALUES
    for line in lines:
        counter = ValueCounter(left)
        try:
            counter.feed(line)
        except TooManyValues:
            raise BadRequest(
                f"The lines have {TooManyValues(MAX_VALUES)}; send fewer in one request.",
                details={"limit_values": MAX_VALUES},
            ) from None
        left -= counter.count


def items_of(lines: list[bytes], common: dict[str, Any]) -> bytes:
    """What is stored of a batch: `common`, the fields of items without their own, and a line for each item."""
    return b"\n".join([orjson.dumps(common), *lines])


class StoredItems:
    """The items of a stored batch."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._first = data.index(b"\n") + 1
        self._common: dict[str, Any] = orjson.loads(data[: self._first])

    def left(self, done: set[int]) -> Iterator[tuple[bytes, int]]:
        """The line and the index of each item that has no result yet. Not a list: a body may be large."""
        start, index = self._first, 0
        while start <= len(self._data):
            end = self._data.find(b"\n", start)
            end = len(self._data) if end < 0 else end
            if index not in done:
                yield self._data[start:end], index
            start, index = end + 1, index + 1

    def task_of(self, line: bytes, index: int) -> Task:
        return task_of(line, index, self._common)


def task_of(line: bytes, index: int, common: dict[str, Any]) -> Task:
    try:
        data = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        problem = BadRequest(
            f"Line {index + 1} is not JSON: {error.msg} at character {error.pos}.", field=f"items[{index}]"
        )
        return read_task(None, index, paths=False, problem=problem)
    task = read_task(data, index, paths=False)
    if len(line) > MAX_METADATA_BYTES and len(orjson.dumps(task.metadata)) > MAX_METADATA_BYTES:
        problem = BadRequest(
            f"metadata has more than {MAX_METADATA_BYTES >> 20} MB, and is returned with the result; send less.",
            field="metadata",
        )
        return replace(task, item=None, metadata={}, problem=problem)
    if task.item is None:
        return task
    schema, system = common.get("response_schema"), common.get("system_prompt")
    item = task.item
    if item.schema is None and schema is not None:
        item = replace(item, schema=schema)
    if item.system_prompt is None and system is not None:
        item = replace(item, system_prompt=system)
    return replace(task, item=item)


def result_line(result: Result) -> bytes:
    error = None if result.error is None else {"code": result.code, "message": result.error}
    return _line(
        type="result",
        index=result.index,
        id=result.id,
        metadata=result.metadata,
        response=result.response,
        error=error,
        model=result.model,
        finish_reason=result.finish_reason,
        warnings=list(result.warnings),
        usage=result.usage._asdict(),
    )


def first_line(batch_id: str, total: int, done: int) -> bytes:
    return _line(type="batch", batch_id=batch_id, total=total, done=done)


def continue_line(url: str, done: int, total: int, stop: Result | None, now_s: float) -> bytes:
    """`stop`: an item's result that says why the others would fail in the same way now. `now_s`: Unix time."""
    if stop is None:
        return _line(type="continue", url=url, done=done, total=total)
    retry_after = None if stop.retry_at_s is None else round(max(0.0, stop.retry_at_s - now_s), 3)
    error = {"code": stop.code, "message": stop.error}
    return _line(type="continue", url=url, done=done, total=total, error=error, retry_after=retry_after)


def done_line(total: int, failed: int) -> bytes:
    return _line(type="done", total=total, failed=failed)


def _line(**fields: Any) -> bytes:
    return orjson.dumps(fields) + b"\n"
