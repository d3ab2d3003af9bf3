"""What every store refuses alike; the contract suite shows that each one does."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.stores.rules import is_id, prefix_end, split_key, split_prefix

TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)


@given(TEXT, TEXT)
def test_after_all_bounds_exactly_the_prefix(prefix: str, other: str) -> None:
    if not prefix.rstrip("\U0010ffff"):
        with pytest.raises(ValueError, match="An empty prefix has no upper bound"):
            prefix_end(prefix)
        return
    above = prefix_end(prefix)
    assert prefix + other < above
    assert (prefix <= other < above) == other.startswith(prefix)
    assert prefix.encode() < above.encode(), "the order of code points is that of UTF-8 bytes, so it can be encoded too"


def test_a_key_is_split_once() -> None:
    assert split_key("ledger/u-1") == ("ledger", "u-1")
    assert split_prefix("ledger/", 1) == ("ledger", "")
    assert split_prefix("ledger/u-", 1) == ("ledger", "u-")


@pytest.mark.parametrize("text", ["a", "...", "__", "___", "__a", "a__", "é" * 750])
def test_an_id_is_what_firestore_takes(text: str) -> None:
    assert is_id(text)


@pytest.mark.parametrize("text", ["", ".", "..", "____", "__\n__", "a/b", "é" * 751, "\udfff"])
def test_and_nothing_else(text: str) -> None:
    assert not is_id(text)


def test_a_refusal_shows_little_of_a_long_key() -> None:
    with pytest.raises(ValueError) as caught:
        split_key("x" * 5000)
    assert len(str(caught.value)) < 300
