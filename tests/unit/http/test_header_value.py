"""A text as a header's value: visible ASCII, or percent-encoded."""

from __future__ import annotations

from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.http.header_value import MAX_HEADER_CHARS, header_value


@pytest.mark.parametrize("text", ["gemini-3.8-flash", "300", "a b", "models/x:y@1,2;q=0.5", "100%", "~", '"quoted"'])
def test_visible_ascii_stays_as_it_is(text: str) -> None:
    assert header_value(text) == text


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("gemini-模型", "gemini-%E6%A8%A1%E5%9E%8B"),
        ("é", "%C3%A9"),
        ("a\r\nb: c", "a%0D%0Ab:%20c"),
        (" a", "%20a"),
        ("a ", "a%20"),
        ("a\tb\x00", "a%09b%00"),
        ("50% 模", "50%25%20%E6%A8%A1"),
        ("\ud83d", "?"),
        ("", ""),
    ],
)
def test_everything_else_is_percent_encoded(text: str, value: str) -> None:
    assert header_value(text) == value


def test_a_long_text_is_cut() -> None:
    assert header_value("g" * 10_000) == "g" * MAX_HEADER_CHARS


@given(st.text())
def test_every_text_becomes_a_field_value(text: str) -> None:
    value = header_value(text)
    assert all(" " <= character <= "~" for character in value)
    assert value == value.strip()
    if value != text and len(text) <= MAX_HEADER_CHARS:
        assert unquote(value) == text
