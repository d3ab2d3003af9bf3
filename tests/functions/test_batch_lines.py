"""The lines of a batch's items."""

from __future__ import annotations

import orjson
import pytest

from functions.batch.lines import StoredItems, check_lines, items_of
from shared.bounds.json_structure import MAX_VALUES
from shared.errors import BadRequest

LINES = [b'{"prompt": "a"}', b"{bad", b'{"prompt": "c", "system_prompt": "own"}']


@pytest.mark.parametrize("done", [set(), {0}, {1}, {2}, {0, 2}, {0, 1, 2}])
def test_stored_items_without_a_result(done: set[int]) -> None:
    stored = StoredItems(items_of(LINES, {}))
    assert list(stored.left(done)) == [(line, index) for index, line in enumerate(LINES) if index not in done]


def test_common_fields_are_for_items_without_their_own() -> None:
    stored = StoredItems(items_of(LINES, {"system_prompt": "common"}))
    first, bad, own = (stored.task_of(line, index) for line, index in stored.left(set()))
    assert first.item is not None and first.item.system_prompt == "common"
    assert own.item is not None and own.item.system_prompt == "own"
    assert bad.problem is not None and bad.problem.message.startswith("Line 2 is not JSON")


def test_values_of_all_lines_are_counted() -> None:
    """A line with an open string does not hide the lines after it."""
    half = b"[" + b"0," * (MAX_VALUES // 2) + b"0]"
    check_lines([b'{"open', half])
    with pytest.raises(BadRequest, match="more than 500,000 values"):
        check_lines([b'{"open', half, half])


def test_metadata_counts_as_it_is_returned() -> None:
    """White space and the prompt are not returned."""
    stored = StoredItems(
        items_of(
            [orjson.dumps({"prompt": "x" * 2_000_000}), b'{"prompt": "a", "metadata": [1' + b" " * 2_000_000 + b"]}"],
            {},
        )
    )
    assert all(stored.task_of(line, index).item is not None for line, index in stored.left(set()))
