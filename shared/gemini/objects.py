"""Finds JSON objects incrementally: in a JSON array, one per line, one after the other, or a single one. Pure."""

from __future__ import annotations

import re

from shared.gemini.sse import MAX_EVENT_BYTES, EventTooLarge

_STRUCTURE = re.compile(rb'["{}]')
_IN_STRING = re.compile(rb'["\\]')


class ObjectScanner:
    """Splits bytes into whole objects by their braces, however they are cut into chunks. Bytes between objects (brackets,
    commas, white space, a stray tail) are skipped. The parser decides whether an object is valid JSON."""

    __slots__ = ("_depth", "_escaped", "_in_string", "_max_bytes", "_pieces", "_size_bytes")

    def __init__(self, max_object_bytes: int = MAX_EVENT_BYTES) -> None:
        self._max_bytes = max_object_bytes
        self._pieces: list[bytes] = []
        self._size_bytes = 0
        self._depth = 0
        self._in_string = self._escaped = False

    @property
    def held(self) -> bytes:
        """The received part of an object that has not ended; b"" if there is none."""
        return b"".join(self._pieces)

    def feed(self, chunk: bytes) -> list[bytes]:
        """The objects that `chunk` completes, in order. Raises EventTooLarge."""
        objects: list[bytes] = []
        at = begin = 0
        while True:
            if self._escaped:
                if at >= len(chunk):
                    break
                self._escaped = False
                at += 1
            match = (_IN_STRING if self._in_string else _STRUCTURE).search(chunk, at)
            if match is None:
                break
            at, mark = match.end(), match[0]
            if mark == b"\\":
                self._escaped = True
            elif mark == b'"':
                # Outside of an object, a quotation mark is part of a stray text.
                self._in_string = not self._in_string and self._depth > 0
            elif mark == b"{":
                if self._depth == 0:
                    begin = match.start()
                self._depth += 1
            elif self._depth > 0:
                self._depth -= 1
                if self._depth == 0:
                    self._hold(chunk[begin:at])
                    objects.append(b"".join(self._pieces))
                    self._pieces.clear()
                    self._size_bytes = 0
        if self._depth > 0:
            self._hold(chunk[begin:])
        return objects

    def _hold(self, piece: bytes) -> None:
        self._pieces.append(piece)
        self._size_bytes += len(piece)
        if self._size_bytes > self._max_bytes:
            raise EventTooLarge(f"An object of the answer is larger than {self._max_bytes} bytes.")
