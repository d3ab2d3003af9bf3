"""An image's name: unguessable, newest first in alphabetical order, and nothing else is one."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from shared.media.names import EXTENSIONS, created_ms, is_name, made_until, new_name

TIMES = st.integers(0, 4_102_444_800_000)
TOKENS = st.binary(min_size=16, max_size=16).map(bytes.hex)


@given(TIMES, TOKENS, st.sampled_from([*EXTENSIONS, "image/other"]))
def test_name_has_creation_time_and_randomness(now_ms: int, token: str, mime_type: str) -> None:
    name = new_name(now_ms, token, mime_type)
    assert is_name(name)
    assert created_ms(name) == now_ms
    assert name[12:].startswith(f"{token}.")


@given(TIMES, TIMES, TOKENS, TOKENS)
def test_the_newer_sorts_first(one_ms: int, other_ms: int, one: str, other: str) -> None:
    names = [new_name(one_ms, one, "image/png"), new_name(other_ms, other, "image/jpeg")]
    times = [created_ms(name) for name in sorted(names)]
    assert times == sorted(times, reverse=True)


@given(TIMES, TIMES, TOKENS)
def test_the_end_of_an_images_time_is_a_place_in_the_order(made_ms: int, time_ms: int, token: str) -> None:
    assert (new_name(made_ms, token, "image/png") > made_until(time_ms)) == (made_ms <= time_ms)


@given(st.text(max_size=60) | st.from_regex(r"[0-9a-fA-F/.]{40,48}\.(png|jpg|exe)", fullmatch=True))
def test_nothing_else_is_a_name(text: str) -> None:
    assert is_name(text) == (re.fullmatch(r"[0-9a-f]{44}\.(png|jpg|webp|gif|avif|heic|heif|bin)", text) is not None)


def test_nothing_was_made_before_1970() -> None:
    assert made_until(-1) == made_until(0)
