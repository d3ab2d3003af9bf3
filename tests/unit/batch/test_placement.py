"""Where the media of a prompt go."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.batch.placement import place

KINDS = ("video", "audio", "image", "pdf")


@pytest.mark.parametrize(
    ("prompt", "media", "parts"),
    [
        ("Hello", {}, ["Hello"]),
        ("Hello", {"audio": ["A"], "video": ["V", "W"]}, ["V", "W", "A", "Hello"]),
        ("One <audio> two", {"audio": ["A"]}, ["One ", "A", " two"]),
        ("<audio>", {"audio": ["A"]}, ["A"]),
        ("<video> and <audio>", {"audio": ["A"], "video": ["V"]}, ["V", " and ", "A"]),
        ("<audio><audio>", {"audio": ["A", "B"]}, ["A", "B"]),
        ("x <audio> y", {"audio": ["A", "B"], "video": ["V"]}, ["x ", "A", " y", "B", "V"]),
        ("x <audio> y <video>", {"video": ["V"]}, ["x  y ", "V"]),
        ("only <video> text", {}, ["only  text"]),
        ("<image> tag", {}, ["<image> tag"]),
        ("<image> tag", {"image": ["I"]}, ["I", " tag"]),
        ("<image> of <audio>", {"audio": ["A"]}, ["<image> of ", "A"]),
        ("see", {"pdf": ["P"], "image": ["I"], "audio": ["A"]}, ["A", "I", "P", "see"]),
        ("<pdf>", {"pdf": ["P", "Q"], "image": ["I"], "audio": ["A"]}, ["P", "A", "I", "Q"]),
        ("<AUDIO> <audio >", {"audio": ["A"]}, ["A", "<AUDIO> <audio >"]),
        ("", {"audio": ["A"]}, ["A"]),
    ],
)
def test_parts_are_in_the_documented_order(prompt: str, media: dict[str, list[str]], parts: list[str]) -> None:
    assert list(place(prompt, media).parts) == parts


def test_a_token_without_a_file_is_told() -> None:
    placed = place("<audio> <audio> <video>", {"audio": ["A"]})
    assert placed.parts == ("A",)
    assert placed.warnings == (
        "1 token <audio> had no file and was removed.",
        "1 token <video> had no file and was removed.",
    )


@given(
    st.lists(st.sampled_from(["<audio>", "<video>", "<image>", "<pdf>", "word", " "]), max_size=12),
    st.fixed_dictionaries({kind: st.integers(0, 3) for kind in KINDS}),
)
def test_every_file_is_placed_once_in_its_order(words: list[str], counts: dict[str, int]) -> None:
    media = {kind: [(kind, number) for number in range(count)] for kind, count in counts.items() if count}
    parts = place("".join(words), media).parts
    for kind, files in media.items():
        assert [part for part in parts if isinstance(part, tuple) and part[0] == kind] == files
    text = "".join(part for part in parts if isinstance(part, str))
    assert text.count("word") == words.count("word")
    assert "<audio>" not in text and "<video>" not in text
