"""Counts the values and field names of a JSON text before it is parsed. Pure.

The time and memory of parsing depend on the number of values, not of bytes: 31 MB of `[],` are ten million lists, which take
8 s and 700 MB; 31 MB of prose are one string. The number of commas, colons and opening brackets outside of strings is an
upper bound. Characters inside strings do not count, so that prose and base64 are limited only by their size.
"""

from __future__ import annotations

MAX_VALUES = 500_000
"""Maximum values and field names of one JSON text. Parsing them takes at most 0.1 s of CPU and 60 MB (objects with one field
each, or unique names). A conversation of 50,000 turns fits, and so do 100 embeddings of 3,072 numbers."""
_PIECE_BYTES = 256 * 1024
_STRUCTURE = b",:[{"


class TooManyValues(ValueError):
    """The text has more than `limit` values and field names."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"more than {limit:,} values and field names")
        self.limit = limit


class ValueCounter:
    """Counts the values of one text in pieces, or of several texts together."""

    __slots__ = ("_escaped", "_in_text", "_quotes", "count", "limit")

    def __init__(self, limit: int = MAX_VALUES) -> None:
        self.limit = limit
        self.count = 0
        self._in_text = False
        self._escaped = False
        self._quotes = 0

    def feed(self, text: bytes) -> None:
        """Counts a piece, which may end anywhere. Raises TooManyValues as soon as the count exceeds the limit."""
        for at in range(0, len(text), _PIECE_BYTES):
            self._count(text[at : at + _PIECE_BYTES])

    def _count(self, piece: bytes) -> None:
        if self._escaped:
            piece, self._escaped = piece[1:], False
        if b"\\" in piece:
            # An unescaped backslash at the end of a piece escapes the first character of the next one.
            if (len(piece) - len(piece.rstrip(b"\\"))) % 2:
                self._escaped, piece = True, piece[:-1]
            piece = piece.replace(b"\\\\", b"").replace(b'\\"', b"")
        quotes = piece.count(b'"')
        self._quotes += quotes
        if quotes and self._quotes <= 2 * self.limit + 2:
            outside = b"".join(piece.split(b'"')[self._in_text :: 2])
            self._in_text ^= bool(quotes % 2)
        elif quotes:
            # Each string is a value or a name, so this many are too many, whatever is between them.
            raise TooManyValues(self.limit)
        elif self._in_text:
            return
        else:
            outside = piece
        self.count += len(outside) - len(outside.translate(None, _STRUCTURE))
        if self.count > self.limit:
            raise TooManyValues(self.limit)


def check_values(text: bytes, limit: int = MAX_VALUES) -> None:
    """Raises TooManyValues. A text of at most `limit` bytes is not scanned, because it cannot exceed the limit."""
    if len(text) > limit:
        ValueCounter(limit).feed(text)
