"""How many values and names a JSON text has, counted without parsing it."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.bounds.json_structure import MAX_VALUES, TooManyValues, ValueCounter, check_values

_TEXTS = st.text(alphabet='a"\\,:[{é\n', max_size=8)
_VALUES = st.recursive(
    st.none() | st.integers(-9, 9) | _TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_TEXTS, inner, max_size=4),
    max_leaves=30,
)


def values_of(value: Any) -> int:
    """Values and names, but for the outermost value."""
    if isinstance(value, dict):
        return sum(2 + values_of(one) for one in value.values())
    return sum(1 + values_of(one) for one in value) if isinstance(value, list) else 0


def containers_of(value: Any) -> int:
    inner = list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else None
    return 0 if inner is None else 1 + sum(map(containers_of, inner))


@settings(deadline=None)
@given(_VALUES, st.lists(st.integers(1, 5), min_size=1, max_size=5))
def test_the_count_bounds_the_values_wherever_it_is_cut(value: Any, sizes: list[int]) -> None:
    text = orjson.dumps(value)
    whole, cut = ValueCounter(), ValueCounter()
    whole.feed(text)
    at = number = 0
    while at < len(text):
        size = sizes[number % len(sizes)]
        cut.feed(text[at : at + size])
        at, number = at + size, number + 1
    assert whole.count == cut.count
    assert values_of(value) <= whole.count <= values_of(value) + containers_of(value)


@pytest.mark.parametrize("text", ["a, b: [c], {d}", '\\"', "\\\\", '", ["'])
def test_texts_have_no_bound_but_their_bytes(text: str) -> None:
    check_values(orjson.dumps({"prompt": text * (4 * MAX_VALUES // len(text))}))


@pytest.mark.parametrize("unit", [b"[],", b"{},", b'{"a":1},', b"1,", b'"",', b'"a":1,', b"[[", b'""', b'"'])
def test_structure_of_every_kind_is_bounded(unit: bytes) -> None:
    with pytest.raises(TooManyValues, match="500,000"):
        check_values(b"[" + unit * (3 * MAX_VALUES))


def test_what_a_long_conversation_has_is_within_the_bound() -> None:
    turns = [{"role": "user", "parts": [{"text": "x"}]}] * 50_000
    check_values(orjson.dumps({"contents": turns, "generation_config": {"temperature": 1}}))


def test_what_embeddings_have_is_within_the_bound() -> None:
    check_values(orjson.dumps({"embeddings": [{"values": [0.123456] * 3072}] * 100}))
