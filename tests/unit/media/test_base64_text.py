"""Base64 in every form that clients write, and nothing that is not the whole of it."""

from __future__ import annotations

import base64
import contextlib
import textwrap
import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from shared.media.base64_text import decode

BOTH = b"\xfb\xef\xff\xfe"
"""In base64 it has the characters that the two alphabets write differently."""
FORMS = {
    "standard": lambda data: base64.b64encode(data).decode(),
    "standard, unpadded": lambda data: base64.b64encode(data).decode().rstrip("="),
    "URL-safe": lambda data: base64.urlsafe_b64encode(data).decode(),
    "URL-safe, unpadded": lambda data: base64.urlsafe_b64encode(data).decode().rstrip("="),
    "in lines": lambda data: base64.encodebytes(data).decode(),
    "in lines of CRLF": lambda data: base64.encodebytes(data).decode().replace("\n", "\r\n"),
    "indented": lambda data: textwrap.indent(base64.encodebytes(data).decode(), "\t  "),
    "data URL": lambda data: f"data:image/png;base64,{base64.b64encode(data).decode()}",
    "data URL with parameters": lambda data: f"DATA:image/png;name=a.png;BASE64,{base64.b64encode(data).decode()}",
    "data URL, escaped": lambda data: (
        "data:;base64," + base64.b64encode(data).decode().replace("+", "%2B").replace("/", "%2F").replace("=", "%3D")
    ),
}


@pytest.mark.parametrize("form", FORMS)
@given(st.binary(max_size=200))
@example(BOTH)
@example(b"")
def test_every_form_gives_back_the_bytes(form: str, data: bytes) -> None:
    assert decode(FORMS[form](data)) == data


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("hello!", "'!' is not a base64 character"),
        ("aGVs bG8=", "' ' is not a base64 character"),
        ("aGVs\x00bG8=", "not a base64 character"),
        ("aGVsbG8é", "only ASCII"),
        ("++__", "both"),
        ("-A/A", "both"),
        ("aGVsbG8==", "its length is wrong"),
        ("aGVsbA=", "its length is wrong"),
        ("aGVs=", "its length is wrong"),
        ("aGVs====", "its length is wrong"),
        ("aGVsb", "its length is wrong"),
        ("aGVs=bG8", "'=' is not a base64 character"),
        ("=", "its length is wrong"),
        ("aGVsbG9=", "does not end a byte"),
        ("aGVsbB", "does not end a byte"),
        ("data:image/png,hello", "must be in base64"),
        ("data:image/png;base64", "must be in base64"),
        ("data:image/png;base64,%zz", "'%' is not a base64 character"),
        ("data:image/png;base64,%41GVs", "'%' is not a base64 character"),
        ("aGVs\nbG 8=\n", "' ' within a line"),
    ],
)
def test_anything_else_is_rejected_with_the_rule(text: str, rule: str) -> None:
    with pytest.raises(ValueError, match=rule):
        decode(text)


@given(st.text(max_size=60))
def test_any_text_is_decoded_or_rejected(text: str) -> None:
    try:
        assert isinstance(decode(text), bytes)
    except ValueError as rule:
        assert str(rule).startswith(("must ", "is "))


@given(st.binary(min_size=1, max_size=100), st.data())
def test_one_character_less_is_never_the_same_bytes(data: bytes, draw: st.DataObject) -> None:
    text = base64.b64encode(data).decode()
    at = draw.draw(st.integers(0, len(text.rstrip("=")) - 1))
    with contextlib.suppress(ValueError):
        assert decode(text[:at] + text[at + 1 :]) != data


@pytest.mark.parametrize("unit", ["A", "=", "\n", " \n", "A\n", "-", "+/-_", "%2B", " ", "A ", "A \n", "data:;base64,"])
def test_time_is_linear_in_the_length(unit: str) -> None:
    began_s = time.process_time()
    for text in (unit * (8 * 2**20 // len(unit)), "data:;base64," + unit * (8 * 2**20 // len(unit))):
        with contextlib.suppress(ValueError):
            decode(text)
    assert time.process_time() - began_s < 5.0
