"""Decodes content codings and character encodings of an answer while its bytes arrive. Pure.

Answers are requested uncompressed (`Accept-Encoding: identity`), yet proxies compress them, omit or misspell the header, or
keep it after decompressing. So the bytes decide where possible: a body that cannot be decoded at its start is passed on
unchanged.
"""

from __future__ import annotations

import codecs
import json
import zlib
from typing import Protocol

_GZIP_MAGIC = b"\x1f\x8b"
_ZLIB_CODINGS = frozenset({"gzip", "x-gzip", "deflate"})
_BROTLI_STEP_BYTES = 1024 * 1024
_MAX_CODINGS = 4
_TOO_LONG = "Decompressed, it is longer than an answer may be."
_MIN_SNIFF_BYTES = 4
"""`json.detect_encoding` needs this many bytes to distinguish UTF-8, UTF-16 and UTF-32."""


class Undecodable(Exception):
    """The bytes are not valid in the coding any more, after a part of them was decoded."""


class TooLong(Exception):
    """The decoded bytes are longer than the bound."""


class Coding(Protocol):
    def feed(self, chunk: bytes, max_bytes: int) -> bytes:
        """The bytes that `chunk` adds. Raises Undecodable, and TooLong beyond `max_bytes`."""
        ...


class _Zlib:
    """gzip with one or several members, zlib, or (`raw`) deflate without a header, whichever the first bytes show."""

    def __init__(self, *, raw: bool) -> None:
        self._raw = raw
        self._inflate: zlib._Decompress | None = None
        self._held = b""
        self._finished = False

    def feed(self, chunk: bytes, max_bytes: int) -> bytes:
        data, self._held = self._held + chunk, b""
        pieces: list[bytes] = []
        while data and not self._finished:
            if self._inflate is None:
                if len(data) < 2:
                    self._held = data
                    break
                self._inflate = zlib.decompressobj(_window_bits(data, raw=self._raw))
            piece = self._inflate.decompress(data, max_bytes + 1)
            max_bytes -= len(piece)
            if max_bytes < 0:
                raise TooLong(_TOO_LONG)
            pieces.append(piece)
            data = self._inflate.unused_data
            if self._inflate.eof:
                self._inflate = None
                # Another member follows, or a stray tail.
                self._finished = not data.startswith(_GZIP_MAGIC)
        return b"".join(pieces)


def _window_bits(head: bytes, *, raw: bool) -> int:
    if head.startswith(_GZIP_MAGIC):
        return zlib.MAX_WBITS | 16
    if head[0] & 0x0F == 8 and (head[0] << 8 | head[1]) % 31 == 0:
        return zlib.MAX_WBITS
    if not raw or (head[0] in b"{[" and head[1] < 0x80):
        # A deflate stream of text never starts like JSON.
        raise zlib.error("no header")
    return -zlib.MAX_WBITS


class _Brotli:
    def __init__(self) -> None:
        # Imported on demand: almost no answer is compressed, and every import costs cold start time.
        import brotli

        self._error: type[Exception] = brotli.error
        self._decompressor = brotli.Decompressor()

    def feed(self, chunk: bytes, max_bytes: int) -> bytes:
        if self._decompressor.is_finished():
            return b""
        pieces: list[bytes] = []
        while True:
            try:
                piece = self._decompressor.process(chunk, output_buffer_limit=_BROTLI_STEP_BYTES)
            except self._error as error:
                raise zlib.error(str(error)) from None
            max_bytes -= len(piece)
            if max_bytes < 0:
                raise TooLong(_TOO_LONG)
            pieces.append(piece)
            if self._decompressor.is_finished() or self._decompressor.can_accept_more_data():
                return b"".join(pieces)
            chunk = b""


class _Lenient:
    """A coding that passes the bytes on unchanged if the first bytes are not of this coding."""

    def __init__(self, coding: Coding) -> None:
        self._coding: Coding | None = coding
        self._unproven: list[bytes] | None = []

    def feed(self, chunk: bytes, max_bytes: int) -> bytes:
        if self._coding is None:
            return chunk
        if self._unproven is not None:
            self._unproven.append(chunk)
        try:
            decoded = self._coding.feed(chunk, max_bytes)
        except zlib.error as error:
            if self._unproven is None:
                raise Undecodable(str(error)) from None
            self._coding = None
            return b"".join(self._unproven)
        if decoded:
            self._unproven = None
        return decoded


class _Characters:
    """Converts UTF-8, UTF-16 or UTF-32 to UTF-8, without a byte order mark."""

    def __init__(self) -> None:
        self._head: bytes | None = b""
        self._decoder: codecs.IncrementalDecoder | None = None

    def feed(self, chunk: bytes) -> bytes:
        if self._head is not None:
            head = self._head + chunk
            if len(head) < _MIN_SNIFF_BYTES:
                self._head = head
                return b""
            self._head = None
            return self._start(head)
        return chunk if self._decoder is None else _utf8(self._decoder.decode(chunk))

    def end(self) -> bytes:
        """The bytes that were held back; an incomplete character is dropped."""
        head, self._head = self._head, None
        return self._start(head) if head else b""

    def _start(self, head: bytes) -> bytes:
        name = json.detect_encoding(head)
        if name.startswith("utf-8"):
            return head.removeprefix(codecs.BOM_UTF8)
        self._decoder = codecs.getincrementaldecoder(name)("surrogatepass" if "16" in name else "replace")
        return _utf8(self._decoder.decode(head))


def _utf8(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


class Decoder:
    """Converts the bytes of an answer to plain UTF-8, chunk by chunk; at most `max_bytes`."""

    def __init__(self, content_encoding: str, max_bytes: int) -> None:
        """`content_encoding` is the header, "" if there is none. An unknown coding is ignored: some proxies write a charset
        there. The error of an answer that cannot be read names it."""
        names = [name.strip().lower() for name in content_encoding.split(",")][:_MAX_CODINGS]
        self._codings = [made for name in reversed(names) if (made := _coding(name)) is not None]
        self._characters = _Characters()
        self._left_bytes = max_bytes
        self._proven = False

    def feed(self, chunk: bytes) -> bytes:
        """Raises Undecodable and TooLong."""
        for coding in self._codings:
            chunk = coding.feed(chunk, self._left_bytes)
        while not self._proven and chunk:
            # Text never starts with gzip's first byte.
            if chunk[0] != _GZIP_MAGIC[0] or len(self._codings) >= 2 * _MAX_CODINGS:
                self._proven = True
            else:
                self._codings.append(_Lenient(_Zlib(raw=False)))
                chunk = self._codings[-1].feed(chunk, self._left_bytes)
        self._left_bytes -= len(chunk)
        if self._left_bytes < 0:
            raise TooLong(_TOO_LONG)
        return self._characters.feed(chunk)

    def end(self) -> bytes:
        """The bytes that were held back in case more would arrive."""
        return self._characters.end()


def _coding(name: str) -> Coding | None:
    if name in _ZLIB_CODINGS:
        return _Lenient(_Zlib(raw=name == "deflate"))
    return _Lenient(_Brotli()) if name == "br" else None
