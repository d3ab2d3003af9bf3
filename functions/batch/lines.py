"""The lines of a batch: items as they are stored, and results as they are stored and sent. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import orjson

from shared.batch.item import Task
from shared.batch.reading import read_task
from shared.batch.result import Result
from shared.errors import BadRequest


def lines_of_body(body: bytes) -> list[bytes]:
    """The lines of a JSONL body that are not empty. A line that is not JSON stays as it is: its item gets an error."""
    return [line for raw in body.removeprefix(b"\xef\xbb\xbf").split(b"\n") if (line := raw.strip())]


def tasks(items: bytes, done: set[int], options: dict[str, Any]) -> Iterator[Task]:
    """The items that have no result yet."""
    for index, line in enumerate(items.split(b"\n")):
        if index not in done:
            yield task_of(line, index, options)


def task_of(line: bytes, index: int, options: dict[str, Any]) -> Task:
    try:
        data = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        problem = BadRequest(
            f"Line {index + 1} is not JSON: {error.msg} at character {error.pos}.", field=f"items[{index}]"
        )
        return read_task(None, index, paths=False, problem=problem)
    task = read_task(data, index, paths=False)
    if task.item is None:
        return task
    schema, system = options.get("response_schema"), options.get("system_prompt")
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
