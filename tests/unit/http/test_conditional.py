"""Ranges lie within the image, and ETags are compared as RFC 9110 says."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import RangeNotSatisfiable
from shared.http.conditional import not_modified, requested_range

ETAG = '"tag"'
NUMBERS = st.integers(0, 10**20).map(str) | st.just("")


@given(NUMBERS, NUMBERS, st.integers(1, 10**9))
def test_a_range_is_ignored_refused_or_within_the_image(first: str, last: str, size: int) -> None:
    try:
        part = requested_range({"range": f"bytes={first}-{last}"}, ETAG, size)
    except RangeNotSatisfiable:
        assert int(first) >= size if first else int(last) == 0
        return
    if part is not None:
        assert 0 <= part[0] < part[1] <= size
        assert part[0] == (int(first) if first else max(0, size - int(last)))


@given(st.text().filter(lambda text: "bytes" not in text.lower()))
def test_other_text_is_not_a_range(text: str) -> None:
    assert requested_range({"range": text}, ETAG, 10) is None


@given(st.lists(st.text(st.characters(exclude_characters='"'))), st.booleans())
def test_a_known_etag_is_found_in_a_list(tags: list[str], known: bool) -> None:
    given_tags = [f'"other {tag}"' for tag in tags] + [f"W/{ETAG}"] * known
    assert not_modified({"if-none-match": ", ".join(given_tags)}, ETAG) == known


@pytest.mark.parametrize("etag", ['"tag"', 'W/"tag"'])
@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ('"tag"', True),
        ('W/"tag"', True),
        ('"a", W/"tag"', True),
        ('"a,tag"', False),
        (" * ", True),
        ('"*"', False),
        ("tag", False),
        ("", False),
    ],
)
def test_strong_and_weak_etags_compare_equal(etag: str, header: str, expected: bool) -> None:
    assert not_modified({"if-none-match": header}, etag) is expected
