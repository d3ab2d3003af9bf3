"""Server-sent events, incrementally: bytes in, the data of each complete event out. Pure.

Follows the event stream grammar of the HTML standard (9.2.6) as far as Gemini uses it: fields other than `data` are
skipped. One deviation: the standard drops a last event without a blank line after it; here `end` returns it, because some
proxies omit that line, and the event contains the end of an answer that was paid for.
"""

from __future__ import annotations

MAX_EVENT_BYTES = 32 * 1024 * 1024
"""One event can contain a whole image in base64."""

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class EventTooLarge(Exception):
    """One event, or one line, is longer than the bound. The rest of the stream cannot be read."""


class SseParser:
    """Lines may end in CRLF, LF or CR. Chunks may be cut anywhere, even inside a CRLF or a UTF-8 character."""

    __slots__ = ("_data", "_data_bytes", "_first_line", "_line", "_line_bytes", "_max_bytes", "_skip_lf")

    def __init__(self, max_event_bytes: int = MAX_EVENT_BYTES) -> None:
        self._max_bytes = max_event_bytes
        # Pieces of an unfinished line, joined once: a long line then costs linear time.
        self._line: list[bytes] = []
        self._line_bytes = 0
        self._data: list[bytes] = []
        self._data_bytes = 0
        self._skip_lf = False
        self._first_line = True

    def feed(self, chunk: bytes) -> list[bytes]:
        """The data of the events that `chunk` completes with their blank line, in order.

        Raises EventTooLarge."""
        if not chunk:
            return []
        if self._skip_lf and chunk[0] == 10:
            # The LF of a CRLF whose CR ended the previous chunk, and with it the line.
            chunk = chunk[1:]
        self._skip_lf = chunk.endswith(b"\r")
        events: list[bytes] = []
        for line in chunk.splitlines(keepends=True):
            ending = 2 if line.endswith(b"\r\n") else 1 if line[-1] in b"\r\n" else 0
            if not ending:
                self._hold(line)
                continue
            line = line[:-ending]
            if self._line:
                self._hold(line)
                line = b"".join(self._line)
                self._line.clear()
                self._line_bytes = 0
            self._take(line, events)
        return events

    def end(self) -> bytes | None:
        """The data of a last event without a blank line, or None. It may be cut: the caller decides by its content."""
        events: list[bytes] = []
        if self._line:
            line = b"".join(self._line)
            self._line.clear()
            self._take(line, events)
        self._take(b"", events)
        return events[0] if events else None

    def _hold(self, piece: bytes) -> None:
        self._line.append(piece)
        self._line_bytes += len(piece)
        self._check(self._line_bytes)

    def _take(self, line: bytes, events: list[bytes]) -> None:
        if self._first_line:
            self._first_line = False
            line = line.removeprefix(_BYTE_ORDER_MARK)
        if not line:
            if self._data:
                events.append(self._data[0] if len(self._data) == 1 else b"\n".join(self._data))
                self._data.clear()
                self._data_bytes = 0
        elif line.startswith(b"data:") or line == b"data":
            value = line[6:] if line[5:6] == b" " else line[5:]
            self._data.append(value)
            self._data_bytes += len(value) + 1
            self._check(self._data_bytes)

    def _check(self, size_bytes: int) -> None:
        if size_bytes > self._max_bytes:
            raise EventTooLarge(f"An event of the stream is larger than {self._max_bytes} bytes.")
