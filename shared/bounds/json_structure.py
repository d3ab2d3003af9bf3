"""How many values and field names a JSON text has, before it is parsed. Pure.

Parsing costs time and memory by the value and not by the byte: 31 MB of `[],` are ten million lists, which take 8 s and
700 MB, and 31 MB of prose are one text. Commas, colons and opening brackets outside of texts bound the number of values
and names from above; within texts they count nothing, so that prose and base64 have no bound but their bytes.
"""

from __future__ import annotations

MAX_VALUES = 500_000
"""Values and field names of one JSON text. Parsed, they take at most 0.1 s of CPU and 60 MB (objects with one field each, or
names that all differ), and a conversation of 50,000 turns or 100 embeddings of 3,072 numbers has room."""
_PIECE_BYTES = 256 * 1024
_STRUCTURE = b",:[{"


class TooManyValues(ValueError):
    """The text has more than `limit` values and field names."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"more than {limit:,} values and field names")
        self.limit = limit


class ValueCounter:
    """Counts over the pieces of one text, or over several texts."""

    __slots__ = ("_escaped", "_in_text", "_quotes", "count", "limit")

    def __init__(self, limit: int = MAX_VALUES) -> None:
        self.limit = limit
        self.count = 0
        self._in_text = False
        self._escaped = False
        self._quotes = 0

    def feed(self, text: bytes) -> None:
        """Raises TooManyValues as soon as the count exceeds the limit. `text` may end anywhere."""
        for at in range(0, len(text), _PIECE_BYTES):
            self._count(text[at : at + _PIECE_BYTES])

    def _count(self, piece: bytes) -> None:
        if self._escaped:
            piece, self._escaped = piece[1:], False
        if b"\\" in piece:
            # A backslash that ends the piece escapes the next one's first character, unless it is escaped itself.
            if (len(piece) - len(piece.rstrip(b"\\"))) % 2:
                self._escaped, piece = True, piece[:-1]
            piece = piece.replace(b"\\\\", b"").replace(b'\\"', b"")
        quotes = piece.count(b'"')
        self._quotes += quotes
        if quotes and self._quotes <= 2 * self.limit + 2:
            outside = b"".join(piece.split(b'"')[self._in_text :: 2])
            self._in_text ^= bool(quotes % 2)
        elif quotes:
            # Each text is a value or a name. What has texts side by side is not JSON, and is not worth a look.
            raise TooManyValues(self.limit)
        elif self._in_text:
            return
        else:
            outside = piece
        self.count += len(outside) - len(outside.translate(None, _STRUCTURE))
        if self.count > self.limit:
            raise TooManyValues(self.limit)


def check_values(text: bytes, limit: int = MAX_VALUES) -> None:
    """Raises TooManyValues. A text of fewer bytes than `limit` needs no look."""
    if len(text) > limit:
        ValueCounter(limit).feed(text)
