"""Server-sent events: the same events however the bytes are split, and no more memory than the bound."""

from __future__ import annotations

import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.gemini.sse import EventTooLarge, SseParser


def parse(*chunks: bytes) -> list[bytes]:
    parser = SseParser()
    return [event for chunk in chunks for event in parser.feed(chunk)]


@pytest.mark.parametrize("ending", [b"\r\n", b"\n", b"\r"], ids=["CRLF", "LF", "CR"])
def test_an_event_ends_with_an_empty_line_of_any_kind(ending):
    data = b"data: one" + ending * 2 + b"data: two" + ending * 2
    assert parse(data) == [b"one", b"two"]
    assert parse(*(bytes([b]) for b in data)) == [b"one", b"two"]


def test_event_is_emitted_with_its_last_byte():
    parser = SseParser()
    assert parser.feed(b"data: one\r\n") == []
    assert parser.feed(b"\r") == [b"one"]
    assert parser.feed(b"\ndata: two\r\n\r\n") == [b"two"]


def test_lines_of_data_are_joined_with_a_line_feed():
    assert parse(b"data: {\r\ndata:  1\r\ndata\r\ndata:}\r\n\r\n") == [b"{\n 1\n\n}"]


def test_only_the_first_space_after_the_colon_is_dropped():
    assert parse(b"data:a\n\ndata: b\n\ndata:  c\n\n") == [b"a", b"b", b" c"]


def test_comments_and_other_fields_are_skipped():
    assert parse(b": ping\n\nevent: message\nid: 1\nretry: 5\ndatabase: x\ndata: a\n: more\n\n:\n\n") == [b"a"]


def test_an_event_cut_off_by_the_end_is_never_given_out():
    assert parse(b"data: a\n\ndata: b\n") == [b"a"]


@pytest.mark.parametrize(
    ("stream", "last"),
    [
        (b"data: a\n\ndata: b\n", b"b"),
        (b"data: a\n\ndata: b", b"b"),
        (b"data: a\n\ndata: b\ndata: c", b"b\nc"),
        (b"data: a\n\n", None),
        (b"data: a\n\ndat", None),
        (b"data: a\n\ndata:", b""),
        (b"", None),
    ],
)
def test_the_end_gives_out_what_no_blank_line_ended(stream, last):
    parser = SseParser()
    parser.feed(stream)
    assert parser.end() == last
    assert parser.end() is None


def test_byte_order_mark_is_skipped():
    assert parse(b"\xef", b"\xbb\xbfdata: a\n\n") == [b"a"]
    assert parse(b"data: a\n\n\xef\xbb\xbfdata: b\n\n") == [b"a"]


def test_unicode_line_separators_are_data():
    text = "a\u2028b\u0085c\x0bd\x0ce"
    assert parse(f"data: {text}\n\n".encode()) == [text.encode()]


STREAMS = st.lists(
    st.sampled_from(
        [b"data: ", b"data:", b"data", b": c", b"x", b"\xf0\x9f\x8c\x8d", b"\r\n", b"\r", b"\n", b"\xef\xbb\xbf"]
    ),
    max_size=30,
).map(b"".join)


@given(STREAMS, st.data())
def test_every_way_of_splitting_the_bytes_gives_the_same_events(stream, data):
    whole = parse(stream)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    pieces = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    assert parse(*pieces) == whole
    assert parse(*(bytes([b]) for b in stream)) == whole


@given(st.lists(st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"]), min_size=1), max_size=6))
def test_what_was_framed_comes_out_as_it_was(texts):
    stream = b"".join(b"data: " + text.encode() + b"\r\n\r\n" for text in texts)
    assert parse(stream) == [text.encode() for text in texts]


@pytest.mark.parametrize(
    "piece",
    [b"x" * 100, b"data: " + b"x" * 100 + b"\n", b"data:\n", b": comment"],
    ids=["line", "data", "empty", "comment"],
)
def test_too_large_event_is_rejected_at_the_bound(piece):
    parser = SseParser(max_event_bytes=1_000)
    with pytest.raises(EventTooLarge, match="1000 bytes"):
        for _ in range(1_001):
            parser.feed(piece)


def test_the_bound_is_for_each_event_and_not_for_the_stream():
    parser = SseParser(max_event_bytes=100)
    assert sum(len(parser.feed(b"data: " + b"x" * 90 + b"\n\n")) for _ in range(100)) == 100


def test_a_long_event_costs_its_length_and_not_its_square():
    parser = SseParser()
    tracemalloc.start()
    parser.feed(b"data: ")
    for _ in range(200):
        parser.feed(b"x" * 50_000)
    (event,) = parser.feed(b"\r\n\r\n")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(event) == 10_000_000
    assert peak < 45_000_000
