"""The proxy of tests/browser that cuts a stream: where it cuts."""

from tests.support.cutting_proxy import end_of_event

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"


def test_it_counts_events_of_a_stream() -> None:
    received = HEAD + b"data: a\n\ndata: b\n\ndata: c"
    assert received[: end_of_event(received, 2)].endswith(b"b\n\n")
    assert end_of_event(received, 3) is None


def test_other_answers_have_no_events() -> None:
    assert end_of_event(b"HTTP/1.1 200 OK\r\n\r\na\n\nb\n\n", 1) is None
