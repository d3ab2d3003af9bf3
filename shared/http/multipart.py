"""multipart/form-data (RFC 7578) as a push parser: bytes in, parts and their content out, within bounds. Pure."""

from __future__ import annotations

import re
from typing import NamedTuple

from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import MultipartParser, MultipartState, parse_options_header

from shared.errors import BadRequest, UnsupportedMediaType

MAX_PARTS = 128
MAX_HEADERS = 8
"""Headers of one part. Clients send two: Content-Disposition and Content-Type."""
MAX_HEADER_BYTES = 4_096
MAX_NAME_CHARS = 200
MAX_FILENAME_CHARS = 255
MAX_BOUNDARY_BYTES = 70
"""RFC 2046, 5.1.1."""
FORM = "multipart/form-data"
MAX_PADDING_BYTES = 256
"""Spaces after a boundary, which RFC 2046 allows and the parser reads one by one: 0.5 s for each megabyte."""
_PIECE_BYTES = 8 * 1024
"""So many bytes are parsed before the spaces are counted."""
_PLAIN_ENCODINGS = {"", "binary", "8bit", "7bit"}
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_SHOWN_CHARS = 60


class Part(NamedTuple):
    """The head of a part. Its content follows as bytes."""

    name: str
    filename: str | None
    """None for a text field."""
    content_type: str
    """As the client declares it, without parameters; "" if it does not."""


def boundary_of(content_type: str) -> bytes:
    """The boundary that a Content-Type header names. Raises UnsupportedMediaType and BadRequest."""
    media_type, parameters = parse_options_header(content_type)
    if media_type.decode("latin-1") != FORM:
        given = content_type.partition(";")[0].strip()[:100]
        sent = f"is sent as {given}" if given else "has no Content-Type"
        raise UnsupportedMediaType(f"The body {sent}; this endpoint reads a form: send {FORM} (curl: -F 'file=@path').")
    boundary = parameters.get(b"boundary", b"")
    if not 0 < len(boundary) <= MAX_BOUNDARY_BYTES:
        raise BadRequest(
            f"Content-Type has no boundary of 1 to {MAX_BOUNDARY_BYTES} characters, which separates the parts of a form. "
            "Let the HTTP client set this header.",
            field="content-type",
        )
    return boundary


class Multipart:
    """Reads one form. After an error, it must not be used again."""

    def __init__(self, boundary: bytes) -> None:
        self._found: list[Part | bytes] = []
        self._parts = 0
        self._ended = False
        self._padding_bytes = 0
        self._headers: dict[str, bytes] = {}
        self._name, self._value = b"", b""
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._part_begins,
                "on_part_data": lambda data, start, end: self._found.append(data[start:end]),
                "on_header_begin": self._header_begins,
                "on_header_field": self._header_name,
                "on_header_value": self._header_value,
                "on_header_end": self._header_ends,
                "on_headers_finished": self._content_begins,
                "on_end": self._form_ends,
            },
            max_header_count=MAX_HEADERS,
            max_header_size=MAX_HEADER_BYTES,
        )

    def feed(self, data: bytes) -> list[Part | bytes]:
        """What `data` completes: the head of each part that begins, and the bytes of its content. Raises BadRequest."""
        for at in range(0, len(data), _PIECE_BYTES):
            piece = data[at : at + _PIECE_BYTES] if len(data) > _PIECE_BYTES else data
            try:
                self._parser.write(piece)
            except MultipartParseError as error:
                raise BadRequest(self._fault(str(error))) from None
            self._check_padding(piece)
        found, self._found = self._found, []
        return found

    def close(self) -> None:
        """Raises BadRequest if the form is not complete."""
        if not self._ended:
            raise BadRequest(
                "The form is incomplete: the boundary that ends it is missing. Send the whole body, with the boundary of its "
                "Content-Type."
            )

    def _check_padding(self, piece: bytes) -> None:
        if self._parser.state != MultipartState.BOUNDARY_PADDING:
            self._padding_bytes = 0
            return
        self._padding_bytes += len(piece) - len(piece.rstrip(b" \t"))
        if self._padding_bytes > MAX_PADDING_BYTES:
            raise BadRequest(f"A boundary of the form is followed by more than {MAX_PADDING_BYTES} spaces; send none.")

    def _fault(self, why: str) -> str:
        if not self._parts:
            return "The body does not begin with the boundary that its Content-Type names. Let the HTTP client set this header."
        if why.startswith("Maximum header"):
            return (
                f"Part {self._parts} of the form has more than {MAX_HEADERS} headers, or one of more than {MAX_HEADER_BYTES} "
                "bytes. Send Content-Disposition and Content-Type only."
            )
        return (
            f"Part {self._parts} of the form has invalid headers, or does not end with the boundary and a line break."
        )

    def _part_begins(self) -> None:
        self._parts += 1
        if self._parts > MAX_PARTS:
            raise BadRequest(
                f"The form has more than {MAX_PARTS} parts; send fewer.", details={"limit_parts": MAX_PARTS}
            )
        self._headers = {}

    def _header_begins(self) -> None:
        self._name, self._value = b"", b""

    def _header_name(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header_ends(self) -> None:
        self._headers.setdefault(self._name.decode("latin-1").lower(), self._value)

    def _content_begins(self) -> None:
        self._found.append(self._part())

    def _form_ends(self) -> None:
        self._ended = True

    def _part(self) -> Part:
        kind, parameters = parse_options_header(self._header("content-disposition"))
        name = _text(parameters.get(b"name", b""))
        if kind != b"form-data" or not name or len(name) > MAX_NAME_CHARS:
            raise BadRequest(
                f"Part {self._parts} of the form has no name of 1 to {MAX_NAME_CHARS} characters; send "
                'Content-Disposition: form-data; name="...".'
            )
        if self._header("content-transfer-encoding").strip().lower() not in _PLAIN_ENCODINGS:
            raise BadRequest(
                f"{shown(name)} has a Content-Transfer-Encoding, which forms do not use (RFC 7578); send the bytes as they are.",
                field=shown(name),
            )
        filename = parameters.get(b"filename")
        content_type = self._header("content-type").partition(";")[0].strip().lower()
        return Part(name, None if filename is None else file_name(_text(filename), name), content_type)

    def _header(self, name: str) -> str:
        return self._headers.get(name, b"").decode("latin-1")


def shown(name: str) -> str:
    """A field's name as an error may show it."""
    return _CONTROL.sub("?", name[:_SHOWN_CHARS])


def _text(value: bytes) -> str:
    """Browsers and SDKs write names as UTF-8; a name in another charset keeps its ASCII characters."""
    return value.decode("utf-8", "replace")


def file_name(given: str, name: str) -> str:
    """The last segment of a path, without control characters: a client may send its whole path. Raises BadRequest that names
    the field `name`."""
    last = _CONTROL.sub("", given.replace("\\", "/").rpartition("/")[2]).strip()
    if len(last) > MAX_FILENAME_CHARS:
        raise BadRequest(
            f"{shown(name)} has a file name of {len(last)} characters; the maximum is {MAX_FILENAME_CHARS}. Shorten it.",
            field=shown(name),
        )
    return "" if last in (".", "..") else last
